"""The operator's own metrics, `ada_operator_*`; names and labels stand here and nowhere else."""

from collections import Counter as Counts
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ada_operator.work_queue import Key


class OperatorMetrics:
    """All metrics of one operator, in a registry of their own."""

    def __init__(self) -> None:
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
        self.queue_depth = Gauge(
            "ada_operator_queue_depth", "Experiments that wait for a worker.", registry=self.registry
        )
        self.watch_age_seconds = Gauge(
            "ada_operator_watch_age_seconds",
            "Time since the watches were last known to deliver.",
            registry=self.registry,
        )
        self.leading = Gauge("ada_operator_leading", "1 while this replica acts, else 0.", registry=self.registry)
        self.experiments = Gauge("ada_operator_experiments", "Experiments by phase.", ["phase"], registry=self.registry)
        self.applied = Counter(
            "ada_operator_writes_total",
            "Writes to the API server, by what was done.",
            ["action"],
            registry=self.registry,
        )
        self._phases: dict[Key, str] = {}

    def follow(
        self, queue_depth: Callable[[], float], watch_age_s: Callable[[], float], leads: Callable[[], bool]
    ) -> None:
        """Have the gauges read what they show when they are scraped."""
        self.queue_depth.set_function(queue_depth)
        self.watch_age_seconds.set_function(watch_age_s)
        self.leading.set_function(lambda: float(leads()))

    def set_phase(self, key: Key, phase: str | None) -> None:
        """Note the phase of an experiment; None if it is gone."""
        if phase is None:
            self._phases.pop(key, None)
        else:
            self._phases[key] = phase
        counts: Mapping[str, int] = Counts(self._phases.values())
        self.experiments.clear()
        for name, number in counts.items():
            self.experiments.labels(phase=name).set(number)
