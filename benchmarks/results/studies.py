"""`python -m benchmarks.results.studies STUDY`: what a part of the recipe is worth, over seeds.

    curriculum    the quickstart's teacher under plr, noop-filter and uniform, at equal frames, where one of nine tasks
                  is worth training on: scores, and how the tasks trained on changed (AdA's emergent curriculum)
    rare          the same where one of 21 is
    large         a student of ten times the teacher's size, with the teacher and without
    generations   three of equal size, each taught by the one before, beside one that learns alone as long

Each runs whole experiments with `ada run` under runs/studies and prints a section for docs/results.md. What came of an
experiment is kept in docs/studies, and read there as long as the experiment is the same; `--page` writes the section of
what is there and runs nothing. A student of about twice the teacher's size is part of the quickstart's own results.
"""

import argparse
import copy
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ada_curriculum.store import ObjectStore
from ada_sim.tasks.source import template_of
from ada_trainer.evaluation.result import AGENT, Evaluation
from ada_trainer.report.curves import frames_to_reach
from benchmarks.results.emergence import MEASURES, early_and_late, measured
from benchmarks.results.tables import (
    ROOT,
    curve_of,
    example,
    put_section,
    read_commit,
    read_evaluation,
    read_history,
    train,
)

KEPT = ROOT / "docs" / "studies"
METHODS = ("plr", "noop-filter", "uniform")
TENFOLD = {"preset": "small", "core": "transformer-xl", "width": 128, "layers": 3, "heads": 4, "memory": 60}
FIRST = ("teacher", "first")  # stages whose score the others are to reach
# Fewer episodes of a task than AdA's 10 and 30, as the quickstart's visits are short: with those, beside generated
# tasks, 10,000,000 frames gave 0.47 on the template's, seed 1.
SHORT_FILTER = {"episodes": 3, "epsilon3": 2, "epsilon5": 1, "trainingEpisodes": 12}
SEEDS = 3

Document = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """What one stage of one seed came to."""

    name: str
    seed: int
    frames: int
    scores: tuple[float, float]  # k = 1 and k = 5, held-out tasks
    to_teacher: float | None  # frames until the training score reached the first stage's last one
    measures: dict[str, tuple[float, float]]  # in the first and the last fifth of the frames
    commit: str
    kinds: dict[str, float] = field(default_factory=dict)  # k = 5 by template, where there are several


def curriculum(seed: int, frames: int) -> dict[str, Document]:
    """Return the experiments by name: one for each method."""
    return {method: beside_idle_tasks("curriculum", method, 4.0, seed, frames) for method in METHODS}


def rare(seed: int, frames: int) -> dict[str, Document]:
    """Return the same with fewer tasks worth training on, of which those that are found come again half of the time."""
    documents = {method: beside_idle_tasks("rare", method, 10.0, seed, frames) for method in METHODS}
    documents["plr"]["spec"]["curriculum"]["plr"]["replayProbability"] = 0.5
    for document in documents.values():
        document["spec"]["evaluation"]["tasks"] = 6144  # some 290 of the rare ones
    return documents


def beside_idle_tasks(study: str, method: str, idle_weight: float, seed: int, frames: int) -> Document:
    """Return the quickstart's teacher with two templates of tasks that teach nothing, of this weight against 1."""
    document = example("quickstart", seed)
    spec = document["spec"]
    spec["curriculum"]["method"] = method
    spec["curriculum"]["noopFilter"] = SHORT_FILTER
    (one_try,) = spec["environment"]["templates"]
    idle = [{"name": name, "weight": idle_weight, "text": text} for name, text in idle_texts(one_try["text"]).items()]
    spec["environment"]["templates"] = [one_try, *idle]
    spec["evaluation"] = {"tasks": 2048, "trials": [1, 5]}
    spec["stages"] = [{**spec["stages"][0], "frames": frames}]
    return named(document, f"{study}-{method}")


def idle_texts(text: str) -> dict[str, str]:
    """Return two templates that look like one-try: in one nothing makes what the goal asks for, in one it's avoided."""
    in_vain = text.replace("-> X, G", "-> X, W")
    texts = {"in-vain": in_vain, "no-need": in_vain.replace("goal near", "goal not near")}
    assert len({text, *texts.values()}) == 3, "the quickstart's template has changed"
    return texts


