"""The simulated world: state arrays (`types`), small systems over them, and one schedule (`step`)."""
