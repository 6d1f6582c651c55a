"""Pictures of a world: what a player sees, and a view from above for people. Pure functions of the state."""
