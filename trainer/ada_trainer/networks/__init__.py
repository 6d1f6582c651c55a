"""The agent's network: encoders, memories, heads."""
