"""What the tables of all examples share: running a seed, reading what it left, and the cells."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from ada_curriculum.manifest import HISTORY, newest_whole, read_object
from ada_curriculum.store import DirectoryStore, ObjectStore, get
from ada_trainer.evaluation.result import AGENT, Evaluation
from ada_trainer.evaluation.statistics import Interval
from ada_trainer.report.curves import smoothed

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results.md"
TRIALS = (1, 2, 3, 5, 8)
SCORE_COLUMNS = f"{' | '.join(f'k={k}' for k in TRIALS)} | (a) k=5 minus k=1 | (b) k=5 minus memory cleared |"


def train(document: dict[str, Any], run: Path) -> ObjectStore:
    """Run an experiment to its end, unless it is there already, and return its part of the store."""
    run.mkdir(parents=True, exist_ok=True)
    file = run / "experiment.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    ada = shutil.which("ada") or str(Path(sys.executable).with_name("ada"))
    subprocess.run([ada, "run", str(file), "--directory", str(run / "run")], check=True)
    return DirectoryStore(run / "run" / "store").child(f"default/{document['metadata']['name']}")


def example(name: str, seed: int) -> dict[str, Any]:
    """Return an example with this seed."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "examples" / f"{name}.yaml").read_text(encoding="utf-8"))
    document["spec"]["seed"] = seed
    return document


def read_evaluation(store: ObjectStore, stage: str) -> Evaluation:
    """Return the evaluation of a stage's last checkpoint."""
    return Evaluation.from_json(get(store, f"evaluations/{stage}.json"))


def read_history(store: ObjectStore, stage: str) -> list[dict[str, Any]]:
    """Return the points of a stage's history from its newest checkpoint."""
    checkpoint = newest_whole(store, stage)
    if checkpoint is None:
        raise FileNotFoundError(f"stage {stage} has no committed checkpoint in {store.uri}")
    points: list[dict[str, Any]] = json.loads(read_object(store, checkpoint, HISTORY))["points"]
    return points


def read_commit(store: ObjectStore, stage: str) -> str:
    """Return the commit of the code that trained a stage."""
    return str(json.loads(get(store, f"run/{stage}-1.json"))["commit"])[:10]


def curve_of(history: Sequence[dict[str, Any]]) -> list[tuple[float, float]]:
    """Return (frames, smoothed training score of the last trials)."""
    points = [point for point in history if point.get("score") is not None]
    return smoothed([point["frames"] for point in points], [point["score"] for point in points])


def picture(chart: str) -> str:
    """Return a chart of the report as an SVG file of its own."""
    style = (files("ada_trainer.report") / "style.css").read_text(encoding="utf-8")
    return chart.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        ">", f"><style>{style}</style>", 1
    )


def score_cells(evaluation: Evaluation) -> str:
    """Return the cells under SCORE_COLUMNS."""
    means = [f"{evaluation.summary(AGENT, k).mean.value:.3f}" for k in TRIALS]
    gains = [interval(evaluation.gain_from_trials()), interval(evaluation.gain_from_memory())]
    return f"{' | '.join([*means, *gains])} |"


def interval(gain: Interval | None) -> str:
    """Write a difference with its interval."""
    return "" if gain is None else f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


def above_zero(gains: Sequence[Interval | None]) -> int:
    """Count the differences whose whole interval is above zero."""
    return sum(gain is not None and gain.low > 0 for gain in gains)


def put_section(lines: Sequence[str], page: Path = PAGE) -> None:
    """Put a section into the page in place of the one with its title, or at the end."""
    parts = page.read_text(encoding="utf-8").split("\n## ")
    title = lines[0].removeprefix("## ")
    new = "\n".join(lines).removeprefix("## ") + "\n"
    places = [place for place, part in enumerate(parts) if part.startswith(f"{title}\n")] or [len(parts)]
    parts[places[0] : places[0] + 1] = [new]
    page.write_text("\n## ".join(parts), encoding="utf-8")  # the line break before each heading ends a blank line
