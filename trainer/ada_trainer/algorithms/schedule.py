"""The learning rate as a function of progress, never of updates or workers: an elastic group changes both."""


def learning_rate(initial: float, final_share: float, progress: float) -> float:
    """Return the rate at `progress` (0 to 1 of the stage's frames): falling in a line, held at `final_share` of it."""
    return initial * max(final_share, 1.0 - progress)
