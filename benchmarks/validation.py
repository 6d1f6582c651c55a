"""`python -m benchmarks.validation [TASK ...]`: our learner beside a published PPO on tasks that others know.

Tasks and their thresholds stand in peers/tasks.py; both sides see the same numbers, choose among the same actions and
are counted by the same tally. Ours is the agent of the experiments, `nano`, on all tasks: a task's numbers take the
place of `ranges`, but of the quickstart's own (one_try.py) it sees the fields as they are. The peer is
Stable-Baselines3 with its published settings (peers/sb3_ppo.py). A run ends when its task is solved or its frames are
spent, and leaves one JSON file; what is there already, made with the present settings, is only read.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal

import torch

from ada_api.stages import AgentModel, Algorithm, Muesli
from ada_curriculum.types import Lease
from ada_sim.constants import ACTION_GROUPS, ACTION_SIZES
from ada_sim.observation import specification
from ada_trainer.learner import Learner
from ada_trainer.networks.agent import AgentNetwork
from ada_trainer.rollout import Collector
from benchmarks import one_try
from benchmarks.peer import ROOT, SCRIPTS, PeerUnavailableError, interpreter
from benchmarks.peers import tasks
from benchmarks.peers.tasks import ONE_TRY, Served, Tally, Task
from benchmarks.validation_worlds import GROUP, CutCollector, Normalised, Worlds, fields_of

RUNS = ROOT / "docs" / "validation"
Core = Literal["transformer-xl", "gru", "gru-attention"]
SYSTEMS = ("muesli", "ppo", "peer")
POINTS = 20  # of a curve
PUBLISHED = "published; see peers/sb3_ppo.py"


@dataclass(frozen=True)
class Setting:
    """How our learner meets a task; the same for both algorithms but for what `ALGORITHMS` says."""

    frames: int  # budget of every system
    unroll: int
    discount: float
    worlds: int = 16
    learning_rate: float = 1e-3
    entropy_weight: float = 0.01
    reward_scale: float = 1.0
    core: Core = "transformer-xl"
    memory: int | None = None  # cached timesteps, where it is not the preset's 60
    normalised: bool = False  # the task's numbers, as the zoo does for the peer
    trace_decay: float = 0.95
    minibatches: int = 2
    epochs: int = 4
    muesli: dict[str, Any] = field(default_factory=dict)


SETTINGS = {
    "catch": Setting(100_000, unroll=18, discount=0.97, learning_rate=2e-3, minibatches=4),
    # All that matters is seen at each timestep, so the agent remembers one, and the peer none. The scale of advantages
    # is remembered long, lest it fall where all goes well and noise be learned from at full strength. The other three
    # of Muesli's are for many passes over a batch (docs/decisions/0010).
    "cartpole": Setting(
        150_000,
        unroll=32,
        discount=0.98,
        worlds=8,
        epochs=8,
        entropy_weight=0.0,
        reward_scale=0.1,
        memory=1,
        trace_decay=0.8,
        minibatches=4,
        muesli={
            "variance_decay": 0.9995,
            "policy_gradient_clip": 0.2,
            "center_advantages": True,
            "birth_slope": 2.0,
        },
    ),
    "tmaze": Setting(400_000, unroll=64, discount=0.99),
    # Rewards are rare and small, and bins stand 0.2 apart: on a larger scale values are told apart better.
    "doorkey": Setting(
        100_000,
        unroll=128,
        discount=0.99,
        worlds=8,
        learning_rate=2e-3,
        epochs=8,
        entropy_weight=0.0,
        reward_scale=5.0,
        normalised=True,
        muesli={"policy_gradient_weight": 6.0},
    ),
    # To look for what is to be remembered costs time before it is worth anything: hence the entropy.
    "memory": Setting(
        500_000,
        unroll=64,
        discount=0.997,
        worlds=32,
        entropy_weight=0.1,
        reward_scale=2.0,
        normalised=True,
        minibatches=8,
        muesli={"value_weight": 0.5},
    ),
    # As the quickstart's teacher.
    ONE_TRY: Setting(
        7_000_000,
        unroll=90,
        discount=0.95,
        worlds=256,
        learning_rate=2e-3,
        entropy_weight=0.02,
        reward_scale=0.1,
        core="gru",
        minibatches=8,
        epochs=2,
        muesli={"policy_gradient_weight": 6.0},
    ),
}
MUESLI = {"samples": 8, "bins": 51, "value_range": 5.0, "policy_gradient_weight": 3.0, "model_stride": 2}


@dataclass(frozen=True)
class Run:
    """What one system did with one task and seed."""

    task: str
    system: str
    seed: int
    frames: int  # played
    solved_at: int | None
    curve: list[tuple[int, float]]  # frames, mean return of the last 100 episodes
    processor_s: float
    settings: str


def algorithm_of(setting: Setting, name: str) -> Algorithm:
    """Return the settings of ours."""
    return Algorithm.model_validate(
        {
            "name": name,
            "worlds": setting.worlds,
            "unroll": setting.unroll,
            "minibatches": setting.minibatches,
            "epochs": setting.epochs,
            "discount": setting.discount,
            "reward_scale": setting.reward_scale,
            "trace_decay": setting.trace_decay,
            "learning_rate": setting.learning_rate,
            "entropy_weight": setting.entropy_weight,
            "muesli": Muesli(**MUESLI | setting.muesli),
        }
    )


def make(task: str, worlds: int, seed: int) -> Task:
    """Return copies of a task, in the peers' environment where it needs that."""
    if task not in tasks.MINIGRID:
        return tasks.make(task, worlds, seed)
    return Served([str(interpreter()), str(SCRIPTS / "serve_task.py"), task, str(worlds), str(seed)], worlds)


