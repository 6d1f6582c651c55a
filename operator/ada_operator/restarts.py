"""How often a stage's groups failed, by cause, and whether that is too often.

The counts of a stage are those of its former groups and of the present one; the latter are recounted from its pods at
every look and never fall, so a pod that is collected is not forgotten and no pod counts twice.
"""

from collections import Counter

from ada_api.status import RestartCounts, StageStatus
from ada_operator import names
from ada_operator.elasticity import index
from ada_operator.failure_policy import COUNTED, PodFailure, failures, memory_limit
from ada_operator.observed import Manifest
from ada_operator.view import Failure, View


def group_restarts(memory: StageStatus, pods: list[Manifest]) -> StageStatus:
    """Return the stage's status with the failures of the present group's pods counted."""
    found = count(pods)
    known = memory.group_restarts.model_dump()
    present = {cause: max(known[cause], found.get(cause, 0)) for cause in known}
    total = memory.restarts.model_dump()
    raised = {cause: total[cause] + present[cause] - known[cause] for cause in known}
    return memory.model_copy(update={"restarts": RestartCounts(**raised), "group_restarts": RestartCounts(**present)})


def count(pods: list[Manifest]) -> dict[str, int]:
    """Return failures by cause: the most that any one node had.

    When a worker crashes the whole group feels it; however many nodes then fail together, it is one failure.
    """
    by_node: dict[tuple[str, int], int] = Counter()
    indexes = {pod["metadata"]["name"]: index(pod) for pod in pods}
    for failure in failures(pods):
        if failure.cause in FIELDS:
            by_node[FIELDS[failure.cause], indexes[failure.pod]] += 1
    found: dict[str, int] = {}
    for (cause, _), number in by_node.items():
        found[cause] = max(found.get(cause, 0), number)
    return found


FIELDS = {"code": "code", "outOfMemory": "out_of_memory", "disruption": "disruption"}


def used_budget(memory: StageStatus) -> int:
    """Return the failures that count since the last commit: a group that gets on has its crashes behind it."""
    return budgeted(memory.restarts) - memory.forgiven


def budgeted(counts: RestartCounts) -> int:
    """Return how many of the failures use up the budget."""
    return counts.code + counts.out_of_memory + counts.stall + counts.not_finite + counts.collapse


def forgive(memory: StageStatus) -> StageStatus:
    """Return the status with an empty account: what was counted so far counts no more."""
    return memory.model_copy(update={"forgiven": budgeted(memory.restarts)})


def new_group(memory: StageStatus) -> StageStatus:
    """Return the status with the present group's counts closed."""
    return memory.model_copy(update={"group_restarts": RestartCounts()})


def counted_failure(view: View, pods: list[Manifest], part: names.Part, memory: StageStatus) -> Failure | None:
    """Return why the stage must fail because of the pods of a part's Job, or None."""
    found = failures(pods)
    final = [failure for failure in found if failure.cause == "configuration"]
    if final:
        return Failure("ConfigurationError", _said(final[-1]))
    limit = view.experiment.spec.failure_policy.max_code_failures
    used = used_budget(memory)
    if used <= limit:
        return None
    last = [failure for failure in found if failure.cause in COUNTED]
    said = f": {_said(last[-1])}" if last else ""
    if last and last[-1].cause == "outOfMemory":
        known = next((memory_limit(pod) for pod in pods if pod["metadata"]["name"] == last[-1].pod), "")
        return Failure("OutOfMemory", f"{part} ran out of memory{known}; raise its memory limit{said}")
    return Failure("TooManyFailures", f"{used} failures since the last commit, {limit} are allowed{said}")


def _said(failure: PodFailure) -> str:
    return f"pod {failure.pod} (exit code {failure.exit_code}): {failure.message or 'it said nothing'}"
