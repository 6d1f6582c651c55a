"""What the curriculum service reports, taken over into the stages' status."""

from ada_api.progress import CommittedCheckpoint, StageProgress
from ada_api.stages import Stage
from ada_api.status import ExperimentStatus, StageStatus
from ada_operator.restarts import forgive
from ada_operator.view import View

SCORE_DECIMALS = 3  # what `kubectl get` prints is read by people


def stage_statuses(view: View, before: ExperimentStatus) -> list[StageStatus]:
    """Return one status for each stage of the spec, with the newest fresh progress in it.

    A stage that was taken out of the spec is forgotten here; what it left in the store stays.
    """
    known = {stage.name: stage for stage in before.stages}
    return [_with_progress(view, stage, known.get(stage.name)) for stage in view.experiment.spec.stages]


def _with_progress(view: View, stage: Stage, known: StageStatus | None) -> StageStatus:
    memory = known or StageStatus(name=stage.name, frames_total=stage.frames)
    memory = memory.model_copy(update={"frames_total": stage.frames})
    progress = view.progress(stage.name)
    if progress is None or memory.phase == "Succeeded":
        return memory
    memory = _with_checkpoint(memory, progress.checkpoint)
    return memory.model_copy(update=_figures(memory, progress))


def _with_checkpoint(memory: StageStatus, commit: CommittedCheckpoint | None) -> StageStatus:
    """Take over a new commit; the one before stays known, for a roll-back."""
    before = memory.checkpoint
    if commit is None or (before is not None and before.digest == commit.digest):
        return memory
    if before is not None and commit.frames > before.frames:
        memory = forgive(memory).model_copy(update={"earlier_checkpoint": before})
    return memory.model_copy(update={"checkpoint": commit})


def _figures(memory: StageStatus, progress: StageProgress) -> dict[str, object]:
    score = None if progress.score is None else round(progress.score, SCORE_DECIMALS)
    best = score if memory.best_score is None else max(memory.best_score, score or memory.best_score)
    return {
        "frames": progress.frames,
        "frames_per_second": progress.frames_per_second,
        "score": score,
        "best_score": best,
        "evaluation": progress.evaluation or memory.evaluation,
    }
