"""Summaries over tasks with bootstrap intervals. Tasks are the unit of resampling, as they are the population."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate and its bootstrap percentile interval at CONFIDENCE."""

    value: float
    low: float
    high: float

    def excludes_zero(self) -> bool:
        """Say whether the whole interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Summary:
    """What is reported of the scores of one agent at one number of trials."""

    median: Interval
    mean: Interval
    percentile20: Interval


def bootstrap(scores: np.ndarray, statistic: Callable[..., np.ndarray], seed: int = 0) -> Interval:
    """Return `statistic` of `scores` [tasks] with its percentile bootstrap interval.

    `statistic` reduces the last axis, as `np.mean` does with `axis=-1`.
    """
    if scores.ndim != 1 or scores.size == 0:
        raise ValueError(f"scores has shape {scores.shape}; expected [tasks] with at least one task")
    rng = np.random.default_rng(seed)
    resamples = scores[rng.integers(0, scores.size, (RESAMPLES, scores.size))]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(statistic(resamples, axis=-1), [tail, 1 - tail])
    return Interval(float(statistic(scores, axis=-1)), float(low), float(high))


def percentile20(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return the 20th percentile along `axis`."""
    return np.asarray(np.quantile(scores, 0.2, axis=axis))


def summarise(scores: np.ndarray) -> Summary:
    """Summarise `scores` [tasks]."""
    return Summary(bootstrap(scores, np.median), bootstrap(scores, np.mean), bootstrap(scores, percentile20))


def paired_difference(scores: np.ndarray, baseline: np.ndarray) -> Interval:
    """Return the mean of `scores - baseline`, both [tasks] over the same tasks in the same order."""
    if scores.shape != baseline.shape:
        raise ValueError(f"scores {scores.shape} and baseline {baseline.shape} must be over the same tasks")
    return bootstrap(scores - baseline, np.mean)
