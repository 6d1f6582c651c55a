"""The experiment's status from its stages and the step that is taken: figures, conditions, and the phase they give."""

from ada_api.status import Condition, ExperimentStatus, NodeCounts, Phase, StageStatus
from ada_operator.account import booked
from ada_operator.conditions import Truth, find, holds, with_condition
from ada_operator.kubernetes_time import timestamp
from ada_operator.view import Step, View

ALL_DONE = "all stages are trained and evaluated"


def summarised(view: View, before: ExperimentStatus, step: Step) -> ExperimentStatus:
    """Return the status after a step."""
    stages = [step.stage if stage.name == step.stage.name else stage for stage in before.stages]
    found = step_conditions(view, before.conditions, step, all(stage.phase == "Succeeded" for stage in stages))
    phase = phase_of(found)
    over = phase in ("Succeeded", "Failed")
    started = None if phase == "Suspended" else before.start_time or timestamp(view.now)
    lost = sum(sum(stage.restarts.model_dump().values()) for stage in stages)
    return booked(view, before, step).model_copy(
        update={
            **running_figures(step.stage, stages),
            "phase": phase,
            "nodes": NodeCounts(ready=step.nodes[0], desired=step.nodes[1]),
            "frames_per_second": step.stage.frames_per_second if step.trains else 0.0,
            "restarts": lost,
            "start_time": started,
            "completion_time": (before.completion_time or timestamp(view.now)) if over else None,
            "observed_generation": view.experiment.metadata.generation,
            "stages": stages,
            "conditions": found,
        }
    )


def with_refused_child(before: ExperimentStatus, message: str, generation: int, now: float) -> ExperimentStatus:
    """Return the status as it was, with a child that the API server refuses: nothing of the plan has come true."""
    found = with_condition(before.conditions, "Degraded", "True", "ChildRefused", message, generation, now)
    started = before.start_time or timestamp(now)
    return before.model_copy(
        update={"conditions": found, "observed_generation": generation, "start_time": started, "phase": phase_of(found)}
    )


def running_figures(stage: StageStatus, stages: list[StageStatus]) -> dict[str, object]:
    """Return the figures of the stage that the experiment is at."""
    position = [one.name for one in stages].index(stage.name) + 1
    share = min(stage.frames / stage.frames_total, 1.0)
    return {
        "stage": f"{position}/{len(stages)} {stage.name}",
        "frames": stage.frames,
        "progress": f"{int(100 * share)} %",
        "score": stage.score,
        "checkpoint": stage.checkpoint,
    }


def step_conditions(view: View, before: list[Condition], step: Step, finished: bool) -> list[Condition]:
    """Return the conditions that a step stands for."""
    found = list(before)

    def put(kind: str, truth: Truth, reason: str, message: str = "") -> None:
        nonlocal found
        found = with_condition(found, kind, truth, reason, message, view.experiment.metadata.generation, view.now)

    if step.refused is not None:
        put("Accepted", "False", step.refused.reason, step.refused.message)
    else:
        put("Accepted", "True", "Accepted", "everything the spec refers to is there")
    put("Training", "True" if step.trains else "False", step.reason, ALL_DONE if finished else step.message)
    if step.degraded is not None:
        put("Degraded", "True", *step.degraded)
    else:
        put("Degraded", "False", "AsWanted")
    if step.reason == "Suspended":
        put("Suspended", "True", "Suspended", step.message)
    elif step.reason == "Suspending":
        put("Suspended", "Unknown", "Committing", step.message)
    else:
        put("Suspended", "False", "NotSuspended")
    if finished:
        put("Succeeded", "True", "AllStagesTrained", ALL_DONE)
    else:
        put("Succeeded", "False", "InProgress")
    if step.failure is not None:
        put("Failed", "True", step.failure.reason, step.failure.message)
    else:
        put("Failed", "False", "NoFailure")
    return found


def phase_of(conditions: list[Condition]) -> Phase:
    """Return the one word for a set of conditions."""
    if holds(conditions, "Failed"):
        return "Failed"
    if holds(conditions, "Succeeded"):
        return "Succeeded"
    if holds(conditions, "Suspended"):
        return "Suspended"
    training = find(conditions, "Training")
    match training.reason if training else "":
        case "Suspending":
            return "Suspending"
        case "NotAccepted":
            return "Pending"
        case "Training":
            return "Training"
        case "Evaluating" | "Finished":
            return "Evaluating"
    return "Starting"
