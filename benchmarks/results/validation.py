"""The validation's part of docs/results.md, from the runs that `python -m benchmarks.validation` left."""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.peers.tasks import threshold
from benchmarks.results.tables import ROOT
from benchmarks.validation import RUNS, SETTINGS, SYSTEMS, Run, is_present

TITLE = "## Validation on ground that others know"
SEEDS = 3
REMARKS = (
    "Seen before, while ours still took the 500th timestep of `cartpole` for a fall (seed 1, a GRU, else the present",
    "settings): Muesli did not solve it in 150,016 frames and stood at 432, after a fall from 332 to 241 on the way;",
    "PPO solved it at 127,920, with a fall from 428 to 349. Stable-Baselines3 never took it for one.",
    "",
    "The recurrent peer is slow: on a crowded machine the update after the first 1,024 frames of `one-try` had not",
    "ended after 49 processor s. Count on hours for its `tmaze` and `memory`, and on days for its `one-try`, of which",
    "no run has been seen to end.",
)
NAMES = {"muesli": "our Muesli", "ppo": "our PPO", "peer": "Stable-Baselines3"}


def read_runs(directory: Path = RUNS) -> list[Run]:
    """Return the runs with the present settings that are there."""
    runs = [Run(**json.loads(file.read_text(encoding="utf-8"))) for file in sorted(directory.glob("*.json"))]
    return [run for run in runs if is_present(run)]


def write_section(directory: Path = RUNS, page: Path = ROOT / "docs" / "results.md") -> None:
    """Put the section into the page in place of the one that is there, or at its end."""
    parts = page.read_text(encoding="utf-8").split("\n## ")
    title = TITLE.removeprefix("## ")
    new = "\n".join(section(read_runs(directory))).removeprefix("## ") + "\n"
    places = [place for place, part in enumerate(parts) if part.startswith(title)] or [len(parts)]
    parts[places[0] : places[0] + 1] = [new]
    page.write_text("\n## ".join(parts), encoding="utf-8")  # the line break before each heading ends a blank line


def section(runs: Sequence[Run]) -> list[str]:
    """Return the table: frames until each seed solved a task, the medians, and what was not run."""
    lines = [
        TITLE,
        "",
        "`make validation`, or `python -m benchmarks.validation TASK --system SYSTEM`; `--page` writes this section.",
        "Frames until the mean return of the last 100 episodes (500 of `one-try`) reached the task's threshold, by",
        "seed (1, 2, ...); `>` where the budget ended first. Ours is one agent on all tasks, `nano` with a GRU of 64;",
        "settings stand in `benchmarks/validation.py`, and a run that was made with others does not count. The peer",
        "is Stable-Baselines3 2.9.2 with its published settings (`benchmarks/peers/sb3_ppo.py`), recurrent in",
        "`tmaze`, `memory` and `one-try`, the quickstart's own task. An episode that a limit of time cuts off is worth",
        "what its next observation would have been, on both sides. Ours was given settings that suit small budgets.",
        "",
        "| task | solved at | system | frames by seed | median | frames against the peer's | processor s, median |",
        "|---|---|---|---|---|---|---|",
    ]
    for task in SETTINGS:
        peers = median_of(chosen(runs, task, "peer"))
        for system in SYSTEMS:
            if some := chosen(runs, task, system):
                lines.append(row(task, system, some, peers))
    return [*lines, "", *left_over(runs), "", *REMARKS]


def left_over(runs: Sequence[Run]) -> list[str]:
    """Return what was not run, or by fewer than three seeds."""
    lines = []
    for task in SETTINGS:
        counts = {NAMES[system]: len(chosen(runs, task, system)) for system in SYSTEMS}
        if few := [f"{name} {count or 'none'}" for name, count in counts.items() if count < SEEDS]:
            lines.append(f"* `{task}`: {', '.join(few)}")
    return [f"Seeds run, where not all {SEEDS} were:", "", *lines] if lines else ["Everything was run."]


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
