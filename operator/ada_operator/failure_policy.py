"""What a pod's end means: our code, its memory, its configuration, a disruption, or a stop that was asked for.

exit 0                                   well
condition DisruptionTarget, or evicted   disruption      never counted
exit 75                                  stopped         never counted
exit 78                                  configuration   final
reason OOMKilled                         out of memory   counted
exit 137 or 143 (SIGKILL, SIGTERM)       disruption      somebody else ended it
any other exit                           code            counted
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from ada_operator.manifests.stage import CONFIGURATION_EXIT_CODE, STOPPED_EXIT_CODE
from ada_operator.observed import Manifest

Cause = Literal["code", "outOfMemory", "configuration", "disruption", "stopped"]
COUNTED: frozenset[Cause] = frozenset({"code", "outOfMemory"})
KILLED_EXIT_CODES = (137, 143)
LONGEST_MESSAGE = 800  # letters of a container's last lines that are repeated in a condition
CRASH_LOOP_RESTARTS = 5  # restarts of a server (curriculum, rendezvous, simulator) before its loop is named


@dataclass(frozen=True)
class PodFailure:
    """One pod that ended other than well."""

    pod: str
    cause: Cause
    exit_code: int | None
    message: str


def pod_failure(pod: Manifest) -> PodFailure | None:
    """Return why a pod of a Job failed, or None if it runs or ended well."""
    status = pod.get("status", {})
    if status.get("phase") != "Failed":
        return None
    name = pod["metadata"]["name"]
    ended = _terminated(status)
    code = ended.get("exitCode")
    message = last_lines(ended.get("message") or status.get("message") or "")
    return PodFailure(name, _cause(status, ended), code, message)


def _cause(status: Manifest, ended: Manifest) -> Cause:
    code = ended.get("exitCode")
    disrupted = any(c["type"] == "DisruptionTarget" and c["status"] == "True" for c in status.get("conditions", []))
    if disrupted or status.get("reason") == "Evicted" or code is None:
        return "disruption"
    if code == CONFIGURATION_EXIT_CODE:
        return "configuration"
    if code == STOPPED_EXIT_CODE:
        return "stopped"
    if ended.get("reason") == "OOMKilled":
        return "outOfMemory"
    return "disruption" if code in KILLED_EXIT_CODES else "code"


def _terminated(status: Manifest) -> dict[str, Any]:
    for container in status.get("containerStatuses", []):
        found: dict[str, Any] | None = container.get("state", {}).get("terminated")
        if found:
            return found
    return {}


def failures(pods: Iterable[Manifest]) -> tuple[PodFailure, ...]:
    """Return the failures among pods, by name."""
    found = (pod_failure(pod) for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"])))
    return tuple(failure for failure in found if failure is not None)


def server_failure(pod: Manifest) -> PodFailure | None:
    """Return why a server's container can't stay up: its configuration, or a crash loop; None if it may yet."""
    for container in pod.get("status", {}).get("containerStatuses", []):
        for state in (container.get("state", {}), container.get("lastState", {})):
            ended = state.get("terminated")
            if not ended:
                continue
            message = last_lines(ended.get("message") or "")
            code = ended.get("exitCode")
            if code == CONFIGURATION_EXIT_CODE:
                return PodFailure(pod["metadata"]["name"], "configuration", code, message)
            waiting = container.get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff"
            if waiting and container.get("restartCount", 0) >= CRASH_LOOP_RESTARTS:
                cause: Cause = "outOfMemory" if ended.get("reason") == "OOMKilled" else "code"
                return PodFailure(pod["metadata"]["name"], cause, code, message)
    return None


def memory_limit(pod: Manifest) -> str:
    """Return the limit that a pod ran into, in words; nothing if it has none: then its node's memory was used up."""
    for container in pod.get("spec", {}).get("containers", []):
        limit = (container.get("resources") or {}).get("limits", {}).get("memory")
        if limit:
            return f" (limit {limit})"
    return ""


# Reasons for which the kubelet can't start a container, and a person has to act.
BLOCKING_REASONS = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
)


def blocked_reason(pod: Manifest) -> tuple[str, str] | None:
    """Return reason and message if the pod's container can't be started as it is described, else None."""
    for container in pod.get("status", {}).get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in BLOCKING_REASONS:
            said = last_lines(waiting.get("message") or "no message")
            return waiting["reason"], f"pod {pod['metadata']['name']} can't start: {waiting['reason']}: {said}"
    return None


def unschedulable(pod: Manifest) -> str | None:
    """Return the scheduler's message if it found no node for the pod, else None."""
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message") or condition.get("reason") or "no node fits")
    return None


def last_lines(text: str) -> str:
    """Return the end of a text, from the start of a line, bounded for a condition's message."""
    text = text.strip()
    if len(text) <= LONGEST_MESSAGE:
        return text
    return text[-LONGEST_MESSAGE:].partition("\n")[2] or text[-LONGEST_MESSAGE:]
