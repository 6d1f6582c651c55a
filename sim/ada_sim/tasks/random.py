"""Counter-based random numbers: draw n of a stream is a hash of (seed, stream, number) and n, in any process.

SplitMix64 (Steele, Lea and Flood, 2014): the state counts in steps of the golden ratio, the output is its hash.
Kernels carry the state in a one-element uint64 array, so that drawing advances it.
"""

import numpy as np
from numba import njit

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S11 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(11)
_MASK = 2**64 - 1


@njit(cache=True)
def mix(z):  # type: ignore[no-untyped-def]
    """Return the hash of a uint64."""
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@njit(cache=True)
def uniform(state):  # type: ignore[no-untyped-def]
    """Return the next number in [0, 1)."""
    state[0] += _GOLDEN
    return (mix(state[0]) >> _S11) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def below(state, n):  # type: ignore[no-untyped-def]
    """Return the next whole number from 0 to n - 1."""
    return int(uniform(state) * n)


def hash_of(*parts: int) -> int:
    """Return a uint64 that depends on every part and on their order."""
    state = 0
    for part in parts:
        z = (state + (part & _MASK) + int(_GOLDEN)) & _MASK
        z = (z ^ z >> 30) * int(_MIX_1) & _MASK
        z = (z ^ z >> 27) * int(_MIX_2) & _MASK
        state = z ^ z >> 31
    return state