def network_of(setting: Setting, muesli: Muesli | None, made: Task | None) -> AgentNetwork:
    """Return the agent for a task, or for the quickstart's own."""
    model = AgentModel(preset="nano", core=setting.core, memory=setting.memory)
    if made is None:
        return AgentNetwork(model, specification(one_try.environment()), one_try.GROUPS, muesli)
    sizes = [made.actions if name == GROUP else size for name, size in zip(ACTION_GROUPS, ACTION_SIZES, strict=True)]
    return AgentNetwork(model, fields_of(made), [GROUP], muesli, sizes)


def players(task: str, made: Task | None, learner: Learner, settings: Algorithm, seed: int) -> tuple[Collector, Tally]:
    """Return what plays a task, and what counts that."""
    if made is None:
        sim, lent = one_try.CountedSim(settings.worlds), one_try.leases(seed)

        def lend(wanted: int) -> list[Lease]:
            return [next(lent) for _ in range(wanted)]

        return Collector(sim, settings.worlds, 1, learner.acting, settings, lend, seed=seed), sim.tally
    worlds = Worlds(made, tasks.tally(task, settings.worlds), settings.worlds)
    return CutCollector(worlds, learner.acting, settings, seed), worlds.tally


def learn(task: str, system: str, seed: int, frames: int, setting: Setting | None = None) -> Run:
    """Learn a task with our learner."""
    setting = setting or SETTINGS[task]
    settings, began = algorithm_of(setting, system), time.process_time()
    made = None if task == ONE_TRY else make(task, setting.worlds, seed)
    seen = Normalised(made) if made is not None and setting.normalised else made
    torch.manual_seed(seed)
    network = network_of(setting, settings.muesli if system == "muesli" else None, seen)
    learner = Learner(network, settings, seed=seed)
    collector, tally = players(task, seen, learner, settings, seed)
    curve = list[tuple[int, float]]()
    while tally.frames < frames and tally.solved_at is None:
        learner.update(collector.collect().batch, min(1.0, tally.frames / frames))
        if tally.frames >= frames * (len(curve) + 1) / POINTS:
            curve.append((tally.frames, round(tally.mean, 3)))
    if isinstance(made, Served):
        made.close()
    curve.append((tally.frames, round(tally.mean, 3)))
    seconds = time.process_time() - began
    return Run(task, system, seed, tally.frames, tally.solved_at, curve, seconds, settings_of(task, system, setting))


