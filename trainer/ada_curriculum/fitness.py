"""Fitness is normalised by trial index: (mean - mu_k) / sigma_k, with rolling statistics of each k (AdA, appendix D).

A mean over n results gives each weight 1/n; from WINDOW results on the weights fall off exponentially, at that rate.
Without it, tasks of few trials, where the agent is surprised most, would fill the archive.
"""

import math

import numpy as np

WINDOW = 1000  # results of one number of trials; not published
SMALLEST_DEVIATION = 1e-8
MAX_TRIALS = 48


class RollingStatistics:
    """Mean and standard deviation of recent values, apart for each number of trials k = 1 .. MAX_TRIALS."""

    def __init__(self) -> None:
        self._counts = [0] * (MAX_TRIALS + 1)
        self._means = [0.0] * (MAX_TRIALS + 1)
        self._variances = [0.0] * (MAX_TRIALS + 1)

    def add(self, trials: int, value: float) -> None:
        """Take in a value measured in the last of `trials` trials."""
        count = min(self._counts[trials] + 1, WINDOW)
        self._counts[trials] = count
        difference = value - self._means[trials]
        step = difference / count
        self._means[trials] += step
        # Var' = (1 - a)(Var + a d^2) with a = 1/count keeps the weighted variance exact.
        self._variances[trials] = (1.0 - 1.0 / count) * (self._variances[trials] + difference * step)

    def normalise(self, trials: int, value: float) -> float:
        """Return how many standard deviations a value lies above the mean of its k; 0 where k is unknown."""
        if self._counts[trials] == 0:
            return 0.0
        deviation = math.sqrt(self._variances[trials])
        return (value - self._means[trials]) / max(deviation, SMALLEST_DEVIATION)

    def to_array(self) -> np.ndarray:
        """Return count, mean and variance by k: float64 [3, MAX_TRIALS + 1]."""
        return np.array([self._counts, self._means, self._variances], np.float64)

    def load(self, array: np.ndarray) -> None:
        """Replace the statistics by a snapshot's. Raises ValueError if it makes no sense."""
        if array.shape != (3, MAX_TRIALS + 1) or not np.isfinite(array).all() or (array[[0, 2]] < 0).any():
            raise ValueError(f"rolling statistics of shape {array.shape} are not 3 finite rows of {MAX_TRIALS + 1}")
        self._counts = [int(count) for count in array[0]]
        self._means = [float(mean) for mean in array[1]]
        self._variances = [float(variance) for variance in array[2]]
