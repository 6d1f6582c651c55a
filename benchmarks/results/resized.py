"""`python -m benchmarks.results.resized`: does a run that was resized twice end where one that was not does?

Real programs: rendezvous store, curriculum service, simulators, launchers. For each seed one group of two nodes runs to
its end undisturbed. In another the second node is told to leave (SIGTERM) after a third of the frames and started again
at once, so the group has two nodes, one, and two again; where in the run it came back is in the table. Both agents then
play the same held-out tasks. Writes docs/resized.md; a run that was made before, in the same directory, is only read.
"""

import argparse
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ada_api.environment import Environment
from ada_api.stages import CheckpointReference
from ada_curriculum.manifest import StoredCheckpoint, list_checkpoints
from ada_curriculum.store import ObjectStore, open_store
from ada_sim.tasks.source import TaskSource
from ada_trainer.checkpoint import read_agent
from ada_trainer.evaluation.episodes import Policy, draw_tasks, play
from ada_trainer.evaluation.policies import AgentPolicy, RandomPolicy
from ada_trainer.evaluation.program import build_network
from benchmarks.groups import OurGroup
from benchmarks.results.tables import ROOT, curve_of, read_history

PAGE = ROOT / "docs" / "resized.md"
PATIENCE_S = 1800.0
FRAMES = 240_000
TASKS, TRIALS = 256, 4
STAGE, STORE = "only", "default/resized"
TARGET = 0.9  # smoothed score in training
ENVIRONMENT: dict[str, Any] = {
    "observation": "symbolic",
    "trials": {"min": 2, "max": 4},
    "actionGroups": ["move", "turn"],
    "generatedWeight": 0,
    "templates": [
        {
            "name": "go-there",
            "text": "X, Y: distinct types\n\nroom 3x3\ntrial 4 s\n\nobject X anywhere\nobject Y anywhere\n"
            "player anywhere\n\ngoal near(player, X)\n",
        }
    ],
}


@dataclass(frozen=True)
class Membership:
    """Workers of a generation, and the frames at which it was first seen."""

    generation: int
    workers: int
    frames: int


@dataclass(frozen=True)
class Outcome:
    """What one run gave."""

    seed: int
    resized: bool
    score: float  # share of a trial's time in the goal, mean over held-out tasks and trials
    learned_at: int  # frames after which the smoothed score in training was TARGET
    frames: int
    updates: int
    memberships: tuple[Membership, ...]


def experiment(seed: int) -> dict[str, Any]:
    """Return a task that is learned in a minute: go to the object that the goal names, of two."""
    stage = {
        "name": STAGE,
        "frames": FRAMES,
        "model": {"preset": "nano", "core": "gru"},
        "algorithm": {"learningRate": 0.002, "worlds": 64, "unroll": 30, "minibatches": 4},
        "trainer": {"nodes": {"min": 1, "max": 2}},
        "simulators": {"replicas": 2},
    }
    return {
        "apiVersion": "ada.dev/v1alpha1",
        "kind": "AdaExperiment",
        "metadata": {"name": "resized"},
        "spec": {
            "seed": seed,
            "environment": ENVIRONMENT,
            "curriculum": {"method": "plr", "plr": {"trainOnNewTasks": True}},
            "stages": [stage],
            "checkpoint": {"intervalSeconds": 3600},
        },
    }