def settings_of(task: str, system: str, setting: Setting | None = None) -> str:
    """Return the settings of a run in words: one that was made with others is made again."""
    if system == "peer":
        return PUBLISHED
    setting = setting or SETTINGS[task]
    return json.dumps({**asdict(setting), "muesli": MUESLI | setting.muesli if system == "muesli" else None})


def run_peer(task: str, seed: int, frames: int) -> Run:
    """Have the peer learn a task, in its own process and environment."""
    command = [str(interpreter()), str(SCRIPTS / "sb3_ppo.py"), task, str(seed), str(frames)]
    if task == ONE_TRY:
        command += [sys.executable, "-m", "benchmarks.one_try"]
    began = _children_s()
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT) as process,
    ):
        assert process.stdout is not None
        lines = [told(line) for line in process.stdout if line.startswith(("at ", "solved ", "unsolved "))]
        if process.wait() or not lines:
            errors.seek(0)
            raise PeerUnavailableError(f"sb3_ppo.py {task}: {errors.read().strip()[-300:]}")
    points = [(int(at), float(mean)) for word, at, *rest in lines if word == "at" for mean in rest]
    curve = points[:: max(1, len(points) // POINTS)]
    word, at = lines[-1]
    solved = int(at) if word == "solved" else None
    return Run(task, "peer", seed, int(at), solved, curve, _children_s() - began, PUBLISHED)


def told(line: str) -> list[str]:
    """Return the words of a line, and show it: the peer may be at work for an hour."""
    print(line, end="", file=sys.stderr, flush=True)
    return line.split()


def _children_s() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def run(task: str, system: str, seed: int, frames: int, directory: Path) -> Run:
    """Run a system on a task, or read what an earlier call left."""
    file = directory / f"{task}-{system}-{seed}-{frames}.json"
    if file.exists() and is_present(kept := Run(**json.loads(file.read_text(encoding="utf-8")))):
        return kept
    done = run_peer(task, seed, frames) if system == "peer" else learn(task, system, seed, frames)
    directory.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(done)), encoding="utf-8")
    return done


def is_present(done: Run) -> bool:
    """Say whether a run was made with the present settings."""
    return done.settings == settings_of(done.task, done.system)


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation", description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(SETTINGS)}; all if none is named")
    parser.add_argument("--system", choices=SYSTEMS, action="append", help="only this one; may be repeated")
    parser.add_argument("--frames", type=int, help="instead of the task's own budget (example: --frames 20000)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--page", action="store_true", help="write the section of docs/results.md and run nothing")
    parser.add_argument("--directory", type=Path, default=RUNS, help="where the runs are kept")
    options = parser.parse_args(arguments)
    if unknown := set(options.tasks) - set(SETTINGS):
        parser.error(f"no task {', '.join(sorted(unknown))}; there are {', '.join(SETTINGS)}")
    if options.page:
        from benchmarks.results.tables import put_section
        from benchmarks.results.validation import read_runs, section

        put_section(section(read_runs(options.directory)))
        return 0
    torch.set_num_threads(1)
    for seed in range(1, options.seeds + 1):
        for task in options.tasks or SETTINGS:
            for system in options.system or SYSTEMS:
                frames = options.frames or SETTINGS[task].frames
                print(line_of(run(task, system, seed, frames, options.directory)), flush=True)
    return 0


def line_of(done: Run) -> str:
    """Return a run in words."""
    points = " ".join(f"{frames // 1000}k:{mean:.2f}" for frames, mean in done.curve)
    end = f"not solved in {done.frames}" if done.solved_at is None else f"solved at {done.solved_at}"
    return f"{done.task} {done.system} seed {done.seed}: {end} frames; {done.processor_s:.0f} processor s; {points}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
