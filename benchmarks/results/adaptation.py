"""The adaptation example over seeds: generated tasks and templates, together and each alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ada_curriculum.store import ObjectStore
from ada_sim.tasks.source import TEMPLATE_BIT
from ada_trainer.evaluation.result import AGENT, Evaluation
from benchmarks.results import emergence
from benchmarks.results.tables import (
    SCORE_COLUMNS,
    above_zero,
    example,
    read_commit,
    read_evaluation,
    read_history,
    score_cells,
    train,
)


@dataclass(frozen=True)
class Outcome:
    """What one seed gave."""

    seed: int
    stages: tuple[Evaluation, ...]  # in the order of the experiment
    seconds: tuple[float, ...]  # of training, by stage
    commit: str  # of the code that trained
    history: emergence.History  # of the first stage


def run_seed(seed: int, directory: Path) -> Outcome:
    """Train one seed, or read what an earlier call trained."""
    document = example("adaptation", seed)
    names = [stage["name"] for stage in document["spec"]["stages"]]
    return read_outcome(seed, train(document, directory / f"adaptation-{seed}"), names)


def read_outcome(seed: int, store: ObjectStore, stages: Sequence[str]) -> Outcome:
    """Read evaluations and histories of a finished run."""
    histories = [read_history(store, stage) for stage in stages]
    return Outcome(
        seed=seed,
        stages=tuple(read_evaluation(store, stage) for stage in stages),
        seconds=tuple(points[-1]["time"] - points[0]["time"] for points in histories),
        commit=read_commit(store, stages[0]),
        history=histories[0],
    )


def section(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the adaptation example's part of docs/results.md."""
    lines = [
        "## Adaptation",
        "",
        f"`examples/adaptation.yaml`, trained at commit {' and '.join(sorted({one.commit for one in outcomes}))}.",
        "",
        f"| seed | stage | frames | tasks | {SCORE_COLUMNS}",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        for evaluation in outcome.stages:
            for kind, part in by_kind(evaluation).items():
                row = f"| {outcome.seed} | {part.stage} | {part.frames:,} | {len(part.tasks)} {kind}"
                lines.append(f"{row} | {score_cells(part)}")
    seconds = [f"{', '.join(f'{s:,.0f}' for s in outcome.seconds)} (seed {outcome.seed})" for outcome in outcomes]
    lines += [
        "",
        f"Seconds of training by stage: {'; '.join(seconds)}.",
        "",
        *verdicts(outcomes),
    ]
    return lines


def emerged(outcomes: Sequence[Outcome]) -> list[str]:
    """Return a part of its own: how the tasks changed that the first stage was trained on."""
    return [
        "## Emergent curriculum",
        "",
        "What the tasks were like that the teacher of `examples/adaptation.yaml` was trained on, means over each fifth",
        "of its frames, in order, and the last stage's scores on held-out tasks; drawn for seed 1.",
        f"`python -m benchmarks.results --seeds 0 --adaptation-seeds {len(outcomes)}`, trained at commit"
        f" {' and '.join(sorted({one.commit for one in outcomes}))}.",
        "",
        "![measures of the tasks trained on, over the frames](images/emergent-curriculum.svg)",
        "",
        *emergence.section([(told(one), one.history) for one in outcomes]),
    ]


def told(outcome: Outcome) -> str:
    """Return a seed and what its last stage came to."""
    last = outcome.stages[-1]
    scores = [f"k={k} {last.summary(AGENT, k).mean.value:.3f}" for k in (1, 5)]
    return f"seed {outcome.seed}, {', '.join(scores)}"


def by_kind(evaluation: Evaluation) -> dict[str, Evaluation]:
    """Return the evaluation on all tasks, on those that were generated and on those from templates."""
    from_template = np.array([bool(task & TEMPLATE_BIT) for task in evaluation.tasks])
    kinds = {"in all": np.ones_like(from_template), "generated": ~from_template, "from templates": from_template}
    return {kind: only(evaluation, chosen) for kind, chosen in kinds.items() if chosen.any()}


def only(evaluation: Evaluation, chosen: np.ndarray) -> Evaluation:
    """Return the evaluation on some of its tasks; `chosen` is bool [tasks]."""
    return replace(
        evaluation,
        tasks=tuple(task for task, is_chosen in zip(evaluation.tasks, chosen, strict=True) if is_chosen),
        scores={a: {k: scores[chosen] for k, scores in by_k.items()} for a, by_k in evaluation.scores.items()},
    )


def verdicts(outcomes: Sequence[Outcome]) -> list[str]:
    """Count in how many seeds each claim holds for the last stage, by kind of task."""
    lasts = [by_kind(outcome.stages[-1]) for outcome in outcomes]
    lines = []
    for kind in lasts[0]:
        trials = above_zero([last[kind].gain_from_trials() for last in lasts])
        memory = above_zero([last[kind].gain_from_memory() for last in lasts])
        lines.append(f"* tasks {kind}: (a) holds in {trials} of {len(lasts)} seeds, (b) in {memory} (the last stage)")
    return lines
