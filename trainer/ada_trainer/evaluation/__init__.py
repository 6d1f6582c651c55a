"""Scores on held-out tasks by number of trials (AdA, section "Evaluation"); the program is `program.main`."""
