"""What a task is, how it is written as text, and how it is generated."""
