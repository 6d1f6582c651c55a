"""How the tasks that a stage was trained on changed: AdA's emergent curriculum (its figure of it, appendix D)."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from ada_trainer.report.charts import Frame, Series, line_chart
from ada_trainer.report.curves import smoothed

MEASURES = {  # as a history's points name them
    "num_rules": "rules",
    "num_trials": "trials",
    "min_rules_to_trigger": "least rules to trigger",
    "hidden_critical_rules": "hidden critical rules",
    "dead_end_rules": "dead-end rules",
    "initial_objects": "objects",
}
PARTS = 5  # of the frames, over which means are told

History = Sequence[Mapping[str, Any]]


def measured(history: History, key: str) -> list[tuple[float, float]]:
    """Return (frames, value) of the points that have the measure."""
    return [(point["frames"], point[key]) for point in history if isinstance(point.get(key), int | float)]


def by_parts(history: History, key: str) -> list[float]:
    """Return the means of a measure over each fifth of the frames; nothing for a fifth without points."""
    points, last = measured(history, key), history[-1]["frames"]
    parts = [
        [value for frames, value in points if part == min(PARTS - 1, int(frames * PARTS / last))]
        for part in range(PARTS)
    ]
    return [fmean(values) for values in parts if values]


def early_and_late(history: History, key: str) -> tuple[float, float]:
    """Return the means of a measure over the first and the last fifth of the frames."""
    means = by_parts(history, key)
    return means[0], means[-1]


def section(rows: Sequence[tuple[str, History]]) -> list[str]:
    """Return a table of the measures over the fifths of the frames; rows are names and histories."""
    lines = [
        f"| | {' | '.join(MEASURES.values())} |",
        "|---" * (1 + len(MEASURES)) + "|",
    ]
    for name, history in rows:
        cells = [", ".join(f"{value:.2f}" for value in by_parts(history, key)) for key in MEASURES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def chart(history: History) -> str:
    """Draw the measures over the frames."""
    curves = {name: smoothed(*zip(*measured(history, key), strict=True)) for key, name in MEASURES.items()}
    series = [
        Series(name, [x for x, _ in curve], [y for _, y in curve], colour)
        for colour, (name, curve) in enumerate(curves.items())
    ]
    return line_chart(series, Frame("frames", "mean over the tasks trained on", 760, 340, 0.0))
