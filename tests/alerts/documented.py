"""The metrics that `docs/metrics.md` lists."""

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(ada_\w+)` \| (\w+) \| ([^|]*) \|(?: ([^|]*) \|)? (.+) \|$", re.MULTILINE)
METRIC = re.compile(r"(?<![:\w])ada_(?:operator|experiment|trainer|curriculum|simulator)_\w+(?!:)\b")
SUFFIXES = ("_bucket", "_count", "_sum")

# A run of one stage on CPUs that loses nothing has no teacher, no GPU, no no-op filter and no condition but its phase.
NOT_HERE = {
    "ada_curriculum_figure",
    "ada_curriculum_task_metric",
    "ada_simulator_refused_total",
    "ada_trainer_device_bytes",
    "ada_trainer_teacher_kl_nats",
}


@dataclass(frozen=True)
class Documented:
    """One row."""

    kind: str
    labels: frozenset[str]
    unit: str


def documented() -> dict[str, Documented]:
    """Return every row by name."""
    rows = ROW.findall(PAGE.read_text().replace("| |", "|  |").replace("\\|", "/"))
    return {
        name: Documented(kind, frozenset(re.findall(r"`(\w+)`", labels)), unit.strip())
        for name, kind, labels, unit, _ in rows
    }


def used_in(text: str) -> set[str]:
    """Return the metrics that a text names, histograms without their suffix."""
    found = set(METRIC.findall(text))
    known = documented()
    return {
        next((name.removesuffix(one) for one in SUFFIXES if name.removesuffix(one) in known), name) for name in found
    }
