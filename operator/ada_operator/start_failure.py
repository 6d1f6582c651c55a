"""Which pods will never start as they are described: a pure decision from what the kubelet says.

A name that is no image's, an image that its registry does not have or does not give, a setting that is not there: a
person has to act, and pods that wait beside it cost money. A registry that can't be reached, is overloaded, or says
something that is not known here may come back: that stays a condition, for as long as it lasts.
"""

import re
from dataclasses import dataclass
from typing import Literal

from ada_operator.failure_policy import last_lines
from ada_operator.kubernetes_time import seconds
from ada_operator.observed import Manifest

HOPELESS_S = 120.0  # for which it must last: an image may be pushed, or a Secret made, just after the experiment
Reason = Literal["ImageUnavailable", "ConfigurationError"]

IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
CONFIGURATION_REASONS = ("CreateContainerConfigError",)
# What registries, containerd and CRI-O say when the image is not there for us, in lower case.
NOT_THERE = re.compile(
    r"manifest unknown|name unknown|repository does not exist|repository name not known|pull access denied"
    r"|unauthorized|authorization failed|authentication required|access forbidden|403 forbidden|401 unauthorized"
    r"|denied: |invalid reference format|no match for platform|no matching manifest|unsupported manifest"
    r"|: not found|manifest not found|image not found"
)
# A registry that is away is often said to be "not found" as well: by its name server, or its proxy.
AWAY = re.compile(
    r"no such host|name resolution|server misbehaving|connection refused|connection reset|timeout|timed out|deadline"
    r"|network is unreachable|no route to host|tls handshake|toomanyrequests|too many requests|qps exceeded"
    r"|\beof\b|50[0234] |service unavailable|bad gateway|x509"
)
# What the kubelet says of settings that nobody has made, or that the image does not go with.
NOT_SET = re.compile(r"not found|couldn't find key|run as root|non-root|runasnonroot|invalid")
FOR_A_MOMENT = re.compile(r"failed to sync|timed out|timeout")  # its caches, just after the pod was made


@dataclass(frozen=True)
class HopelessPod:
    """A pod that will not start before somebody acts."""

    reason: Reason
    message: str


def hopeless(pod: Manifest, blocked_since: float | None, now: float) -> HopelessPod | None:
    """Return why a pod will never start as it is described, if that has lasted long enough to say so.

    Args:
        blocked_since: since when the experiment's status says that pods are blocked; None if it does not.
        now: s since 1970.
    """
    for container in pod.get("status", {}).get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting") or {}
        said = last_lines(waiting.get("message") or "no message")
        reason = verdict(waiting.get("reason", ""), said)
        if reason is None or blocked_since is None:
            continue
        lasted_s = now - max(blocked_since, _began_to_wait(pod, container, now))
        if lasted_s >= HOPELESS_S:
            image = container.get("image") or _image(pod, container.get("name"))
            return HopelessPod(
                reason,
                f"pod {pod['metadata']['name']} can't start with image {image}, tried for {HOPELESS_S:.0f} s: "
                f"{waiting['reason']}: {said}",
            )
    return None


def verdict(reason: str, message: str) -> Reason | None:
    """Return what must be mended for a container that waits with this reason and message; None if time may do it."""
    said = message.lower()
    if reason in ("InvalidImageName", "ErrImageNeverPull"):
        return "ImageUnavailable"
    if reason in IMAGE_REASONS:
        return "ImageUnavailable" if NOT_THERE.search(said) and not AWAY.search(said) else None
    if reason in CONFIGURATION_REASONS:
        return "ConfigurationError" if NOT_SET.search(said) and not FOR_A_MOMENT.search(said) else None
    return None


def _began_to_wait(pod: Manifest, container: Manifest, now: float) -> float:
    """Return when the container began to wait: when its pod was made, or when it last ended."""
    ended = container.get("lastState", {}).get("terminated") or {}
    made = seconds(pod["metadata"].get("creationTimestamp"), now)
    return max(made, seconds(ended.get("finishedAt"), made))


def _image(pod: Manifest, container: str | None) -> str:
    found = (one.get("image") for one in pod.get("spec", {}).get("containers", []) if one.get("name") == container)
    return next(found, None) or "(unnamed)"
