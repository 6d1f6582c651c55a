"""What the tests of the training program share: a small experiment, a curriculum in memory, simulators in process."""

import itertools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from ada_api.environment import Environment
from ada_api.experiment import AdaExperiment
from ada_api.progress import Progress, StageProgress
from ada_curriculum.client import Advance
from ada_curriculum.manifest import CURRICULUM, open_checkpoint, read_object
from ada_curriculum.record import FEWEST_EPISODES
from ada_curriculum.store import open_store
from ada_curriculum.types import Lease, Result
from ada_sim.batch import BatchSim, TimeStep
from ada_trainer import resuming
from ada_trainer.elastic.group import Group
from ada_trainer.exits import ConfigurationError as ConfigurationError
from ada_trainer.loop import Ending, Worker
from ada_trainer.settings import Settings, find_stage


def tiny_experiment(frames: int = 400, **algorithm: Any) -> AdaExperiment:
    """Return an experiment of one stage that trains in a second."""
    return AdaExperiment.model_validate(
        {
            "apiVersion": "ada.dev/v1alpha1",
            "kind": "AdaExperiment",
            "metadata": {"name": "tiny"},
            "spec": {
                "seed": 3,
                "environment": {
                    "observation": "symbolic",
                    "trials": {"min": 1, "max": 2},
                    "trialSeconds": [1],
                    "actionGroups": ["move", "turn"],
                    "world": {"size": {"min": 6, "max": 8}, "levels": {"min": 1, "max": 1}},
                },
                "curriculum": {"method": "uniform"},
                "stages": [
                    {
                        "name": "teacher",
                        "frames": frames,
                        "model": {"preset": "nano", "core": "gru"},
                        "algorithm": {"worlds": 4, "unroll": 10, "epochs": 1, "minibatches": 2, **algorithm},
                        "trainer": {"nodes": {"min": 1, "max": 2}},
                        "simulators": {"replicas": 2},
                    }
                ],
                "checkpoint": {"intervalSeconds": 3600},
            },
        }
    )


def settings_of(experiment: AdaExperiment, directory: Path, **changes: Any) -> Settings:
    """Return a worker's settings, with a store in a directory."""
    store = open_store(directory.as_uri()).child("default/tiny")
    values: dict[str, Any] = {
        "experiment": experiment,
        "stage": find_stage(experiment, "teacher"),
        "min_nodes": 1,
        "max_nodes": 1,
        "rendezvous_id": "tiny-1",
        "host": "127.0.0.1",
        "port": 0,
        "token": "secret",
        "curriculum_address": "nowhere:1",
        "rendezvous_address": "nowhere:1",
        "simulator_addresses": ("one", "two"),
        "store_uri": store.uri,
        "teacher": None,
        "resume": None,
    }
    return Settings(**{**values, **changes})


class MemoryCurriculum:
    """A curriculum service in this process: tasks 0, 1, 2, ... and every request written down."""

    def __init__(self) -> None:
        self.next_task = 0
        self.stage = StageProgress(stage="teacher")
        self.asked: list[tuple[Any, ...]] = []
        self.results: list[Result] = []
        self.score = 0.0
        self.stop_at = self.commit_at = 1 << 60  # frames
        self.lock = threading.Lock()

    def progress(self) -> Progress:
        return Progress(experiment="default/tiny", stages=[self.stage])

    def register(self, stage: str, generation: int, workers: int) -> None:
        assert generation > self.stage.generation
        self.stage = self.stage.model_copy(update={"generation": generation, "workers": workers})
        self.asked.append(("register", generation))

    def lease(self, stage: str, generation: int, worker: str, count: int) -> list[Lease]:
        with self.lock:
            tasks = range(self.next_task, self.next_task + count)
            self.next_task += count
        return [Lease(str(task), task, 1 + task % 2, 1000 + task, True, "agent") for task in tasks]

    def report(self, stage: str, generation: int, worker: str, results: list[Result]) -> None:
        self.results.extend(results)

    def advance(self, stage: str, generation: int, frames: int, *_: Any) -> Advance:
        self.stage = self.stage.model_copy(update={"frames": frames})
        self.asked.append(("advance", frames))
        return Advance(commit=frames >= self.commit_at, stop=frames >= self.stop_at)

    def snapshot(self, stage: str) -> bytes:
        returns = np.full((FEWEST_EPISODES, 2), np.nan)
        returns[:, 0] = self.score
        return safetensors.numpy.save({"recent_returns": returns, "next_task": np.array([self.next_task])})

    def history(self, stage: str) -> list[dict[str, Any]]:
        return []

    def commit(self, stage: str, generation: int, uri: str, digest: str, frames: int) -> None:
        self.asked.append(("commit", frames))

    def restore(self, stage: str, generation: int, uri: str, digest: str) -> None:
        store, checkpoint = open_checkpoint(uri, digest)
        arrays = safetensors.numpy.load(read_object(store, checkpoint, CURRICULUM))
        self.next_task = int(arrays["next_task"][0])
        self.asked.append(("restore", checkpoint.manifest.frames))

    def finish(self, stage: str, generation: int, outcome: str, message: str = "") -> None:
        self.asked.append(("finish", outcome))

    def close(self) -> None:
        pass


class LocalSimulator:
    """BatchSim behind the face of a connection; may be told to break at a step."""

    def __init__(self, worlds: int, environment: Environment, breaks_at: int = 1 << 60) -> None:
        self._simulator = BatchSim(worlds, environment)
        self.worlds = worlds
        self._steps, self._breaks_at = 0, breaks_at

    def assign(self, worlds: np.ndarray, tasks: np.ndarray, trials: np.ndarray, seeds: np.ndarray) -> None:
        self._simulator.assign(worlds, tasks, trials, seeds)

    def send_step(self, actions: np.ndarray) -> None:
        self._steps += 1
        if self._steps == self._breaks_at:
            raise ConnectionResetError("the simulator is gone")
        self._actions = actions

    def receive(self) -> TimeStep:
        return self._simulator.step(self._actions)

    def timestep(self) -> TimeStep:
        return self._simulator.timestep()

    def close(self) -> None:
        self._simulator.close()


class Run:
    """One worker that may be started anew, as after a crash, on one store and one curriculum."""

    def __init__(self, directory: Path, experiment: AdaExperiment, curriculum: MemoryCurriculum | None = None) -> None:
        self.settings = settings_of(experiment, directory)
        self.store = open_store(self.settings.store_uri)
        self.curriculum = curriculum or MemoryCurriculum()
        self.told = threading.Event()
        self.connections = itertools.count()

    def connect(self, address: str, worlds: int) -> LocalSimulator:
        return LocalSimulator(worlds, self.settings.experiment.spec.environment)

    def start(self) -> Worker:
        """Return a worker that has found where to begin."""
        group = Group()
        client: Any = self.curriculum
        start = resuming.agree_on_start(self.settings, group, self.store, client)
        worker = Worker(self.settings, group, self.store, client, start, self.told, connect=self.connect)
        worker.restore(resuming.read_start(self.settings, group, start))
        return worker

    def train(self) -> tuple[Ending, Worker]:
        """Start a worker and train until it ends."""
        worker = self.start()
        try:
            return worker.train(), worker
        finally:
            worker.close()
