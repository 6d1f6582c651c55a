"""Where an experiment's time went: into training, or lost, and to what. Pure; goodput is the first's share of both.

The account of a stage runs from its first group's start until its frames are done, or it failed. Time is booked when
frames were learned since the last entry: as training, or as lost to the cause that was noted meanwhile. While nothing
is learned nothing is booked, so that what only waits does not change its status with every look.
"""

from ada_api.status import ExperimentStatus, FailureCause, LossCause, LostSeconds, StageStatus
from ada_operator.view import Step, View

SURE_S = 60.0  # between two looks; of a longer time only what the learned frames account for counts as training
FAILURES: tuple[FailureCause, ...] = ("out_of_memory", "code", "not_finite", "collapse", "stall", "disruption")


def booked(view: View, before: ExperimentStatus, step: Step) -> ExperimentStatus:
    """Return the status with what happened since the last entry in its account."""
    known = next((one for one in view.before.stages if one.name == step.stage.name), StageStatus(name=""))
    is_open = step.stage.phase == "Training" and step.failure is None
    noted = loss_noted(view, known, step)
    if before.looked is None:
        if not is_open:
            return before
        return before.model_copy(update={"looked": view.now, "losing": noted or "starting"})
    if not is_open:
        ended = noted if noted in FAILURES else before.losing or "other"
        return closed(before, view.now, ended).model_copy(update={"looked": None, "losing": None})
    if step.trains and step.stage.frames > known.frames:
        cause = noted if noted in FAILURES else before.losing
        if cause is None:
            return learned(before, view, step, step.stage.frames - known.frames)
        return closed(before, view.now, cause)
    if noted is None or not gives_way(before.losing, noted):
        return before
    if before.losing is None:  # what was not learned since the last entry was lost to what is noted now
        return before.model_copy(update={"losing": noted})
    return closed(before, view.now, before.losing).model_copy(update={"losing": noted})


def gives_way(losing: LossCause | None, noted: LossCause) -> bool:
    """Return whether time is lost to what is noted now, rather than still to what was noted before."""
    match noted:
        case "starting":
            return losing in (None, "suspended", "queued")
        case "unobserved":
            return losing is None
        case "resized":
            return losing in (None, "starting", "unobserved")
    return losing != noted


def loss_noted(view: View, known: StageStatus, step: Step) -> LossCause | None:
    """Return what keeps the stage from training, as far as this look shows it, or None."""
    counts, old = step.stage.restarts.model_dump(), known.restarts.model_dump()
    for failure in FAILURES:
        if counts[failure] > old[failure]:
            return failure
    if step.reason in ("Suspending", "Suspended"):
        return "suspended"
    job = view.observed.jobs.get(view.trainer_of(step.stage.name), {})
    if job.get("spec", {}).get("suspend"):
        return "queued"
    if step.stage.given_up > known.given_up:
        return "resized"
    if step.degraded is not None and step.degraded[0] == "CurriculumSilent":
        return "unobserved"
    waits = view.before.losing in ("suspended", "queued")
    return "starting" if waits or step.stage.generation > known.generation else None


def learned(before: ExperimentStatus, view: View, step: Step, frames: int) -> ExperimentStatus:
    """Return the account with the time since the last entry as training, as far as the frames account for it."""
    elapsed_s = max(view.now - (before.looked or view.now), 0.0)
    speed = step.stage.frames_per_second
    trained_s = min(elapsed_s, max(SURE_S, frames / speed)) if speed > 0 else elapsed_s
    changes = {"training_seconds": before.training_seconds + trained_s, "looked": view.now}
    return lose(before.model_copy(update=changes), "unobserved", elapsed_s - trained_s)


def closed(before: ExperimentStatus, now: float, cause: LossCause) -> ExperimentStatus:
    """Return the account with the time since the last entry as lost, and nothing noted."""
    elapsed_s = max(now - (before.looked or now), 0.0)
    return lose(before, cause, elapsed_s).model_copy(update={"looked": now, "losing": None})


def lose(status: ExperimentStatus, cause: LossCause, lost_s: float) -> ExperimentStatus:
    """Return the account with seconds lost to a cause, and its goodput."""
    lost = status.lost_seconds.model_copy(update={cause: getattr(status.lost_seconds, cause) + lost_s})
    whole_s = status.training_seconds + total_s(lost)
    share = round(status.training_seconds / whole_s, 3) if whole_s > 0 else None
    return status.model_copy(update={"lost_seconds": lost, "goodput": share})


def total_s(lost: LostSeconds) -> float:
    """Return the seconds lost to all causes."""
    return float(sum(lost.model_dump().values()))
