"""Players that know everything about their world: to show that tasks can be solved, and to watch it done."""
