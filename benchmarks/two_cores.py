"""What a second core of this machine adds to work whose threads share nothing: the limit of every figure on two cores.

The cores of a virtual machine may be two threads of one real core, or lent to others as well; then no program doubles.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numba import njit

from benchmarks.timing import rate_of

ROUNDS = 1_000_000
BYTES_A_THREAD = 64 << 20  # more than the caches hold


@njit(nogil=True)  # type: ignore[misc]
def arithmetic(rounds: int) -> int:
    """Mix four numbers that don't depend on one another, in registers."""
    a, b, c, d = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    left, right = np.uint64(13), np.uint64(7)
    for _ in range(rounds):
        a ^= a << left
        b ^= b << left
        c ^= c << left
        d ^= d << left
        a ^= a >> right
        b ^= b >> right
        c ^= c >> right
        d ^= d >> right
    return a ^ b ^ c ^ d


@njit(nogil=True)  # type: ignore[misc]
def sweep(memory: np.ndarray) -> int:
    """Read one number of each cache line."""
    total = np.int64(0)
    for n in range(0, len(memory), 8):
        total += memory[n]
    return total


@dataclass(frozen=True)
class Loop:
    """Work that a number of threads do side by side, each for itself."""

    what: str
    work: Callable[[int], object]  # of the thread with this index

    def rate(self, threads: int, seconds: float) -> float:
        """Return how often a second it is done, by all threads together."""
        with ThreadPoolExecutor(threads) as pool:

            def together() -> None:
                list(pool.map(self.work, range(threads)))

            return rate_of(together, threads, seconds)


def loops() -> list[Loop]:
    """Return a loop that needs nothing but the core, and one that needs nothing but memory; compiled."""
    memory = np.ones((2, BYTES_A_THREAD // 8), np.int64)
    found = [
        Loop("loops of arithmetic in registers", lambda _: arithmetic(ROUNDS)),
        Loop("sweeps over memory", lambda thread: sweep(memory[thread])),
    ]
    for loop in found:
        loop.work(0)
    return found
