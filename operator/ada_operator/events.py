"""Events are the differences between two statuses, so that none is repeated and none depends on memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ada_api.status import ExperimentStatus, StageStatus
from ada_operator.conditions import find

# Conditions whose turning True is an event, and whether somebody should worry.
ANNOUNCED: dict[str, Literal["Normal", "Warning"]] = {
    "Failed": "Warning",
    "Degraded": "Warning",
    "Succeeded": "Normal",
    "Suspended": "Normal",
}


# What a higher count of restarts means, in words.
LOSSES = {
    "code": ("NodeCrashed", "a node crashed"),
    "out_of_memory": ("OutOfMemory", "a node ran out of memory"),
    "stall": ("GroupStalled", "the group stopped getting on"),
    "not_finite": ("NotFinite", "too many updates were not finite"),
    "collapse": ("ScoreCollapsed", "the score collapsed"),
    "disruption": ("NodeLost", "a node was lost, drained or killed from outside"),
}


@dataclass(frozen=True)
class Event:
    """One line of `kubectl describe`."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def events_between(before: ExperimentStatus, after: ExperimentStatus) -> tuple[Event, ...]:
    """Return what happened between two statuses."""
    known = {stage.name: stage for stage in before.stages}
    found = [event for stage in after.stages for event in _of_stage(known.get(stage.name, StageStatus(name="")), stage)]
    return (*found, *_of_conditions(before, after))


def _of_stage(before: StageStatus, after: StageStatus) -> Iterator[Event]:
    if after.generation > before.generation:
        yield Event("Normal", "GroupStarted", f"stage {after.name}: training group {after.generation} starts")
    if after.checkpoint and (before.checkpoint is None or before.checkpoint.digest != after.checkpoint.digest):
        yield Event("Normal", "Committed", f"stage {after.name}: {after.checkpoint.frames} frames committed")
    if after.frames < before.frames:
        message = f"stage {after.name}: from {before.frames} frames back to the {after.frames} of a checkpoint"
        yield Event("Warning", "WentBack", message)
    if after.phase != before.phase and after.phase == "Evaluating":
        yield Event("Normal", "StageTrained", f"stage {after.name}: all frames are learned from and committed")
    if after.phase != before.phase and after.phase == "Succeeded":
        yield Event("Normal", "StageSucceeded", f"stage {after.name} is trained and evaluated")
    counts, old = after.restarts.model_dump(), before.restarts.model_dump()
    for cause, number in counts.items():
        if number > old[cause]:
            reason, said = LOSSES[cause]
            worry: Literal["Normal", "Warning"] = "Normal" if cause == "disruption" else "Warning"
            yield Event(worry, reason, f"stage {after.name}: {said} ({number} so far)")


def _of_conditions(before: ExperimentStatus, after: ExperimentStatus) -> Iterator[Event]:
    for condition in after.conditions:
        old = find(before.conditions, condition.type)
        if condition.type in ANNOUNCED and condition.status == "True" and (old is None or old.status != "True"):
            reason = condition.type if condition.reason == condition.type else condition.reason
            yield Event(ANNOUNCED[condition.type], reason, condition.message or condition.reason)
    accepted, old = find(after.conditions, "Accepted"), find(before.conditions, "Accepted")
    if accepted and accepted.status == "False" and (old is None or old.reason != accepted.reason):
        yield Event("Warning", accepted.reason, accepted.message)
    training, old = find(after.conditions, "Training"), find(before.conditions, "Training")
    if training and training.reason == "Regrouping" and (old is None or old.reason != "Regrouping"):
        yield Event("Warning", "Regrouping", training.message)
