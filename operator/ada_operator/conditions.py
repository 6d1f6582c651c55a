"""The truth about an experiment as conditions; the phase is read off them, for printing only (docs/status.md).

Accepted   False: ImageNotAllowed, StoreNotAllowed, PriorityClassNotAllowed, VolumeNotAllowed, StoreMissing,
           ReferenceMissing; True: Accepted
Training   True: Training; False: Starting, Regrouping, Evaluating, Suspending, Suspended, NotAccepted, Finished, Failed
Degraded   True: ChildRefused, FewerNodes, PodsBlocked, PodsCrash, PodsNotReady, PodStuck, CurriculumSilent;
           False: AsWanted
Suspended  True: Suspended; Unknown: Committing, from the request to the last pod's end; False: NotSuspended
Succeeded  True: AllStagesTrained; False: InProgress
Failed     True: ConfigurationError, TooManyFailures, OutOfMemory, CrashLoop, Stalled, NotFinite, Collapsed, GroupEnded,
           GateNotReached, CheckpointMissing, DeadlineExceeded, ImageUnavailable; False: NoFailure
"""

from collections.abc import Sequence
from typing import Literal

from ada_api.status import Condition
from ada_operator.kubernetes_time import timestamp

Truth = Literal["True", "False", "Unknown"]
LONGEST_MESSAGE = 2000


def with_condition(
    conditions: Sequence[Condition], kind: str, truth: Truth, reason: str, message: str, generation: int, now: float
) -> list[Condition]:
    """Return the conditions with one of them set; its transition time moves only when its status does."""
    before = find(conditions, kind)
    since = before.last_transition_time if before and before.status == truth else timestamp(now)
    changed = Condition(
        type=kind,
        status=truth,
        reason=reason,
        message=message[:LONGEST_MESSAGE],
        last_transition_time=since,
        observed_generation=generation,
    )
    if before is None:
        return [*conditions, changed]
    return [changed if condition.type == kind else condition for condition in conditions]


def find(conditions: Sequence[Condition], kind: str) -> Condition | None:
    """Return the condition of a type, if it is there."""
    return next((condition for condition in conditions if condition.type == kind), None)


def holds(conditions: Sequence[Condition], kind: str) -> bool:
    """Return whether the condition of a type is True."""
    found = find(conditions, kind)
    return found is not None and found.status == "True"
