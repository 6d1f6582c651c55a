"""`python -m benchmarks.validation [TASK ...]`: our learner beside a published PPO on tasks that others know.

Tasks and their thresholds stand in peers/tasks.py; both sides see the same numbers, choose among the same actions and
are counted by the same tally. Ours is the agent of the experiments, `nano` with a GRU, on all tasks: a task's numbers
take the place of `ranges`. The peer is Stable-Baselines3 with its published settings (peers/sb3_ppo.py). A run ends
when its task is solved or its frames are spent, and leaves one JSON file; what is there already is only read.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ada_api.environment import Environment
from ada_api.stages import AgentModel, Algorithm, Muesli
from ada_curriculum.types import Lease
from ada_sim.batch import TimeStep
from ada_sim.constants import ACTION_GROUPS, ACTION_SIZES
from ada_sim.observation import Field, specification
from ada_trainer.learner import Learner
from ada_trainer.networks.agent import AgentNetwork
from ada_trainer.rollout import Collector
from benchmarks.peer import ROOT, SCRIPTS, PeerUnavailableError, interpreter
from benchmarks.peers import tasks
from benchmarks.peers.tasks import Step, Tally, Task

GROUP = "strafe"
RUNS = ROOT / "runs" / "validation"
SYSTEMS = ("muesli", "ppo", "peer")
POINTS = 20  # of a curve


@dataclass(frozen=True)
class Setting:
    """How our learner meets a task; the same for both algorithms but for what `ALGORITHMS` says."""

    frames: int  # budget of every system
    unroll: int
    discount: float
    worlds: int = 16
    learning_rate: float = 2e-3
    entropy_weight: float = 0.01
    reward_scale: float = 1.0
    minibatches: int = 4
    epochs: int = 4
    muesli: dict[str, Any] = field(default_factory=dict)


SETTINGS = {
    "catch": Setting(100_000, unroll=18, discount=0.97),
    "cartpole": Setting(150_000, unroll=32, discount=0.99, reward_scale=0.1),
    "tmaze": Setting(400_000, unroll=104, discount=0.98),
    "doorkey": Setting(300_000, unroll=64, discount=0.99),
    "memory": Setting(500_000, unroll=64, discount=0.99),
}
MUESLI = {"samples": 8, "bins": 51, "value_range": 5.0, "policy_gradient_weight": 6.0, "model_stride": 2}


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


class Served:
    """A task that needs the peers' environment, stepped in a process there."""

    def __init__(self, name: str, worlds: int, seed: int) -> None:
        self.worlds = worlds
        command = [str(interpreter()), str(SCRIPTS / "serve_task.py"), name, str(worlds), str(seed)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._told, self._heard = self._process.stdin, self._process.stdout
        word, *figures = self._heard.readline().decode().split() or [""]
        if word != "ready":
            raise PeerUnavailableError(f"serve_task.py {name} ended before it began")
        self.numbers, self.actions, self.best = int(figures[0]), int(figures[1]), float(figures[2])
        self._seen = self._read(self.numbers)

    def look(self) -> np.ndarray:
        """Return what is seen now."""
        return self._seen

    def step(self, actions: np.ndarray) -> Step:
        """Take a timestep over there."""
        self._told.write(actions.astype(np.uint8).tobytes())
        self._told.flush()
        self._seen, last = self._read(self.numbers), self._read(self.numbers)
        reward, ended, cut = (self._read(1)[:, 0] for _ in range(3))
        return Step(reward.astype(np.float64), ended > 0, cut > 0, last)

    def close(self) -> None:
        """End the process: its input ends."""
        self._told.close()
        self._process.wait()
        self._heard.close()

    def _read(self, numbers: int) -> np.ndarray:
        size = self.worlds * numbers * 4
        if len(data := self._heard.read(size)) < size:
            raise PeerUnavailableError("the process of the task ended")
        return np.frombuffer(data, np.float32).reshape(self.worlds, numbers)


class Worlds:
    """A task behind the face of a simulator."""

    def __init__(self, task: Task, fields: Sequence[Field], worlds: int) -> None:
        self.task, self.fields, self.worlds = task, fields, worlds
        self.tally, self.started = Tally(worlds, task.best), False

    def assign(self, worlds: np.ndarray, tasks: np.ndarray, trials: np.ndarray, seeds: np.ndarray) -> None:
        """Take no note: every episode is of the same task."""

    def step(self, actions: np.ndarray) -> TimeStep:
        """Advance all copies; the first step only looks."""
        reward, ended = np.zeros(self.worlds), np.zeros(self.worlds, bool)
        started = ~ended
        if self.started:
            step = self.task.step(actions[:, 0, ACTION_GROUPS.index(GROUP)].astype(np.int64))
            self.tally.add(step)
            reward, ended = step.reward, step.ended
            started = ended
        self.started = True
        seen = {one.name: np.zeros((self.worlds, 1, *one.shape), one.dtype) for one in self.fields}
        seen["ranges"][:, 0] = self.task.look()
        seen["last_action"][:, 0] = np.where(started[:, None], 0, actions[:, 0] + 1)
        seen["last_reward"][:, 0, 0] = np.where(started, 0, reward)
        trial = np.where(ended, 0, -1).astype(np.int16)
        everywhere = np.ones(self.worlds, bool)
        return TimeStep(seen, reward[:, None].astype(np.float32), trial, ended, started, everywhere)


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
            "learning_rate": setting.learning_rate,
            "entropy_weight": setting.entropy_weight,
            "muesli": Muesli(**MUESLI | setting.muesli),
        }
    )


