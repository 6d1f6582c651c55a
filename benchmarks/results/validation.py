"""The validation's part of docs/results.md, from the runs that `python -m benchmarks.validation` left."""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.peers.tasks import threshold
from benchmarks.validation import RUNS, SETTINGS, SYSTEMS, Run

NAMES = {"muesli": "our Muesli", "ppo": "our PPO", "peer": "Stable-Baselines3"}


def read_runs(directory: Path = RUNS) -> list[Run]:
    """Return the runs that are there."""
    return [Run(**json.loads(file.read_text(encoding="utf-8"))) for file in sorted(directory.glob("*.json"))]


def section(runs: Sequence[Run]) -> list[str]:
    """Return the table: frames until each seed solved a task, the medians, and what was not run."""
    lines = [
        "## Validation on ground that others know",
        "",
        "`make validation`, or `python -m benchmarks.validation TASK --system SYSTEM`. Frames until the mean return",
        "of the last 100 episodes reached the task's threshold, by seed (1, 2, ...); `>` where the budget ended",
        "first. Ours is one agent on all tasks, `nano` with a GRU of 64; settings stand in `benchmarks/validation.py`.",
        "The peer is Stable-Baselines3 2.9.2 with its published settings (`benchmarks/peers/sb3_ppo.py`), recurrent",
        "in `tmaze` and `memory`. Ours was given settings that suit small budgets; the peer was given its own.",
        "",
        "| task | solved at | system | frames by seed | median | frames against the peer's | processor s, median |",
        "|---|---|---|---|---|---|---|",
    ]
    for task in SETTINGS:
        peers = median_of(chosen(runs, task, "peer"))
        for system in SYSTEMS:
            if some := chosen(runs, task, system):
                lines.append(row(task, system, some, peers))
    missing = [f"{task} {NAMES[one]}" for task in SETTINGS for one in SYSTEMS if not chosen(runs, task, one)]
    return [*lines, "", f"Not run: {', '.join(missing)}." if missing else "Everything was run."]


def chosen(runs: Iterable[Run], task: str, system: str) -> list[Run]:
    """Return the runs of a system on a task, by seed."""
    return sorted((run for run in runs if (run.task, run.system) == (task, system)), key=lambda run: run.seed)


def median_of(runs: Sequence[Run]) -> float | None:
    """Return the median of the frames, infinite where more than half did not solve the task; None without runs."""
    frames = [float("inf") if run.solved_at is None else float(run.solved_at) for run in runs]
    return statistics.median(frames) if frames else None


def row(task: str, system: str, runs: Sequence[Run], peers: float | None) -> str:
    """Return a line of the table."""
    cells = ", ".join(f"> {run.frames:,}" if run.solved_at is None else f"{run.solved_at:,}" for run in runs)
    median = median_of(runs)
    assert median is not None
    middle = "not solved" if median == float("inf") else f"{median:,.0f}"
    known = peers is not None and peers < float("inf") and median < float("inf") and system != "peer"
    against = f"{median / peers:.2f}" if known and peers else ""
    seconds = statistics.median(run.processor_s for run in runs)
    return f"| {task} | {threshold(task):g} | {NAMES[system]} | {cells} | {middle} | {against} | {seconds:,.0f} |"
