"""The pages of all programs, made by the programs' own code and filled with an experiment that lives."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import start_http_server

from ada_api.curriculum import Curriculum, PrioritisedLevelReplay
from ada_api.environment import Environment
from ada_api.experiment import AdaExperiment
from ada_api.progress import CommittedCheckpoint
from ada_api.status import ExperimentStatus
from ada_curriculum.measures import TaskMeasures
from ada_curriculum.metrics import StageMetrics
from ada_curriculum.record import StageRecord
from ada_curriculum.requests import AdvanceRequest
from ada_curriculum.stage import StageCurriculum, make_method, random_generator
from ada_curriculum.types import Result
from ada_operator.metrics import OperatorMetrics
from ada_sim.health import HealthPage
from ada_sim.tasks.source import TaskSource
from ada_trainer.metrics import NodePage, WorkerMetrics

NAME = "default/tiny"
EXPERIMENT = AdaExperiment.model_validate(
    {
        "apiVersion": "ada.dev/v1alpha1",
        "kind": "AdaExperiment",
        "metadata": {"name": "tiny"},
        "spec": {"stages": [{"name": "teacher", "frames": 1000}]},
    }
)
CURRICULA = {
    "teacher": Curriculum(method="plr", plr=PrioritisedLevelReplay(min_archive_size=4, training_trials=2)),
    "student": Curriculum(method="noop-filter"),
}
FIGURES = {
    "loss": 0.5, "policyLoss": 0.1, "valueLoss": 0.2, "entropy": 3.0, "gradientNorm": 0.4, "distillationLoss": 0.3,
    "clippedShare": 0.1, "learningRate": 1e-3,
}  # fmt: skip


class Life:
    """One worker, one simulator, one curriculum service and one operator; `step` has a little of everything happen."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.steps = folder, 0
        self.operator = OperatorMetrics()
        self.operator.follow(lambda: 0.0, lambda: 1.0, lambda: True)
        self.node = NodePage(folder, NAME, "teacher")
        self.worker = WorkerMetrics(NAME, "teacher", 0)
        self.simulator = HealthPage(NAME)
        source = TaskSource(Environment())
        self.records = [
            StageRecord(
                stage,
                StageCurriculum(make_method(curriculum, None), source, random_generator(1, stage), 1),
                TaskMeasures(source.metrics),
            )
            for stage, curriculum in CURRICULA.items()
        ]
        for record in self.records:
            record.register(1, 1)
            record.checkpoint = CommittedCheckpoint(uri="file:///x", digest="sha256:0", frames=1, time=990.0)
        self.curriculum = CollectorRegistry()
        self.curriculum.register(StageMetrics(NAME, lambda: self.records, lambda: 1000.0 + self.steps))

    def step(self) -> None:
        """Let some time pass."""
        self.steps += 1
        self._operate()
        self._train()
        self._simulate()
        for record in self.records:
            self._lend(record)

    def _operate(self) -> None:
        restarts = {"code": self.steps // 4, "stall": self.steps // 5}
        stage = {
            "name": "teacher", "phase": "Training", "frames": 100 * self.steps, "framesTotal": 1000, "score": 0.5,
            "bestScore": 0.6, "generation": 2, "restarts": restarts,
        }  # fmt: skip
        failed = {"type": "Degraded", "status": "True", "reason": "FewerNodes", "lastTransitionTime": "now"}
        status = {
            "phase": "Training", "goodput": 0.9, "framesPerSecond": 70.0, "stages": [stage], "conditions": [failed],
            "nodes": {"ready": 1, "desired": 2}, "trainingSeconds": 5.0 * self.steps,
        }  # fmt: skip
        self.operator.note(("default", "tiny"), EXPERIMENT, ExperimentStatus.model_validate(status))
        self.operator.reconcile_seconds.observe(0.02)
        self.operator.errors.labels(reason="Conflict").inc()
        self.operator.applied.labels(action="apply").inc()

    def _train(self) -> None:
        worker, steps = self.worker, self.steps
        worker.counters = {
            "frames": 100 * steps, "updates": steps, "skipped_updates": steps // 3, "episodes": 4 * steps,
            "simulators_lost": steps // 6, "simulator_wait_seconds": 0.4 * steps, "commits": steps // 2,
            "store_errors": steps // 7,
        }  # fmt: skip
        worker.gauges = dict.fromkeys(
            (
                "world_size", "generation", "learning_rate", "frames_per_second", "goodput_ratio", "checkpoint_frames",
                "checkpoint_duration_seconds", "resident_bytes", "device_bytes",
            ),
            1.0,
        )  # fmt: skip
        worker.losses, worker.checkpoint_time, worker.training_since = FIGURES, 990.0, 980.0
        worker.spend({"collect": 0.5, "update": 0.3, "report": 0.1, "commit": 0.1})
        worker.write(self.folder, 0)
        self.node.restarts["regrouped"] += 1
        self.node.restarts["failed"] += steps % 2

    def _simulate(self) -> None:
        self.simulator.connections.set(1)
        self.simulator.worlds.set(16)
        self.simulator.generation.set(2)
        self.simulator.timesteps.inc(100)
        self.simulator.step_seconds.observe(0.001)
        self.simulator.idle_seconds.inc(0.1)
        self.simulator.refuse("token")

    def _lend(self, record: StageRecord) -> None:
        random = np.random.default_rng(self.steps)
        leases = record.curriculum.lease(20, float(self.steps))
        results = [Result(one.id, (0.5,) * one.trials, float(random.random()), 10) for one in leases]
        record.note(record.curriculum.apply(results))
        numbers = {"stage": record.name, "generation": 1, "frames": 100 * self.steps, "updates": self.steps}
        record.advance(AdvanceRequest.model_validate(numbers), 1000.0 + self.steps)
        record.curriculum.counts["expired"] += 1

    def serve(self) -> dict[str, str]:
        """Serve the four pages; returns their addresses by part."""
        operator = start_http_server(0, "127.0.0.1", self.operator.registry)
        curriculum = start_http_server(0, "127.0.0.1", self.curriculum)
        self.servers = [operator, curriculum]
        ports = {
            "operator": operator[0].server_port,
            "curriculum": curriculum[0].server_port,
            "trainer": self.node.serve("127.0.0.1", 0),
            "simulator": self.simulator.serve("127.0.0.1", 0),
        }
        return {part: f"127.0.0.1:{port}" for part, port in ports.items()}


@contextmanager
def living(life: Life, pause_s: float) -> Iterator[None]:
    """Let a life go on, step by step, as long as the block runs."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(pause_s):
            life.step()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for server, serving in life.servers:
            server.shutdown()
            server.server_close()
            serving.join()