def make(task: str, worlds: int, seed: int) -> Task:
    """Return copies of a task, in the peers' environment where it needs that."""
    return Served(task, worlds, seed) if task in tasks.MINIGRID else tasks.make(task, worlds, seed)


def learn(task: str, system: str, seed: int, frames: int, setting: Setting | None = None) -> Run:
    """Learn a task with our learner."""
    setting = setting or SETTINGS[task]
    settings, began = algorithm_of(setting, system), time.process_time()
    made = make(task, setting.worlds, seed)
    fields = [
        replace(one, shape=(made.numbers,)) if one.name == "ranges" else one
        for one in specification(Environment(observation="symbolic", action_groups=[GROUP]))
    ]
    sizes = [made.actions if name == GROUP else size for name, size in zip(ACTION_GROUPS, ACTION_SIZES, strict=True)]
    torch.manual_seed(seed)
    model = AgentModel(preset="nano", core="gru")
    network = AgentNetwork(model, fields, [GROUP], settings.muesli if system == "muesli" else None, sizes)
    learner = Learner(network, settings, seed=seed)
    worlds, numbers = Worlds(made, fields, setting.worlds), count()

    def lend(wanted: int) -> list[Lease]:
        return [Lease(str(next(numbers)), 0, 1, 0, True, "agent") for _ in range(wanted)]

    collector = Collector(worlds, setting.worlds, 1, learner.acting, settings, lend, seed=seed)
    tally, curve = worlds.tally, list[tuple[int, float]]()
    while tally.frames < frames and tally.solved_at is None:
        learner.update(collector.collect().batch, min(1.0, tally.frames / frames))
        if tally.frames >= frames * (len(curve) + 1) / POINTS:
            curve.append((tally.frames, round(tally.mean, 3)))
    if isinstance(made, Served):
        made.close()
    curve.append((tally.frames, round(tally.mean, 3)))
    used = json.dumps({**asdict(setting), "muesli": MUESLI | setting.muesli})
    return Run(task, system, seed, tally.frames, tally.solved_at, curve, time.process_time() - began, used)


def run_peer(task: str, seed: int, frames: int) -> Run:
    """Have the peer learn a task, in its own process and environment."""
    command = [str(interpreter()), str(SCRIPTS / "sb3_ppo.py"), task, str(seed), str(frames)]
    began = _children_s()
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line.split() for line in process.stdout.splitlines() if line.startswith(("at ", "solved ", "unsolved "))]
    if process.returncode or not lines:
        raise PeerUnavailableError(f"sb3_ppo.py {task}: {process.stderr.strip()[-300:]}")
    points = [(int(at), float(mean)) for word, at, *rest in lines if word == "at" for mean in rest]
    curve = points[:: max(1, len(points) // POINTS)]
    word, at = lines[-1]
    solved = int(at) if word == "solved" else None
    return Run(task, "peer", seed, int(at), solved, curve, _children_s() - began, "published; see peers/sb3_ppo.py")


def _children_s() -> float:
    import resource

    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def run(task: str, system: str, seed: int, frames: int, directory: Path) -> Run:
    """Run a system on a task, or read what an earlier call left."""
    file = directory / f"{task}-{system}-{seed}-{frames}.json"
    if file.exists():
        return Run(**json.loads(file.read_text(encoding="utf-8")))
    done = run_peer(task, seed, frames) if system == "peer" else learn(task, system, seed, frames)
    directory.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(done)), encoding="utf-8")
    return done


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation", description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(SETTINGS)}; all if none is named")
    parser.add_argument("--system", choices=SYSTEMS, action="append", help="only this one; may be repeated")
    parser.add_argument("--frames", type=int, help="instead of the task's own budget (example: --frames 20000)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=RUNS, help="where the runs are kept")
    options = parser.parse_args(arguments)
    if unknown := set(options.tasks) - set(SETTINGS):
        parser.error(f"no task {', '.join(sorted(unknown))}; there are {', '.join(SETTINGS)}")
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
