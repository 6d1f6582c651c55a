"""What the controllers of a cluster do with StatefulSets and Jobs, as pure functions of manifests and pods.

Only what the planner's manifests use is followed: ordinals, Indexed Jobs, success and failure policies, replacement of
failed pods with a growing pause.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ada_operator.elasticity import index
from ada_operator.kubernetes_time import seconds, timestamp
from ada_operator.observed import Manifest, is_ready

INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"


@dataclass(frozen=True)
class BackOff:
    """The pause before a failed process is started again doubles from `first_s` to `most_s`."""

    first_s: float
    most_s: float

    def pause_s(self, failures: int) -> float:
        """Return the pause after so many failures."""
        return 0.0 if failures == 0 else float(min(self.first_s * 2 ** min(failures - 1, 30), self.most_s))


@dataclass(frozen=True)
class Decision:
    """What a controller wants after one look."""

    status: Manifest  # of the workload
    start: tuple[Manifest, ...] = ()
    stop: tuple[str, ...] = ()  # names of pods


def is_over(pod: Manifest) -> bool:
    """Return whether the pod's container ended for good."""
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def owned(owner: Manifest, pods: Iterable[Manifest]) -> list[Manifest]:
    """Return the pods that a workload made."""
    uid = owner["metadata"]["uid"]
    return [pod for pod in pods if pod["metadata"]["ownerReferences"][0]["uid"] == uid]


def stateful_set(workload: Manifest, pods: Iterable[Manifest], now: float) -> Decision:
    """Keep one pod for each ordinal."""
    mine = {pod["metadata"]["name"]: pod for pod in owned(workload, pods)}
    name, replicas = workload["metadata"]["name"], workload["spec"]["replicas"]
    wanted = {f"{name}-{ordinal}": ordinal for ordinal in range(replicas)}
    ready = sum(is_ready(pod) for pod in mine.values())
    status = {"replicas": len(mine), "readyReplicas": ready, "availableReplicas": ready}
    start = tuple(
        _pod(workload, pod, pod, now, {"apps.kubernetes.io/pod-index": str(ordinal)}, {})
        for pod, ordinal in wanted.items()
        if pod not in mine
    )
    return Decision(status, start, tuple(pod for pod in mine if pod not in wanted))


def job(workload: Manifest, pods: Iterable[Manifest], now: float, back_off: BackOff) -> Decision:
    """Keep one pod for each index until the success or the failure policy says that the Job is over."""
    mine = owned(workload, pods)
    active = [pod for pod in mine if not is_over(pod)]
    succeeded = sorted({index(pod) for pod in mine if pod["status"]["phase"] == "Succeeded"})
    counted = [pod for pod in mine if pod["status"]["phase"] == "Failed" and _action(workload, pod) == "Count"]
    status: dict[str, Any] = {
        "startTime": workload.get("status", {}).get("startTime") or timestamp(now),
        "active": len(active),
        "ready": sum(is_ready(pod) for pod in active),
        "succeeded": len(succeeded),
        "failed": len(counted),
        "completedIndexes": ",".join(map(str, succeeded)),
        "conditions": workload.get("status", {}).get("conditions", []),
    }
    over = status["conditions"] or _verdict(workload, mine, len(succeeded), now)
    if over:
        return Decision({**status, "conditions": over}, (), tuple(pod["metadata"]["name"] for pod in active))
    count = workload["spec"]["completions"]
    surplus = tuple(pod["metadata"]["name"] for pod in active if index(pod) >= count)
    if now < _next_start(counted, back_off, now):
        return Decision(status, (), surplus)
    taken = {index(pod) for pod in active} | set(succeeded)
    start = tuple(_job_pod(workload, number, mine, now) for number in range(count) if number not in taken)
    return Decision(status, start, surplus)


def _verdict(workload: Manifest, pods: list[Manifest], succeeded: int, now: float) -> list[Manifest]:
    failing = [p for p in pods if p["status"]["phase"] == "Failed" and _action(workload, p) == "FailJob"]
    if failing:
        code = _exit_code(failing[0])
        message = f"pod {failing[0]['metadata']['name']} failed with exit code {code}, which a FailJob rule matches"
        return [_condition("Failed", "PodFailurePolicy", message, now)]
    rules = workload["spec"].get("successPolicy", {}).get("rules", [])
    enough = min((rule["succeededCount"] for rule in rules), default=workload["spec"]["completions"])
    if succeeded >= enough:
        return [_condition("Complete", "SuccessPolicy" if rules else "CompletionsReached", "", now)]
    return []


def _condition(kind: str, reason: str, message: str, now: float) -> Manifest:
    return {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": timestamp(now)}


def _action(workload: Manifest, pod: Manifest) -> str:
    """Return what the Job's failure policy does with a failed pod."""
    conditions = pod["status"].get("conditions", [])
    for rule in workload["spec"].get("podFailurePolicy", {}).get("rules", []):
        codes = rule.get("onExitCodes", {}).get("values", [])
        wanted = [condition["type"] for condition in rule.get("onPodConditions", [])]
        disrupted = any(c["type"] in wanted and c["status"] == "True" for c in conditions)
        if disrupted or _exit_code(pod) in codes:
            return str(rule["action"])
    return "Count"


def _exit_code(pod: Manifest) -> int | None:
    return next((c["state"].get("terminated", {}).get("exitCode") for c in pod["status"]["containerStatuses"]), None)


def _next_start(counted: list[Manifest], back_off: BackOff, now: float) -> float:
    ends = [
        seconds(container["state"]["terminated"].get("finishedAt"), now)
        for pod in counted
        for container in pod["status"]["containerStatuses"]
    ]
    return max(ends, default=0.0) + back_off.pause_s(len(counted))


def _job_pod(workload: Manifest, number: int, pods: list[Manifest], now: float) -> Manifest:
    name = workload["metadata"]["name"]
    attempt = sum(index(pod) == number for pod in pods)
    marks = {"batch.kubernetes.io/job-name": name, INDEX_ANNOTATION: str(number)}
    serial = workload["metadata"]["uid"].rpartition("-")[2]
    hostname = f"{name}-{number}"
    return _pod(workload, f"{hostname}-{serial}{attempt:02}", hostname, now, marks, {INDEX_ANNOTATION: str(number)})


def _pod(
    workload: Manifest, name: str, hostname: str, now: float, labels: dict[str, str], annotations: dict[str, str]
) -> Manifest:
    template = workload["spec"]["template"]
    owner = {"kind": workload["kind"], "name": workload["metadata"]["name"], "uid": workload["metadata"]["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": workload["metadata"]["namespace"],
            "labels": {**template["metadata"]["labels"], **labels},
            "annotations": annotations,
            "creationTimestamp": timestamp(now),
            "ownerReferences": [owner],
        },
        "spec": {**template["spec"], "hostname": hostname},
        "status": {"phase": "Pending", "containerStatuses": []},
    }
