"""`python -m benchmarks.results`: train the quickstart over seeds and write docs/results.md.

Beside the quickstart's two stages each seed trains a third: the same student without a teacher. The claims are
(a) more trials help, (b) it is the memory that helps, (c) a teacher saves frames.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from ada_curriculum.manifest import HISTORY, newest_whole, read_object
from ada_curriculum.store import DirectoryStore, get
from ada_trainer.evaluation.result import AGENT, CLEARED, Evaluation
from ada_trainer.evaluation.statistics import Interval
from ada_trainer.report.curves import frames_to_reach, smoothed
from ada_trainer.report.sections import score_chart

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
TEACHER, STUDENT, ALONE = "teacher", "student", "alone"
PICTURE = ROOT / "docs" / "images" / "quickstart-scores.svg"


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


def main() -> int:
    """Run all seeds, then write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds (example: --seeds 5)")
    parser.add_argument("--directory", type=Path, default=ROOT / "runs" / "results", help="where the runs are kept")
    arguments = parser.parse_args()
    outcomes = [run_seed(seed, arguments.directory) for seed in range(1, arguments.seeds + 1)]
    PAGE.write_text(page(outcomes), encoding="utf-8")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture(outcomes[0].student), encoding="utf-8")
    print(f"wrote {PAGE}")
    return 0


def run_seed(seed: int, directory: Path) -> Outcome:
    """Train one seed, or read what an earlier call trained."""
    run = directory / f"quickstart-{seed}"
    run.mkdir(parents=True, exist_ok=True)
    file = run / "experiment.yaml"
    file.write_text(yaml.safe_dump(with_control(seed), sort_keys=False), encoding="utf-8")
    ada = shutil.which("ada") or str(Path(sys.executable).with_name("ada"))
    subprocess.run([ada, "run", str(file), "--directory", str(run / "run")], check=True)
    return read_outcome(seed, run / "run")


def with_control(seed: int) -> dict[str, Any]:
    """Return the quickstart with this seed and a third stage, the student without its teacher."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "quickstart.yaml").read_text(encoding="utf-8"))
    spec = document["spec"]
    spec["seed"] = seed
    student = next(stage for stage in spec["stages"] if stage["name"] == STUDENT)
    alone = {key: value for key, value in student.items() if key != "distillation"}
    spec["stages"].append({**alone, "name": ALONE})
    return document


def read_outcome(seed: int, run: Path) -> Outcome:
    """Read evaluations and histories of a finished run."""
    store = DirectoryStore(run / "store").child("default/quickstart")
    histories = {stage: read_history(store, stage) for stage in (TEACHER, STUDENT, ALONE)}
    target = curve_of(histories[TEACHER])[-1][1]
    evaluations = {stage: Evaluation.from_json(get(store, f"evaluations/{stage}.json")) for stage in (TEACHER, STUDENT)}
    return Outcome(
        seed=seed,
        teacher=evaluations[TEACHER],
        student=evaluations[STUDENT],
        frames_with_teacher=frames_to_reach(curve_of(histories[STUDENT]), target),
        frames_alone=frames_to_reach(curve_of(histories[ALONE]), target),
        frames_alone_given=int(histories[ALONE][-1]["frames"]),
        seconds={stage: points[-1]["time"] - points[0]["time"] for stage, points in histories.items()},
        commit=str(json.loads(get(store, f"run/{TEACHER}-1.json"))["commit"])[:10],
    )


def read_history(store: Any, stage: str) -> list[dict[str, Any]]:
    """Return the points of a stage's history from its newest checkpoint."""
    checkpoint = newest_whole(store, stage)
    if checkpoint is None:
        raise FileNotFoundError(f"stage {stage} has no committed checkpoint in {store.uri}")
    points: list[dict[str, Any]] = json.loads(read_object(store, checkpoint, HISTORY))["points"]
    return points


def curve_of(history: Sequence[dict[str, Any]]) -> list[tuple[float, float]]:
    """Return (frames, smoothed training score of the last trials)."""
    points = [point for point in history if point.get("score") is not None]
    return smoothed([point["frames"] for point in points], [point["score"] for point in points])


def picture(evaluation: Evaluation) -> str:
    """Return the chart of the report as an SVG file of its own."""
    style = (files("ada_trainer.report") / "style.css").read_text(encoding="utf-8")
    chart = score_chart(evaluation)
    return chart.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        ">", f"><style>{style}</style>", 1
    )


def page(outcomes: Sequence[Outcome]) -> str:
    """Return docs/results.md."""
    commits = sorted({outcome.commit for outcome in outcomes})
    lines = [
        "# Results",
        "",
        "Written by `make results`. Scores are the share of the last trial's time in which the goal holds, means over",
        "held-out tasks; brackets are 95% bootstrap intervals, differences are paired by task. Seconds are wall time",
        f"of training, whatever else the machine did. Trained at commit {' and '.join(commits)}.",
        "",
        "## Quickstart",
        "",
        "| seed | stage | frames | k=1 | k=2 | k=3 | k=5 | k=8 | (a) k=5 minus k=1 | (b) k=5 minus memory cleared |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        lines += [score_line(outcome.seed, evaluation) for evaluation in (outcome.teacher, outcome.student)]
    lines += [
        "",
        "Claim (c): frames until the student's smoothed training score first reaches the teacher's last one.",
        "",
        "| seed | with teacher | without | holds | seconds teacher, student, without |",
        "|---|---|---|---|---|",
        *(frames_line(outcome) for outcome in outcomes),
        "",
        *verdicts(outcomes),
    ]
    return "\n".join(lines) + "\n"


def score_line(seed: int, evaluation: Evaluation) -> str:
    """Return one row of the table of scores."""
    means = [f"{evaluation.summary(AGENT, k).mean.value:.3f}" for k in (1, 2, 3, 5, 8)]
    gains = [interval(evaluation.gain_from_trials()), interval(evaluation.gain_from_memory())]
    return f"| {seed} | {evaluation.stage} | {evaluation.frames:,} | {' | '.join([*means, *gains])} |"


def interval(gain: Interval | None) -> str:
    """Write a difference with its interval."""
    return "" if gain is None else f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


def frames_line(outcome: Outcome) -> str:
    """Return one row of the table of claim (c)."""
    with_teacher = "never" if outcome.frames_with_teacher is None else f"{outcome.frames_with_teacher:,.0f}"
    alone = (
        f"not within {outcome.frames_alone_given:,}" if outcome.frames_alone is None else f"{outcome.frames_alone:,.0f}"
    )
    holds = "yes" if outcome.teacher_saves_frames() else "no"
    seconds = ", ".join(f"{s:.0f}" for s in outcome.seconds.values())
    return f"| {outcome.seed} | {with_teacher} | {alone} | {holds} | {seconds} |"


def verdicts(outcomes: Sequence[Outcome]) -> list[str]:
    """Count in how many seeds each claim holds, for the student."""
    total = len(outcomes)

    def above_zero(gains: Sequence[Interval | None]) -> int:
        return sum(gain is not None and gain.low > 0 for gain in gains)

    return [
        f"(a) holds in {above_zero([o.student.gain_from_trials() for o in outcomes])} of {total} seeds, "
        f"(b) in {above_zero([o.student.gain_from_memory() for o in outcomes])}, "
        f"(c) in {sum(o.teacher_saves_frames() for o in outcomes)} (the student; cleared = `{CLEARED}`).",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
