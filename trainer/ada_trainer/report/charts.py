"""Line charts as inline SVG: colours come from the page's style, so one drawing serves light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 46, 14, 10, 38
LABEL_GAP_PX = 14
LABEL_LETTER_PX = 7.4  # of the bold 12 px face, with some room


@dataclass(frozen=True)
class Series:
    """One line: `x` and `y` of equal length, a band between `low` and `high` if given, a colour of the style sheet."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    dashed: bool = False


@dataclass(frozen=True)
class Frame:
    """What a chart is drawn in: sizes in pixels of the drawing, labels, and fixed ends of the axes if wanted."""

    x_label: str
    y_label: str
    width: int = 640
    height: int = 300
    y_min: float | None = None
    y_max: float | None = None
    x_ticks: Sequence[float] | None = None
    direct_labels: bool = True
    markers: bool = False


def number(value: float) -> str:
    """Write a number as people do on axes: 1.5M, 20k, 0.25."""
    size = abs(value)
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.3g}"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers within [low, high]."""
    if high <= low:
        return [low]
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(magnitude * m for m in (1, 2, 2.5, 5, 10) if magnitude * m >= rough)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def spread_labels(wanted: Sequence[float], gap: float, lowest: float, highest: float) -> list[float]:
    """Move label positions apart by at least `gap`, staying as near to the wanted ones as the bounds allow."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed: list[float] = [0.0] * len(wanted)
    edge = lowest - gap
    for index in order:
        edge = placed[index] = max(wanted[index], edge + gap)
    edge = highest + gap
    for index in reversed(order):
        edge = placed[index] = min(placed[index], edge - gap)
    return placed


def line_chart(series: Sequence[Series], frame: Frame) -> str:
    """Draw `series` as one SVG element; an empty chart says that there is nothing to show."""
    drawn = [line for line in series if len(line.x) > 0]
    if not drawn:
        return f'<p class="nothing">No data for “{escape(frame.y_label)}”.</p>'
    scale = _Scale.over(drawn, frame)
    parts = [
        f'<svg viewBox="0 0 {frame.width} {frame.height}" role="img" '
        f'aria-label="{escape(frame.y_label)} against {escape(frame.x_label)}">',
        *_axes(scale, frame),
    ]
    for line in drawn:
        parts += _line(line, scale, frame)
    if frame.direct_labels:
        parts += _end_labels(drawn, scale, frame)
    return "\n".join([*parts, "</svg>"])


@dataclass(frozen=True)
class _Scale:
    """Data to pixels."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    right: float
    frame: Frame

    @classmethod
    def over(cls, series: Sequence[Series], frame: Frame) -> "_Scale":
        xs = [x for line in series for x in line.x]
        ys = [y for line in series for values in (line.y, line.low or (), line.high or ()) for y in values]
        low = min(ys) if frame.y_min is None else frame.y_min
        high = max(ys) if frame.y_max is None else max(frame.y_max, *ys)
        if high - low < 1e-9:
            low, high = low - 0.5, high + 0.5
        longest = max(len(line.name) for line in series) if frame.direct_labels else 0
        right = frame.width - MARGIN_RIGHT - LABEL_LETTER_PX * longest
        return cls(min(xs), max(xs), low, high, right, frame)

    def x(self, value: float) -> float:
        share = 0.5 if self.x_high == self.x_low else (value - self.x_low) / (self.x_high - self.x_low)
        return MARGIN_LEFT + share * (self.right - MARGIN_LEFT)

    def y(self, value: float) -> float:
        bottom = self.frame.height - MARGIN_BOTTOM
        return bottom - (value - self.y_low) / (self.y_high - self.y_low) * (bottom - MARGIN_TOP)


def _axes(scale: _Scale, frame: Frame) -> list[str]:
    bottom = frame.height - MARGIN_BOTTOM
    parts = []
    for value in ticks(scale.y_low, scale.y_high, 4 if frame.height < 200 else 5):
        y = scale.y(value)
        parts.append(f'<line class="grid" x1="{MARGIN_LEFT}" x2="{scale.right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{MARGIN_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>'
        )
    for value in frame.x_ticks or ticks(scale.x_low, scale.x_high, 3 if frame.width < 300 else 6):
        parts.append(
            f'<text class="tick" x="{scale.x(value):.1f}" y="{bottom + 15}" text-anchor="middle">{number(value)}</text>'
        )
    parts.append(f'<line class="axis" x1="{MARGIN_LEFT}" x2="{scale.right:.1f}" y1="{bottom}" y2="{bottom}"/>')
    middle = (MARGIN_LEFT + scale.right) / 2
    place = f'x="{middle:.1f}" y="{frame.height - 6}" text-anchor="middle"'
    parts.append(f'<text class="label" {place}>{escape(frame.x_label)}</text>')
    return parts


def _line(line: Series, scale: _Scale, frame: Frame) -> list[str]:
    parts = []
    if line.low is not None and line.high is not None:
        upper = [f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in zip(line.x, line.high, strict=True)]
        lower = [f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in zip(line.x, line.low, strict=True)]
        parts.append(f'<polygon class="band c{line.colour}" points="{" ".join(upper + lower[::-1])}"/>')
    points = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in zip(line.x, line.y, strict=True))
    dashed = " dashed" if line.dashed else ""
    parts.append(f'<polyline class="line c{line.colour}{dashed}" points="{points}"/>')
    if frame.markers:
        parts += [
            f'<circle class="dot c{line.colour}" cx="{scale.x(x):.1f}" cy="{scale.y(y):.1f}" r="3.5">'
            f"<title>{escape(line.name)}: {y:.3f} at {number(x)}</title></circle>"
            for x, y in zip(line.x, line.y, strict=True)
        ]
    return parts


def _end_labels(series: Sequence[Series], scale: _Scale, frame: Frame) -> list[str]:
    wanted = [scale.y(line.y[-1]) + 4 for line in series]
    placed = spread_labels(wanted, LABEL_GAP_PX, MARGIN_TOP + 8, frame.height - MARGIN_BOTTOM)
    return [
        f'<text class="name c{line.colour}" x="{scale.right + 6:.1f}" y="{y:.1f}">{escape(line.name)}</text>'
        for line, y in zip(series, placed, strict=True)
    ]
