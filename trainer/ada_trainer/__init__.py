"""The agent, how it learns, the elastic training program, evaluation and report."""
