"""The task space behind other libraries' interfaces; each needs its library (extra `adapters`)."""
