"""The quickstart over seeds. Beside its two stages each seed trains a third: the same student without a teacher.

The claims are (a) more trials help, (b) it is the memory that helps, (c) a teacher saves frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ada_curriculum.store import ObjectStore
from ada_trainer.evaluation.result import CLEARED, Evaluation
from ada_trainer.report.curves import frames_to_reach
from benchmarks.results.tables import (
    SCORE_COLUMNS,
    above_zero,
    curve_of,
    example,
    read_commit,
    read_evaluation,
    read_history,
    score_cells,
    train,
)

TEACHER, STUDENT, ALONE = "teacher", "student", "alone"


@dataclass(frozen=True)
class Outcome:
    """What one seed gave."""

    seed: int
    teacher: Evaluation
    student: Evaluation
    frames_with_teacher: float | None  # until the student's training score reached the teacher's last one
    frames_alone: float | None
    frames_alone_given: int
    seconds: dict[str, float]
    commit: str  # of the code that trained

    def teacher_saves_frames(self) -> bool:
        """Say whether claim (c) holds."""
        return self.frames_with_teacher is not None and (
            self.frames_alone is None or self.frames_with_teacher < self.frames_alone
        )


def run_seed(seed: int, directory: Path) -> Outcome:
    """Train one seed, or read what an earlier call trained."""
    return read_outcome(seed, train(with_control(seed), directory / f"quickstart-{seed}"))


def with_control(seed: int) -> dict[str, Any]:
    """Return the quickstart with this seed and a third stage, the student without its teacher."""
    document = example("quickstart", seed)
    stages = document["spec"]["stages"]
    student = next(stage for stage in stages if stage["name"] == STUDENT)
    stages.append({**{key: value for key, value in student.items() if key != "distillation"}, "name": ALONE})
    return document


def read_outcome(seed: int, store: ObjectStore) -> Outcome:
    """Read evaluations and histories of a finished run."""
    histories = {stage: read_history(store, stage) for stage in (TEACHER, STUDENT, ALONE)}
    target = curve_of(histories[TEACHER])[-1][1]
    return Outcome(
        seed=seed,
        teacher=read_evaluation(store, TEACHER),
        student=read_evaluation(store, STUDENT),
        frames_with_teacher=frames_to_reach(curve_of(histories[STUDENT]), target),
        frames_alone=frames_to_reach(curve_of(histories[ALONE]), target),
        frames_alone_given=int(histories[ALONE][-1]["frames"]),
        seconds={stage: points[-1]["time"] - points[0]["time"] for stage, points in histories.items()},
        commit=read_commit(store, TEACHER),
    )


def section(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the quickstart's part of docs/results.md."""
    lines = [
        "## Quickstart",
        "",
        f"Trained at commit {' and '.join(sorted({outcome.commit for outcome in outcomes}))}.",
        "",
        f"| seed | stage | frames | {SCORE_COLUMNS}",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        for evaluation in (outcome.teacher, outcome.student):
            lines.append(f"| {outcome.seed} | {evaluation.stage} | {evaluation.frames:,} | {score_cells(evaluation)}")
    return [
        *lines,
        "",
        "Claim (c): frames until the student's smoothed training score first reaches the teacher's last one.",
        "",
        "| seed | with teacher | without | holds | seconds teacher, student, without |",
        "|---|---|---|---|---|",
        *(frames_line(outcome) for outcome in outcomes),
        "",
        verdict(outcomes),
    ]


def frames_line(outcome: Outcome) -> str:
    """Return one row of the table of claim (c)."""
    with_teacher = "never" if outcome.frames_with_teacher is None else f"{outcome.frames_with_teacher:,.0f}"
    alone = (
        f"not within {outcome.frames_alone_given:,}" if outcome.frames_alone is None else f"{outcome.frames_alone:,.0f}"
    )
    holds = "yes" if outcome.teacher_saves_frames() else "no"
    seconds = ", ".join(f"{s:.0f}" for s in outcome.seconds.values())
    return f"| {outcome.seed} | {with_teacher} | {alone} | {holds} | {seconds} |"


def verdict(outcomes: Sequence[Outcome]) -> str:
    """Count in how many seeds each claim holds, for the student."""
    return (
        f"(a) holds in {above_zero([o.student.gain_from_trials() for o in outcomes])} of {len(outcomes)} seeds, "
        f"(b) in {above_zero([o.student.gain_from_memory() for o in outcomes])}, "
        f"(c) in {sum(o.teacher_saves_frames() for o in outcomes)} (the student; cleared = `{CLEARED}`)."
    )
