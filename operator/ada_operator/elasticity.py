"""How many trainer nodes a running group should be asked to have.

A lost node needs no decision: the group goes on without it and takes its replacement back. Decided here is only how
many pods the Job asks for:

    none yet                                          what is wanted, within the bounds
    more than wanted                                  what is wanted, at once
    the last pods have found no node for a while      as many as have a node, at least the minimum
    fewer than wanted                                 what is wanted; after a cool-down, if there was no room for it
"""

from collections.abc import Iterable

from ada_api.stages import Nodes
from ada_operator.failure_policy import unschedulable
from ada_operator.kubernetes_time import seconds
from ada_operator.observed import Manifest

PATIENCE_S = 300.0  # a pod without a node waits this long: time for an autoscaler to bring one
COOL_DOWN_S = 600.0  # between giving nodes up for lack of room and asking for them again


def wanted_nodes(bounds: Nodes, asked: int | None) -> int:
    """Return the size that is wanted: what was asked for (the scale subresource), within the bounds; else the most."""
    return bounds.max if asked is None else min(max(asked, bounds.min), bounds.max)


def target_nodes(
    bounds: Nodes, wanted: int, current: int | None, short_since: float | None, pods: Iterable[Manifest], now: float
) -> int:
    """Return the number of nodes to ask for.

    Args:
        current: what the Job asks for now; None before there is one.
        short_since: when nodes were last given up for lack of room (s since 1970); None if none are.
        pods: the Job's pods.
        now: s since 1970.
    """
    if current is None or current > wanted:
        return wanted
    placed = placed_nodes(current, pods, now)
    if placed < current:
        return max(bounds.min, min(placed, current))
    if short_since is not None and now - short_since < COOL_DOWN_S:
        return current
    return wanted


def placed_nodes(current: int, pods: Iterable[Manifest], now: float) -> int:
    """Return `current` less the highest indexes that have waited too long for a node.

    A Job drops its highest indexes when it shrinks, so pods below one that runs are kept whatever they wait for.
    """
    waiting = {index(pod) for pod in pods if _has_waited(pod, now)}
    placed = current
    while placed > 0 and placed - 1 in waiting:
        placed -= 1
    return placed


def index(pod: Manifest) -> int:
    """Return the completion index of a Job's pod."""
    return int(pod["metadata"].get("annotations", {}).get("batch.kubernetes.io/job-completion-index", 0))


def _has_waited(pod: Manifest, now: float) -> bool:
    if pod.get("status", {}).get("phase") != "Pending" or unschedulable(pod) is None:
        return False
    return now - seconds(pod["metadata"].get("creationTimestamp"), now) >= PATIENCE_S
