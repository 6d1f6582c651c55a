"""What Prometheus is told, read from the records when it asks."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ada_curriculum.record import StageRecord

Records = Callable[[], Iterable[StageRecord]]


class StageMetrics(Collector):
    """Gauges and counters by stage; the number of series is bounded by the number of stages."""

    def __init__(self, records: Records, clock: Callable[[], float]) -> None:
        self._records = records
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        records = list(self._records())
        yield from self._progress(records)
        yield from self._leases(records)
        figures = GaugeMetricFamily(
            "ada_curriculum_figure",
            "Figures of the method: archive size, fitness, staleness.",
            labels=["stage", "name"],
        )
        measures = GaugeMetricFamily(
            "ada_curriculum_task_metric", "Mean measure of the tasks trained on lately.", labels=["stage", "name"]
        )
        for record in records:
            for name, value in record.curriculum.method.figures().items():
                figures.add_metric([record.name, name], value)
            for name, value in record.task_metrics().items():
                measures.add_metric([record.name, name], value)
        yield from (figures, measures)

    def _progress(self, records: list[StageRecord]) -> Iterator[Metric]:
        now = self._clock()
        gauges: dict[str, tuple[str, Callable[[StageRecord], float | None]]] = {
            "frames": ("Frames learned from.", lambda one: one.frames),
            "frames_per_second": ("Speed over the last half minute.", lambda one: one.frames_per_second(now)),
            "updates": ("Optimiser steps.", lambda one: one.updates),
            "skipped_updates": ("Updates left out because they were not finite.", lambda one: one.skipped_updates),
            "score": ("Mean last-trial return of recent episodes, share of trial time.", lambda one: one.score()),
            "workers": ("World size of the training group.", lambda one: one.workers),
            "generation": ("Newest generation of the training group.", lambda one: one.standing.generation),
            "last_progress_timestamp_seconds": ("Time of the newest report.", lambda one: one.last_progress),
            "checkpoint_timestamp_seconds": ("Time of the newest commit.", _checkpoint_time),
            "outstanding_leases": ("Episodes lent out.", lambda one: one.curriculum.outstanding),
        }
        for name, (words, value_of) in gauges.items():
            family = GaugeMetricFamily(f"ada_curriculum_{name}", words, labels=["stage"])
            for record in records:
                value = value_of(record)
                if value is not None:
                    family.add_metric([record.name], value)
            yield family

    def _leases(self, records: list[StageRecord]) -> Iterator[Metric]:
        leases = CounterMetricFamily("ada_curriculum_leases", "Episodes lent.", labels=["stage", "purpose"])
        results = CounterMetricFamily(
            "ada_curriculum_results", "Results by what became of them.", labels=["stage", "fate"]
        )
        timesteps = CounterMetricFamily(
            "ada_curriculum_timesteps", "Timesteps of reported episodes by whether they were learned from.",
            labels=["stage", "learned"],
        )  # fmt: skip
        for record in records:
            counts = record.curriculum.counts
            for name, count in sorted(counts.items()):
                if name.startswith("lent_"):
                    leases.add_metric([record.name, name.removeprefix("lent_")], count)
            for fate in ("applied", "ignored", "expired"):
                results.add_metric([record.name, fate], counts[fate])
            timesteps.add_metric([record.name, "true"], counts["learned_timesteps"])
            timesteps.add_metric([record.name, "false"], counts["other_timesteps"])
        yield from (leases, results, timesteps)


def _checkpoint_time(record: StageRecord) -> float | None:
    return None if record.checkpoint is None else record.checkpoint.time