def run(seed: int, folder: Path, *, resized: bool) -> Outcome:
    """Train one seed, or read what an earlier call found."""
    known = folder / "outcome.json"
    if known.exists():
        return from_json(known.read_text(encoding="utf-8"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    document = experiment(seed)
    with OurGroup(folder, document) as group:
        memberships = train(group, resized=resized)
        progress, store = group.progress(), open_store(group.store_uri).child(STORE)
    score = score_of(document, list_checkpoints(store, STAGE)[-1])
    outcome = Outcome(seed, resized, score, learned_at(store), progress.frames, progress.updates, tuple(memberships))
    known.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    return outcome


def from_json(text: str) -> Outcome:
    """Return an outcome that was written down."""
    fields = json.loads(text)
    return Outcome(**{**fields, "memberships": tuple(Membership(**one) for one in fields["memberships"])})


def train(group: OurGroup, *, resized: bool) -> list[Membership]:
    """Watch the group to its end, disturbing it if asked to; returns its memberships. Raises RuntimeError."""
    seen: list[Membership] = []

    def until(claim: str, condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + PATIENCE_S
        while True:
            now = group.progress()
            if now.workers and (not seen or seen[-1].generation != now.generation):
                seen.append(Membership(now.generation, now.workers, now.frames))
            if condition():
                return
            if time.monotonic() > give_up:
                raise RuntimeError(f"not within {PATIENCE_S:g} s: {claim}; {group.log()}")
            time.sleep(0.02)

    until("two workers train", lambda: group.progress().workers == 2)
    if resized:
        until("a third of the frames", lambda: group.progress().frames >= FRAMES // 3)
        group.nodes[1].send_signal(signal.SIGTERM)
        until("the node leaves", lambda: group.nodes[1].poll() is not None)
        group.nodes[1] = group.launch(1)
    until("the stage is trained", lambda: group.progress().phase == "trained")
    sizes = [one.workers for one in seen]
    if resized and [size for at, size in enumerate(sizes) if at == 0 or sizes[at - 1] != size][-3:] != [2, 1, 2]:
        raise RuntimeError(f"the group was to have 2 workers, 1 and 2 again, but had {sizes}: give it more frames")
    return seen


def score_of(document: dict[str, Any], checkpoint: StoredCheckpoint) -> float:
    """Let an agent play the held-out tasks."""
    record, parameters = read_agent(CheckpointReference(uri=checkpoint.uri, digest=checkpoint.digest))
    return play_held_out(document, AgentPolicy(build_network(record, parameters), seed=1))


def play_held_out(document: dict[str, Any], policy: Policy) -> float:
    """Return the mean share of time in the goal; the same tasks and seeds for everyone."""
    environment = Environment.model_validate(document["spec"]["environment"])
    source = TaskSource(environment)
    with torch.inference_mode():
        shares = play(environment, source, draw_tasks(source, TASKS, seed=1), TRIALS, policy, seed=1)
    return float(shares.mean())


def learned_at(store: ObjectStore) -> int:
    """Return after how many frames a run had learned its task; FRAMES if it had not."""
    return next((int(frames) for frames, score in curve_of(read_history(store, STAGE)) if score >= TARGET), FRAMES)


def page(outcomes: Sequence[Outcome], by_chance: float) -> list[str]:
    """Return docs/resized.md."""
    undisturbed, resized = ([one for one in outcomes if one.resized is which] for which in (False, True))
    ends, their_ends = (np.array([one.score for one in runs]) for runs in (undisturbed, resized))
    starts, their_starts = (np.array([one.learned_at / 1000 for one in runs]) for runs in (undisturbed, resized))
    inside = sum(bool(ends.min() <= score <= ends.max()) for score in their_ends)
    return [
        "# Resized runs",
        "",
        "Written by `python -m benchmarks.results.resized`. A group of two nodes trains to its end undisturbed, or its",
        "second node is told to leave after a third of the frames and started again at once. Real programs on one",
        f"machine, PPO, {FRAMES:,} frames; the task is to go to the object that the goal names, of two. Scores are the",
        f"share of a trial's time in the goal, mean over {TASKS} held-out tasks and {TRIALS} trials; a random policy",
        f"has {by_chance:.3f}. *Learned* is the frame from which on the smoothed score in training was {TARGET}: a run",
        "that learned late had less time to become better than that.",
        "",
        "| seed | resized | workers, and the frame from which on | updates | frames at the end | learned | score |",
        "|---|---|---|---|---|---|---|",
        *map(line, outcomes),
        "",
        f"* Score, undisturbed: {summary(ends, 3)}.",
        f"* Score, resized twice: {summary(their_ends, 3)}; {inside} of them within the range of the undisturbed ones.",
        f"* The mean scores differ by {difference(ends, their_ends, 3)}.",
        f"* Learned after so many thousand frames, undisturbed: {summary(starts, 0)}.",
        f"* Resized twice: {summary(their_starts, 0)}.",
        f"* These means differ by {difference(starts, their_starts, 0)}.",
    ]


def line(outcome: Outcome) -> str:
    """Return one row of the table."""
    members = ", ".join(f"{one.workers} from {one.frames:,}" for one in outcome.memberships)
    twice = "twice" if outcome.resized else "no"
    figures = f"{outcome.updates} | {outcome.frames:,} | {outcome.learned_at:,} | {outcome.score:.3f}"
    return f"| {outcome.seed} | {twice} | {members} | {figures} |"


def summary(values: np.ndarray, places: int) -> str:
    """Describe one value a seed, float [seeds]."""
    mean, deviation, least, most = (
        f"{value:.{places}f}" for value in (values.mean(), values.std(ddof=1), values.min(), values.max())
    )
    return f"mean {mean}, standard deviation {deviation}, from {least} to {most}, {len(values)} seeds"


def difference(values: np.ndarray, others: np.ndarray, places: int) -> str:
    """Say by how much the second mean is above the first, and how well that is known."""
    error = float(np.sqrt(values.var(ddof=1) / len(values) + others.var(ddof=1) / len(others)))
    return f"{others.mean() - values.mean():+.{places}f}, with a standard error of {error:.{places}f}"


def main(arguments: Sequence[str]) -> int:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results.resized", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="from 1 on")
    parser.add_argument("--directory", type=Path, default=ROOT / "runs" / "resized", help="where the runs are kept")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    outcomes = []
    for seed in range(1, options.seeds + 1):
        for resized in (False, True):
            name = f"{seed}-{'resized' if resized else 'undisturbed'}"
            outcomes.append(run(seed, options.directory / name, resized=resized))
            print(outcomes[-1], flush=True)
    by_chance = play_held_out(experiment(1), RandomPolicy(1))
    PAGE.write_text("\n".join(page(outcomes, by_chance)) + "\n", encoding="utf-8")
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
