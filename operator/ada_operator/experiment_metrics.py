"""Metrics of experiments, `ada_experiment_*`: what spec and status say, for alerts and dashboards.

The operator exports them for every experiment it acts on, `ada run` for its own. The number of series of an experiment
is bounded by the number of its stages, of phases and of causes of failure.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ada_api.experiment import AdaExperiment
from ada_api.status import ExperimentStatus, Phase, StageStatus

PREFIX = "ada_experiment_"


@dataclass(frozen=True)
class Seen:
    """An experiment as it was last looked at."""

    experiment: AdaExperiment
    status: ExperimentStatus

    @property
    def name(self) -> str:
        """Return the value of the label `experiment`."""
        return f"{self.experiment.metadata.namespace}/{self.experiment.metadata.name}"

    @property
    def stage(self) -> StageStatus | None:
        """Return the stage that the experiment is at; the last one if all are over."""
        stages = self.status.stages
        return next((one for one in stages if one.phase != "Succeeded"), stages[-1] if stages else None)

    @property
    def fewest_nodes(self) -> int:
        """Return the fewest nodes with which the present stage trains."""
        wanted = {stage.name: stage.trainer.nodes.min for stage in self.experiment.spec.stages}
        return wanted.get(self.stage.name, 0) if self.stage else 0


Figure = Callable[[Seen], float | None]

OF_EXPERIMENT: dict[str, tuple[str, Figure]] = {
    "nodes_ready": ("Trainer nodes that are up.", lambda one: one.status.nodes.ready),
    "nodes_desired": ("Trainer nodes that are wanted.", lambda one: one.status.nodes.desired),
    "nodes_min": ("Fewest nodes with which the present stage trains.", lambda one: one.fewest_nodes),
    "goodput_ratio": (
        "Training seconds as a share of them and the lost seconds.",
        lambda one: one.status.goodput,
    ),
    "training_seconds": ("Time in which the group trained.", lambda one: one.status.training_seconds),
    "checkpoint_interval_seconds": (
        "Longest time between commits, as the spec has it.",
        lambda one: one.experiment.spec.checkpoint.interval_seconds,
    ),
}
OF_STAGE: dict[str, tuple[str, Callable[[StageStatus], float | None]]] = {
    "frames": ("Frames learned from.", lambda stage: stage.frames),
    "frames_wanted": ("Frames to learn from.", lambda stage: stage.frames_total),
    "score": ("Mean last-trial return of recent episodes, share of trial time.", lambda stage: stage.score),
    "best_score": ("The best of it since the present group started.", lambda stage: stage.best_score),
    "generation": ("Number of the newest training group.", lambda stage: stage.generation),
}


class ExperimentMetrics(Collector):
    """Everything about the experiments that `seen` returns when Prometheus asks."""

    def __init__(self, seen: Callable[[], Iterable[Seen]]) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        seen = list(self._seen())
        yield _phases(seen)
        yield _conditions(seen)
        for name, (words, value_of) in OF_EXPERIMENT.items():
            family = GaugeMetricFamily(PREFIX + name, words, labels=["experiment"])
            for one in seen:
                if (value := value_of(one)) is not None:
                    family.add_metric([one.name], value)
            yield family
        for name, (words, figure_of) in OF_STAGE.items():
            family = GaugeMetricFamily(PREFIX + name, words, labels=["experiment", "stage"])
            for one in seen:
                if one.stage is not None and (value := figure_of(one.stage)) is not None:
                    family.add_metric([one.name, one.stage.name], value)
            yield family
        yield _speeds(seen)
        yield _failures(seen)
        yield _lost(seen)


def _phases(seen: list[Seen]) -> Metric:
    """Return a gauge with all phases: a sum over some of them is then never missing."""
    family = GaugeMetricFamily(PREFIX + "phase", "1 for the phase it is in, else 0.", labels=["experiment", "phase"])
    for one in seen:
        for phase in get_args(Phase):
            family.add_metric([one.name, phase], float(one.status.phase == phase))
    return family


def _conditions(seen: list[Seen]) -> Metric:
    family = GaugeMetricFamily(
        PREFIX + "condition", "1 for each condition that holds, with its reason.",
        labels=["experiment", "type", "reason"],
    )  # fmt: skip
    for one in seen:
        for condition in one.status.conditions:
            if condition.status == "True":
                family.add_metric([one.name, condition.type, condition.reason], 1.0)
    return family


def _speeds(seen: list[Seen]) -> Metric:
    """Return the speed of groups that train: what does not train has none, which is not the same as a speed of 0."""
    family = GaugeMetricFamily(
        PREFIX + "frames_per_second", "Speed while it trains.", labels=["experiment", "stage"]
    )  # fmt: skip
    for one in seen:
        if one.stage is not None and one.status.phase == "Training":
            family.add_metric([one.name, one.stage.name], one.status.frames_per_second)
    return family


def _failures(seen: list[Seen]) -> Metric:
    family = CounterMetricFamily(
        PREFIX + "failures", "Failures of training groups and lost nodes, by cause.",
        labels=["experiment", "stage", "cause"],
    )  # fmt: skip
    for one in seen:
        for stage in one.status.stages:
            for cause, count in stage.restarts.model_dump().items():
                family.add_metric([one.name, stage.name, cause], count)
    return family


def _lost(seen: list[Seen]) -> Metric:
    family = GaugeMetricFamily(
        PREFIX + "lost_seconds", "Time in which the group should have trained and did not, by cause.",
        labels=["experiment", "cause"],
    )  # fmt: skip
    for one in seen:
        for cause, lost_s in one.status.lost_seconds.model_dump().items():
            family.add_metric([one.name, cause], lost_s)
    return family
