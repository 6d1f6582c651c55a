"""What the curriculum service tells the operator (and `ada run`): `GET /v1/progress`.

Written here because the two programs share no other package.
"""

from typing import Literal

from pydantic import Field

from ada_api.base import Model


class CommittedCheckpoint(Model):
    """The newest committed checkpoint of a stage."""

    uri: str = Field(description="Where it is.")
    digest: str = Field(description="sha256 of its manifest.")
    frames: int = Field(description="Frames it holds.")
    time: float = Field(description="Seconds since 1970 at the commit.")


class TrialScore(Model):
    """Scores of held-out tasks in episodes of `trials` trials (AdA, section "Evaluation")."""

    trials: int = Field(description="Trials an episode.")
    median: float = Field(description="Median over tasks of the last trial's score.")
    mean: float = Field(description="Mean.")
    percentile20: float = Field(description="20th percentile.")


class StageProgress(Model):
    """Progress of one stage."""

    stage: str = Field(description="Name of the stage.")
    generation: int = Field(0, description="Newest generation of the training group that registered.")
    phase: Literal["waiting", "training", "committing", "trained", "failed"] = Field(
        "waiting", description="What it does."
    )
    message: str = Field("", description="Why it failed, in words for a person.")
    frames: int = Field(0, description="Frames learned from.")
    frames_per_second: float = Field(0.0, description="Over the last half minute.")
    updates: int = Field(0, description="Optimiser steps.")
    skipped_updates: int = Field(0, description="Updates left out because they were not finite.")
    score: float | None = Field(None, description="Mean training score of recent last trials, share of trial time.")
    score_by_trial: list[float | None] = Field([], description="The same by index of the trial.")
    workers: int = Field(0, description="World size of the training group.")
    last_progress: float = Field(0.0, description="Seconds since 1970 at the newest report.")
    checkpoint: CommittedCheckpoint | None = Field(None, description="Newest commit.")
    evaluation: list[TrialScore] = Field([], description="Result of the evaluation, if done.")


class Progress(Model):
    """All stages this service has heard of, in order of first registration."""

    experiment: str = Field(description="namespace/name.")
    stages: list[StageProgress] = Field([], description="One entry a stage.")
