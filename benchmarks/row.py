"""One measured comparison, and how it is timed."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """`ratio` is ours against the yardstick, bigger is better; `bar` is the least ratio we ask of ourselves, if any."""

    part: str
    what: str
    ours: float
    yardstick: float
    yardstick_name: str
    ratio: float
    bar: float | None

    def line(self) -> str:
        """Return the row as one JSON object on one line."""
        return json.dumps({key: _short(value) for key, value in asdict(self).items()})


def _short(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def rate_row(part: str, what: str, ours: float, yardstick: float, yardstick_name: str, bar: float | None = None) -> Row:
    """Compare two rates (more is better)."""
    return Row(part, what, ours, yardstick, yardstick_name, ours / yardstick, bar)


def time_row(part: str, what: str, ours: float, yardstick: float, yardstick_name: str, bar: float | None = None) -> Row:
    """Compare two durations in seconds (less is better)."""
    return Row(part, what, ours, yardstick, yardstick_name, yardstick / ours, bar)


def median_rate(work: Callable[[], object], amount: float, repeats: int = 5) -> float:
    """Return `amount` a second of the median of `repeats` runs of `work`, after one that is not counted."""
    return amount / median_seconds(work, repeats)


def median_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the median seconds of `repeats` runs of `work`, after one that is not counted."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[repeats // 2]
