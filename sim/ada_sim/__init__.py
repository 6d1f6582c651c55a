"""The task space and its simulator: worlds, games, physics, observations, rendering, simulator server and client."""
