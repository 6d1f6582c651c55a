"""The operator's own metrics, `ada_operator_*`; names and labels stand here and nowhere else.

What is told about single experiments is in `experiment_metrics`.
"""

from collections import Counter as Counts
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ada_api.experiment import AdaExperiment
from ada_api.status import ExperimentStatus
from ada_operator.experiment_metrics import ExperimentMetrics, Seen
from ada_operator.work_queue import Key


class OperatorMetrics:
    """All metrics of one operator, in a registry of their own."""

    def __init__(self) -> None:
        # A second series for each counter, which nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.reconcile_seconds = Histogram(
            "ada_operator_reconcile_duration_seconds",
            "Time of one reconciliation, from observing to the written status.",
            registry=self.registry,
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )
        self.errors = Counter(
            "ada_operator_reconcile_errors_total",
            "Reconciliations that ended in an error, by kind.",
            ["reason"],
            registry=self.registry,
        )
        self.errors.labels(reason="Conflict")  # the usual one: until the first, a panel shows none, not nothing
        self.queue_depth = Gauge(
            "ada_operator_queue_depth", "Experiments that wait for a worker.", registry=self.registry
        )
        self.watch_age_seconds = Gauge(
            "ada_operator_watch_age_seconds",
            "Time since the watches were last known to deliver.",
            registry=self.registry,
        )
        self.leading = Gauge("ada_operator_leading", "1 while this replica acts, else 0.", registry=self.registry)
        self.applied = Counter(
            "ada_operator_writes_total",
            "Writes to the API server, by what was done.",
            ["action"],
            registry=self.registry,
        )
        self._seen: dict[Key, Seen] = {}
        self.registry.register(Phases(lambda: list(self._seen.values())))
        self.registry.register(ExperimentMetrics(lambda: list(self._seen.values())))

    def follow(
        self, queue_depth: Callable[[], float], watch_age_s: Callable[[], float], leads: Callable[[], bool]
    ) -> None:
        """Have the gauges read what they show when they are scraped."""
        self.queue_depth.set_function(queue_depth)
        self.watch_age_seconds.set_function(watch_age_s)
        self.leading.set_function(lambda: float(leads()))

    def note(self, key: Key, experiment: AdaExperiment, status: ExperimentStatus) -> None:
        """Note an experiment as it was just seen."""
        self._seen[key] = Seen(experiment, status)

    def forget(self, key: Key) -> None:
        """Note that an experiment is gone."""
        self._seen.pop(key, None)


class Phases(Collector):
    """How many experiments are in which phase, counted when Prometheus asks."""

    def __init__(self, seen: Callable[[], list[Seen]]) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        """Yield the one family."""
        family = GaugeMetricFamily("ada_operator_experiments", "Experiments by phase.", labels=["phase"])
        for phase, number in Counts(one.status.phase for one in self._seen()).items():
            family.add_metric([phase], number)
        yield family
