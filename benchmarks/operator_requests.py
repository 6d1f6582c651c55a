"""What an operator asked of the API server and when, from the API server's audit log."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

NAMESPACE, LABEL = "benchmark", "ada.dev/experiment"
OPERATOR = ("ada-operator", "kopf")  # how its user agents begin
CHILDREN = ("configmaps", "secrets", "services", "statefulsets")


class Requests:
    """When things were made (seconds since 1970), and how often the operator asked for what."""

    def __init__(self, entries: Iterable[dict[str, Any]], since: float = 0.0) -> None:
        self.jobs: dict[str, tuple[float, float]] = {}  # asked for, and made
        self.experiments: dict[str, tuple[float, float]] = {}
        self.first_child: dict[str, float] = {}
        self.asked: Counter[tuple[str, str]] = Counter()  # by verb and kind
        for entry in entries:
            if seconds(entry["requestReceivedTimestamp"]) >= since:
                self._add(entry)

    def _add(self, entry: dict[str, Any]) -> None:
        place, verb = entry.get("objectRef", {}), entry["verb"]
        name, kind = place.get("name", ""), place.get("resource", "")
        if entry.get("userAgent", "").lower().startswith(OPERATOR):
            part = f"/{place['subresource']}" if "subresource" in place else ""
            self.asked[verb, kind + part] += 1
        if place.get("namespace") != NAMESPACE or entry.get("responseStatus", {}).get("code", 500) >= 300:
            return
        times = seconds(entry["requestReceivedTimestamp"]), seconds(entry["stageTimestamp"])
        if kind == "jobs" and verb == "create" and name.startswith("job-"):
            self.jobs[name] = times
        elif kind == "adaexperiments" and verb == "create":
            self.experiments[name] = times
        elif kind in CHILDREN and verb in ("create", "patch") and name.startswith("run-"):
            self.first_child.setdefault("-".join(name.split("-")[:2]), times[1])

    @property
    def jobs_s(self) -> float:
        """Seconds from the first of the Jobs asked for to the last one made."""
        return max(made for _, made in self.jobs.values()) - min(asked for asked, _ in self.jobs.values())

    @property
    def first_children_s(self) -> float:
        """Seconds from the first experiment asked for to the last one's first child."""
        return max(self.first_child.values()) - min(asked for asked, _ in self.experiments.values())

    def about_experiments(self, *verbs: str) -> int:
        """Return how many requests with these verbs (any, if none is named) were not about the operator's lease."""
        return sum(
            number for (verb, kind), number in self.asked.items() if kind != "leases" and (not verbs or verb in verbs)
        )


def seconds(timestamp: str) -> float:
    """Return a time of the audit log as seconds since 1970."""
    return datetime.fromisoformat(timestamp).timestamp()
