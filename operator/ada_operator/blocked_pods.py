"""What keeps pods from running that a person may have to mend: image, settings, no place, evictions, a lost node.

It is a condition and no failure: a registry that is down comes back, a node is added. Crashes are counted elsewhere;
what will never be mended by time alone is told apart in `start_failure`.
"""

from collections.abc import Iterable

from ada_operator import names
from ada_operator.failure_policy import blocked_reason, last_lines, memory_limit, unschedulable
from ada_operator.kubernetes_time import seconds
from ada_operator.observed import Manifest
from ada_operator.view import LINGER_S, View

PARTS: tuple[names.Part, ...] = ("curriculum", "rendezvous", "simulator", "trainer", "evaluation")
OF_STAGE: tuple[names.Part, ...] = ("simulator", "trainer", "evaluation")  # the others serve all stages
PATIENCE_S = 30.0  # a pod may be without a node, or not ready, for this long before that is worth saying
LOADING_S = 120.0  # a program that has just begun may take so long to get ready: simulators are compiled


def pods_blocked(view: View, pods: Iterable[Manifest]) -> tuple[str, str] | None:
    """Return reason and message for the first of these pods that can't run as it should, else None."""
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status", {})
        blocked = blocked_reason(pod)
        if blocked is not None:
            return "PodsBlocked", blocked[1]
        leaving = pod["metadata"].get("deletionTimestamp")
        if leaving is not None and view.now - seconds(leaving, view.now) >= LINGER_S:
            node = pod.get("spec", {}).get("nodeName") or "its node"
            return (
                "PodStuck",
                f"pod {name} should have ended by {leaving} and is still there: is {node} lost? it is not waited for",
            )
        since = seconds(_condition(status, "PodScheduled").get("lastTransitionTime"), _created(pod, view.now))
        said = unschedulable(pod)
        if said is not None and view.now - since >= PATIENCE_S:
            return "PodsBlocked", f"pod {name} finds no place: {last_lines(said)}"
        waiting = _crash_loop(pod)
        if waiting is not None:
            return "PodsCrash", f"pod {name} {waiting}"
        if _is_unready(status, view.now):
            return "PodsNotReady", f"pod {name} runs and is not ready: its health check fails, or its node is not heard"
    return None


def _condition(status: Manifest, kind: str) -> Manifest:
    return next((one for one in status.get("conditions", []) if one["type"] == kind), {})


def _created(pod: Manifest, now: float) -> float:
    return seconds(pod["metadata"].get("creationTimestamp"), now)


def _crash_loop(pod: Manifest) -> str | None:
    """Return what a container that is restarted again and again last said, or that it ran out of memory."""
    for container in pod.get("status", {}).get("containerStatuses", []):
        if container.get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff":
            times, ended = container.get("restartCount", 0), container.get("lastState", {}).get("terminated", {})
            if ended.get("reason") == "OOMKilled":
                return f"ran out of memory{memory_limit(pod)} {times} times"
            said = last_lines(ended.get("message") or "it said nothing")
            return f"crashed {times} times, exit code {ended.get('exitCode')}: {said}"
    return None


def _is_unready(status: Manifest, now: float) -> bool:
    """Return whether a pod that runs has not been ready for a while, though it was or should be."""
    ready = _condition(status, "Ready")
    if status.get("phase") != "Running" or ready.get("status") != "False":
        return False
    since = seconds(ready.get("lastTransitionTime"), now)
    begun = max((_begun(container, since) for container in status.get("containerStatuses", [])), default=since)
    return now - since >= PATIENCE_S if begun < since else now - begun >= LOADING_S


def _begun(container: Manifest, otherwise: float) -> float:
    """Return since when a container runs (s since 1970)."""
    return seconds(container.get("state", {}).get("running", {}).get("startedAt"), otherwise)
