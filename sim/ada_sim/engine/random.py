"""Counter-based random numbers: a number is a function of (seed, counter), so worlds draw nothing from one another."""

import math

import numpy as np
from numba import njit


@njit(error_model="numpy")
def mix(value):  # type: ignore[no-untyped-def]
    """Return the splitmix64 hash of an uint64 (Steele, Lea and Flood 2014)."""
    z = value + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(error_model="numpy")
def draw_yaw(seed, trial, player):  # type: ignore[no-untyped-def]
    """Return the yaw, -pi to pi, with which a player begins a trial."""
    bits = mix(mix(seed) ^ (np.uint64(trial) * np.uint64(2) + np.uint64(player)))
    return (np.float64(bits >> np.uint64(11)) / 9007199254740992.0 * 2.0 - 1.0) * math.pi
