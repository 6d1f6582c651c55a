"""What every peer script does: say that it is warm, then measure when asked. See benchmarks/peer.py."""

import sys
import time
from collections.abc import Callable, Mapping


def serve(measures: Mapping[str, Callable[[], float]]) -> None:
    """Answer measure after measure until standard input ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        name = line.strip()
        print(name, measures[name](), flush=True)


def rate(work: Callable[[], object], amount: float, seconds: float) -> float:
    """Return `amount` for each call of `work`, a second, over as many calls as fill `seconds`."""
    calls, start = 0, time.perf_counter()
    while True:
        work()
        calls += 1
        spent = time.perf_counter() - start
        if spent >= seconds:
            return calls * amount / spent
