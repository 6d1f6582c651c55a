"""One measured comparison."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """`ratio` is ours against the yardstick, bigger is better; `bar` is the least ratio we ask of ourselves, if any.

    `yardstick` and `ratio` are None where the yardstick could not be had on this machine.
    """

    part: str
    what: str  # with the unit of `ours` and `yardstick`
    ours: float
    yardstick: float | None
    yardstick_name: str
    ratio: float | None
    bar: float | None

    def line(self) -> str:
        """Return the row as one JSON object on one line."""
        return json.dumps({key: _short(value) for key, value in asdict(self).items()})


def _short(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def rate_row(
    part: str, what: str, ours: float, yardstick: float | None, yardstick_name: str, bar: float | None = None
) -> Row:
    """Compare two rates (more is better)."""
    return Row(part, what, ours, yardstick, yardstick_name, ours / yardstick if yardstick else None, bar)


def cost_row(
    part: str, what: str, ours: float, yardstick: float | None, yardstick_name: str, bar: float | None = None
) -> Row:
    """Compare two durations or sizes (less is better)."""
    return Row(part, what, ours, yardstick, yardstick_name, None if yardstick is None else yardstick / ours, bar)