def large(seed: int, frames: int) -> dict[str, Document]:
    """Return one experiment: the quickstart's teacher, and two students of ten times its size."""
    document = example("quickstart", seed)
    teacher, student = document["spec"]["stages"]
    taught = {**copy.deepcopy(student), "name": "large", "model": TENFOLD, "frames": frames}
    taught["distillation"] = {"teacher": "teacher", "frames": frames * 4 // 5}
    alone = {key: value for key, value in taught.items() if key != "distillation"} | {"name": "large-alone"}
    document["spec"]["stages"] = [teacher, taught, alone]
    return {"large": named(document, "large")}


def generations(seed: int, frames: int) -> dict[str, Document]:
    """Return one experiment: three generations of the quickstart's teacher, and one that learns alone for as long."""
    document = example("quickstart", seed)
    first = {**document["spec"]["stages"][0], "name": "first", "frames": frames}
    stages = [first]
    for name, teacher in (("second", "first"), ("third", "second")):
        stages.append({**first, "name": name, "distillation": {"teacher": teacher, "frames": frames // 4}})
    stages.append({**first, "name": "alone", "frames": 3 * frames})
    document["spec"]["stages"] = stages
    return {"generations": named(document, "generations")}


def named(document: Document, name: str) -> Document:
    """Return the document as an experiment of this name."""
    document["metadata"]["name"] = name
    return document


@dataclass(frozen=True)
class Study:
    """How a study is made and what its page says."""

    what: str
    build: Callable[[int, int], dict[str, Document]]  # the experiments of a seed, by name
    frames: int  # of each stage
    compares: bool = True  # its stages with the first one's score

    def documents(self, seeds: int, frames: int | None = None) -> list[tuple[Document, int]]:
        """Return all experiments with their seeds."""
        return [
            (document, seed)
            for seed in range(1, seeds + 1)
            for document in self.build(seed, frames or self.frames).values()
        ]


STUDIES = {
    "curriculum": Study(
        "The quickstart's teacher under each curriculum, where one of nine tasks is worth training on: in four the goal"
        " can't be reached, in four it holds whatever one does. Beside the generator's tasks of 10 s, at equal weights,"
        " uniform sampling was as good as replay after as many frames, seed 1: 0.63 and 0.64 of the template's tasks.",
        curriculum,
        10_000_000,
        compares=False,
    ),
    "rare": Study(
        "As the study called curriculum, but one of 21 tasks is worth training on, and half of plr's episodes are"
        " of tasks seen before (`replayProbability: 0.5`), since so few of the new ones are worth seeing. It was"
        " made after that study, in which a fifth of plr's episodes were. With 10,000,000 frames, as there, seed 2"
        " came to 0.462 on these tasks under the filter, 0.397 under replay and 0.415 under uniform sampling: half"
        " of so many frames are too few to learn to remember.",
        rare,
        16_000_000,
        compares=False,
    ),
    "large": Study(
        "The quickstart's teacher, and two students of ten times its size: taught by it, and alone.", large, 2_500_000
    ),
    "generations": Study(
        "Three of equal size, each taught by the one before, and one that learns alone for as long as all.",
        generations,
        7_000_000,
    ),
}


def arms_of(document: Document, seed: int, kept: Path, runs: Path) -> list[Arm]:
    """Run an experiment and keep what came of its stages in a file, or read the file of one like it."""
    file = file_of(document, seed, kept)
    if arms := read_kept(document, seed, kept):
        return arms
    arms = read_arms(train(document, runs / file.stem), document, seed)
    kept.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"experiment": document, "arms": [asdict(arm) for arm in arms]}), encoding="utf-8")
    return arms


def file_of(document: Document, seed: int, kept: Path) -> Path:
    """Return where what came of an experiment is kept."""
    return kept / f"{document['metadata']['name']}-{seed}.json"


def read_kept(document: Document, seed: int, kept: Path) -> list[Arm]:
    """Return what is kept of an experiment, nothing if there is none or the experiment was another."""
    file = file_of(document, seed, kept)
    if not file.exists() or (found := json.loads(file.read_text(encoding="utf-8")))["experiment"] != document:
        return []
    return [Arm(**arm) for arm in found["arms"]]


def sections(kept: Path = KEPT, seeds: int = SEEDS) -> list[list[str]]:
    """Return the section of each study of which anything is kept."""
    found = []
    for name, study in STUDIES.items():
        if arms := [arm for document, seed in study.documents(seeds) for arm in read_kept(document, seed, kept)]:
            found.append(section(name, arms))
    return found


def read_arms(store: ObjectStore, document: Document, seed: int) -> list[Arm]:
    """Read evaluations and histories of a finished experiment."""
    stages = [stage["name"] for stage in document["spec"]["stages"]]
    target = curve_of(read_history(store, stages[0]))[-1][1]
    found = []
    for stage in stages:
        history = read_history(store, stage)
        name = document["spec"]["curriculum"]["method"] if len(stages) == 1 else stage
        found.append(
            Arm(
                name=name,
                seed=seed,
                frames=int(history[-1]["frames"]),
                scores=scores_of(read_evaluation(store, stage)),
                to_teacher=frames_to_reach(curve_of(history), target) if stage != stages[0] else None,
                measures={key: early_and_late(history, key) for key in MEASURES if measured(history, key)},
                commit=read_commit(store, stage),
                kinds=scores_by_kind(read_evaluation(store, stage), document),
            )
        )
    return found


def scores_of(evaluation: Evaluation) -> tuple[float, float]:
    """Return the mean scores of one trial and of the last of five."""
    return evaluation.summary(AGENT, 1).mean.value, evaluation.summary(AGENT, 5).mean.value


def scores_by_kind(evaluation: Evaluation, document: Document) -> dict[str, float]:
    """Return the mean score of the last of five trials by template; nothing if all tasks are of one."""
    names = [template["name"] for template in document["spec"]["environment"]["templates"]]
    of = np.array([template_of(task) for task in evaluation.tasks])
    scores = evaluation.scores[AGENT][5]
    return {name: float(scores[of == n].mean()) for n, name in enumerate(names)} if len(names) > 1 else {}


def section(name: str, arms: Sequence[Arm]) -> list[str]:
    """Return the study's part of docs/results.md."""
    study, commits = STUDIES[name], " and ".join(sorted({arm.commit for arm in arms}))
    columns = {"frames to the first stage's score": reached} if study.compares else {}
    columns |= {
        f"k=5, {kind}": partial(score_of, kind) for kind in sorted({kind for arm in arms for kind in arm.kinds})
    }
    columns |= {
        f"{MEASURES[key]}, early to late": partial(moved, key)
        for key in MEASURES
        if not study.compares and len({value for arm in arms for value in arm.measures.get(key, ())}) > 1
    }
    lines = [
        f"## Study: {name}",
        "",
        study.what,
        f"`python -m benchmarks.results.studies {name}`, trained at commit {commits}.",
        "",
        f"| {' | '.join(['', 'seed', 'frames', 'k=1', 'k=5', *columns])} |",
        "|" + "---|" * (5 + len(columns)),
    ]
    for arm in sorted(arms, key=lambda arm: (arm.name, arm.seed)):
        one, five = arm.scores
        cells = [arm.name, f"{arm.seed}", f"{arm.frames:,}", f"{one:.3f}", f"{five:.3f}"]
        lines.append(f"| {' | '.join([*cells, *(cell(arm) for cell in columns.values())])} |")
    return lines


def reached(arm: Arm) -> str:
    """Return the frames until an arm had the first stage's score; nothing for that stage."""
    if arm.name in FIRST:
        return ""
    return "not reached" if arm.to_teacher is None else f"{arm.to_teacher:,.0f}"


def score_of(kind: str, arm: Arm) -> str:
    """Return an arm's score on one kind of tasks."""
    return f"{arm.kinds[kind]:.3f}" if kind in arm.kinds else ""


def moved(key: str, arm: Arm) -> str:
    """Return a measure early and late."""
    return f"{arm.measures[key][0]:.2f} to {arm.measures[key][1]:.2f}" if key in arm.measures else ""


def main(arguments: Sequence[str]) -> int:
    """Run a study's seeds and print its section."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results.studies", description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument(
        "--frames", type=int, help="of each stage, instead of the study's own (example: --frames 500000)"
    )
    parser.add_argument("--directory", type=Path, default=ROOT / "runs" / "studies", help="where the runs go")
    parser.add_argument("--kept", type=Path, default=KEPT, help="where what came of them is kept")
    parser.add_argument("--page", action="store_true", help="write the section of docs/results.md and run nothing")
    options = parser.parse_args(arguments)
    find = read_kept if options.page else partial(arms_of, runs=options.directory)
    documents = STUDIES[options.study].documents(options.seeds, options.frames)
    arms = [arm for document, seed in documents for arm in find(document, seed, options.kept)]
    lines = section(options.study, arms)
    if options.page:
        put_section(lines)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
