"""Learning curves as numbers: smoothed, and when one reached a score."""

from collections.abc import Sequence

LEAST_POINTS = 5
SMOOTHED_SHARE = 0.1  # of a curve's points, behind each smoothed one


def smoothed(frames: Sequence[float], scores: Sequence[float]) -> list[tuple[float, float]]:
    """Return (frames, mean of the score over the points up to there), each over a tenth of the curve, at least 5."""
    window = max(LEAST_POINTS, round(len(scores) * SMOOTHED_SHARE))
    return [(frames[i], sum(scores[i - window + 1 : i + 1]) / window) for i in range(window - 1, len(scores))]


def frames_to_reach(curve: Sequence[tuple[float, float]], score: float) -> float | None:
    """Return the frames at which a smoothed curve first is at `score` or above, or None if it never is."""
    return next((frames for frames, value in curve if value >= score), None)
