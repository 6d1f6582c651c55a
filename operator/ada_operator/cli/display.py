"""What `ada run` shows: one live block on a terminal, lines elsewhere."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ada_api.experiment import AdaExperiment
from ada_api.progress import StageProgress
from ada_api.status import ExperimentStatus, StageStatus
from ada_operator.conditions import find
from ada_operator.local.runner import Look, Show

LINE_S = 10.0  # between lines that say only how far it is
QUIET_EVENTS = ("Committed",)  # too frequent for a line of their own


@contextmanager
def display(experiment: AdaExperiment, *, live: bool, output: TextIO) -> Iterator[Show]:
    """Yield the function to call with every look."""
    console = Console(file=output)
    if not (live and console.is_terminal):
        yield plain_lines(experiment, output)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as block:

        def show(look: Look) -> None:
            for event in look.events:
                if event.reason not in QUIET_EVENTS:
                    console.print(
                        Text(f"{clock()}  {event.message}", style="yellow" if event.type == "Warning" else "")
                    )
            block.update(live_block(experiment, look))

        yield show


def plain_lines(experiment: AdaExperiment, output: TextIO) -> Show:
    """Return a function that prints events, and now and then how far it is."""
    said_at, said = 0.0, ""

    def show(look: Look) -> None:
        nonlocal said_at, said
        for event in look.events:
            if event.reason not in QUIET_EVENTS:
                print(f"{clock()} {event.message}", file=output, flush=True)
        line = one_line(experiment, look)
        if line != said and time.monotonic() - said_at >= LINE_S:
            said_at, said = time.monotonic(), line
            print(f"{clock()} {line}", file=output, flush=True)

    return show


def clock() -> str:
    """Return the time of day."""
    return time.strftime("%H:%M:%S")


def one_line(experiment: AdaExperiment, look: Look) -> str:
    """Return how far it is, in one line."""
    status, stage = look.status, running(look.status)
    parts = [f"{status.stage}: {status.phase.lower()}"]
    if status.phase == "Training":
        parts.append(f"{stage.frames:,} of {stage.frames_total:,} frames ({status.progress})")
        parts.append(f"{stage.frames_per_second:,.0f} frames/s")
        if stage.score is not None:
            parts.append(f"score {stage.score:.3f}{by_trial(progress_of(look, stage))}")
        parts.append(f"{time_left(stage)} left")
        parts.append(f"nodes {status.nodes.ready}/{status.nodes.desired}")
    else:
        training = find(status.conditions, "Training")
        parts.append(training.message if training else "")
    return ", ".join(part for part in parts if part)


def live_block(experiment: AdaExperiment, look: Look) -> Group:
    """Return the block that is drawn again and again."""
    status, stage = look.status, running(look.status)
    head = Text.assemble((experiment.metadata.name, "bold"), f"  {status.stage}  ", (status.phase.lower(), "cyan"))
    bar = Table.grid(padding=(0, 1))
    share = min(stage.frames / max(stage.frames_total, 1), 1.0)
    bar.add_row(ProgressBar(total=1.0, completed=share, width=40), f"{100 * share:.0f} %", f"{time_left(stage)} left")
    facts = Table.grid(padding=(0, 2))
    facts.add_row("frames", f"{stage.frames:,} of {stage.frames_total:,}", f"{status.frames_per_second:,.0f} a second")
    score = "not known yet" if stage.score is None else f"{stage.score:.3f}"
    facts.add_row("score", score, by_trial(progress_of(look, stage)).strip())
    kept = f"{stage.checkpoint.frames:,} frames" if stage.checkpoint else "none yet"
    facts.add_row("committed", kept, f"nodes {status.nodes.ready} of {status.nodes.desired}")
    training = find(status.conditions, "Training")
    message = Text("" if status.phase == "Training" or training is None else training.message, style="dim")
    return Group(head, bar, facts, message)


def running(status: ExperimentStatus) -> StageStatus:
    """Return the stage that the experiment is at."""
    return next((stage for stage in status.stages if stage.phase != "Succeeded"), status.stages[-1])


def progress_of(look: Look, stage: StageStatus) -> StageProgress | None:
    """Return the stage's progress, if known."""
    stages = look.progress.stages if look.progress else []
    return next((one for one in stages if one.stage == stage.name), None)


def by_trial(progress: StageProgress | None) -> str:
    """Return the score by index of the trial, as ` (0.12 0.34 0.41)`."""
    scores = progress.score_by_trial if progress else []
    words = ["-" if score is None else f"{score:.2f}" for score in scores]
    return f" (by trial: {' '.join(words)})" if words else ""


def time_left(stage: StageStatus) -> str:
    """Return the time that the stage's frames will take at the present speed."""
    if stage.frames_per_second <= 0:
        return "unknown time"
    seconds = max(stage.frames_total - stage.frames, 0) / stage.frames_per_second
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 60:
        return f"{minutes:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def score_table(status: ExperimentStatus, width: int = 100) -> str:
    """Return the held-out scores of every stage by number of trials."""
    table = Table()
    trials = sorted({score.trials for stage in status.stages for score in stage.evaluation})
    table.add_column("stage")
    table.add_column("over tasks")
    for number in trials:
        table.add_column(str(number), justify="right")
    for stage in status.stages:
        by_trials = {score.trials: score for score in stage.evaluation}
        for label, field in (("mean", "mean"), ("median", "median"), ("20th percentile", "percentile20")):
            found = (getattr(by_trials[k], field) if k in by_trials else None for k in trials)
            table.add_row(stage.name, label, *("-" if score is None else f"{score:.3f}" for score in found))
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    written: str = console.file.getvalue()  # type: ignore[attr-defined]
    return f"score of the last trial on held-out tasks, by number of trials\n{written.rstrip()}"
