"""Suspending: ask the group to commit and stop, wait for it a bounded time, then free every pod."""

from ada_api.stages import Stage
from ada_api.status import Condition, StageStatus
from ada_operator.kubernetes_time import seconds
from ada_operator.manifests.stage import STOPPED_EXIT_CODE
from ada_operator.observed import Manifest
from ada_operator.view import Request, Step, View

COMMIT_WAIT_S = 180.0


def suspending(view: View, stage: Stage, memory: StageStatus, asked: Condition | None) -> Step:
    """Return what is left to do until nothing runs.

    Args:
        asked: the condition Suspended; Unknown since the group was first asked.
    """
    job = view.job("trainer", stage)
    resting = memory.model_copy(update={"phase": "Pending"}) if memory.phase == "Preparing" else memory
    # Token and configuration stay; the token is known to nobody else, so resuming need not change it.
    kept = view.settings() + view.token()
    if job is None:
        running = any(view.is_stopping(pod) for pod in view.all_pods())
        return Step(resting, "Suspending" if running else "Suspended", "suspended by spec.suspend", kept)
    since = seconds(asked.last_transition_time, view.now) if asked and asked.status == "Unknown" else view.now
    if not _is_worth_waiting(view, stage, since):
        return Step(resting, "Suspending", "stopping the training group", kept)
    request = Request("/v1/suspend", {"stage": stage.name})
    # Nothing is applied while the group commits: what is there stays as it is.
    return Step(memory, "Suspending", "waiting for the group to commit", requests=(request,), deletes=False)


def _is_worth_waiting(view: View, stage: Stage, since: float) -> bool:
    """Return whether the group still has something to commit, and time to do it."""
    progress = view.progress(stage.name)
    if progress is None or progress.phase not in ("training", "committing") or view.now - since >= COMMIT_WAIT_S:
        return False
    # The transition time has whole seconds: only a second later is surely after it.
    if progress.checkpoint is not None and progress.checkpoint.time >= since + 1.0:
        return False
    return not any(_was_told_to_stop(pod) for pod in view.pods("trainer", stage))


def _was_told_to_stop(pod: Manifest) -> bool:
    for container in pod.get("status", {}).get("containerStatuses", []):
        if container.get("state", {}).get("terminated", {}).get("exitCode") == STOPPED_EXIT_CODE:
            return True
    return False
