"""What Prometheus is told, read from the records when it asks."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ada_curriculum.record import RECENT_EPISODES, StageRecord

PREFIX = "ada_curriculum_"
Records = Callable[[], Iterable[StageRecord]]


class StageMetrics(Collector):
    """Gauges and counters by stage; the number of series is bounded by the number of stages."""

    def __init__(self, experiment: str, records: Records, clock: Callable[[], float]) -> None:
        """Show the records of an experiment (`namespace/name`)."""
        self.store_errors = 0
        self._experiment = experiment
        self._records = records
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        records = list(self._records())
        yield from self._progress(records)
        yield from self._leases(records)
        yield from self._figures(records)
        measures = self._gauge("task_metric", "Mean measure of the tasks trained on lately.", "name")
        for record in records:
            for name, value in record.task_metrics().items():
                measures.add_metric([self._experiment, record.name, name], value)
        yield measures
        errors = CounterMetricFamily(
            PREFIX + "store_errors", "Requests that failed because of the store.", labels=["experiment"]
        )
        errors.add_metric([self._experiment], self.store_errors)
        yield errors

    def _gauge(self, name: str, words: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(PREFIX + name, words, labels=["experiment", "stage", *labels])

    def _figures(self, records: list[StageRecord]) -> Iterator[Metric]:
        """Yield what the method tells: what all methods of a kind have by names of their own, the rest together."""
        archive = self._gauge("archive_tasks", "Tasks in the archive.")
        staleness = self._gauge("staleness_draws", "Mean number of draws and offers since a task was last used.")
        fitness = self._gauge("fitness", "Quantiles of the archive's fitness, in deviations from the mean.", "quantile")
        figures = self._gauge("figure", "Figures of the method that have no metric of their own.", "name")
        for record in records:
            for name, value in record.curriculum.method.figures().items():
                labels = [self._experiment, record.name]
                if name == "archive_size":
                    archive.add_metric(labels, value)
                elif name == "staleness":
                    staleness.add_metric(labels, value)
                elif name.startswith("fitness_q"):
                    fitness.add_metric([*labels, str(int(name.removeprefix("fitness_q")) / 100)], value)
                else:
                    figures.add_metric([*labels, name], value)
        yield from (archive, staleness, fitness, figures)

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
            "recent_episodes": (
                f"Episodes last trained on, {RECENT_EPISODES} at most.",
                lambda one: one.trained_tasks()[0],
            ),
            "recent_tasks": ("Different tasks among them.", lambda one: one.trained_tasks()[1]),
        }
        for name, (words, value_of) in gauges.items():
            family = self._gauge(name, words)
            for record in records:
                value = value_of(record)
                if value is not None:
                    family.add_metric([self._experiment, record.name], value)
            yield family

    def _leases(self, records: list[StageRecord]) -> Iterator[Metric]:

        def counter(name: str, words: str, label: str) -> CounterMetricFamily:
            return CounterMetricFamily(PREFIX + name, words, labels=["experiment", "stage", label])

        leases = counter("leases", "Episodes lent.", "purpose")
        results = counter("results", "Results by what became of them.", "fate")
        timesteps = counter(
            "timesteps", "Timesteps of reported episodes by whether they were learned from: the share of replay.",
            "learned",
        )  # fmt: skip
        for record in records:
            counts = record.curriculum.counts
            labels = [self._experiment, record.name]
            for name, count in sorted(counts.items()):
                if name.startswith("lent_"):
                    leases.add_metric([*labels, name.removeprefix("lent_")], count)
            for fate in ("applied", "ignored", "expired"):
                results.add_metric([*labels, fate], counts[fate])
            timesteps.add_metric([*labels, "true"], counts["learned_timesteps"])
            timesteps.add_metric([*labels, "false"], counts["other_timesteps"])
        yield from (leases, results, timesteps)


def _checkpoint_time(record: StageRecord) -> float | None:
    return None if record.checkpoint is None else record.checkpoint.time
