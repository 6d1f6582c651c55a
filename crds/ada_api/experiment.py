"""The AdaExperiment itself: metadata, spec and status."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from ada_api.base import Model
from ada_api.curriculum import Curriculum
from ada_api.environment import Environment
from ada_api.operations import Checkpoint, Evaluation, FailurePolicy, Scheduling
from ada_api.stages import NAME_PATTERN, Stage

API_VERSION = "ada.dev/v1alpha1"
KIND = "AdaExperiment"
LONGEST_NAME = 40
MAX_STAGES = 32


class Metadata(Model):
    """The part of Kubernetes' object metadata that we read."""

    model_config = ConfigDict(**{**Model.model_config, "extra": "ignore"})

    name: str = Field(
        min_length=1,
        max_length=LONGEST_NAME,
        pattern=NAME_PATTERN,
        description="Name: a DNS label of at most 40 characters, so that the names of its children stay readable.",
    )
    namespace: str = Field("default", description="Namespace.")
    uid: str = Field("", description="Set by the API server.")
    generation: int = Field(0, description="Set by the API server.")
    labels: dict[str, str] = Field({}, description="Labels.")
    annotations: dict[str, str] = Field({}, description="Annotations.")


class ExperimentSpec(Model):
    """What is wanted."""

    seed: int = Field(0, ge=0, lt=2**53, description="Seed of everything random but the task pool.")
    environment: Environment = Field(Environment(), description="The task space.")
    curriculum: Curriculum = Field(Curriculum(), description="How tasks are chosen.")
    stages: list[Stage] = Field(min_length=1, max_length=MAX_STAGES, description="Training runs, in order.")
    evaluation: Evaluation = Field(Evaluation(), description="How each stage is judged.")
    checkpoint: Checkpoint = Field(Checkpoint(), description="Where and when checkpoints are committed.")
    scheduling: Scheduling = Field(Scheduling(), description="Queues and gangs.")
    failure_policy: FailurePolicy = Field(FailurePolicy(), description="What a failure means.")
    nodes: int | None = Field(
        None, ge=1, le=10_000, description="Trainer nodes wanted now, within the stage's bounds (scale subresource)."
    )
    suspend: bool = Field(False, description="Commit, free the pods, keep everything else.")
    ttl_seconds_after_finished: int | None = Field(None, ge=0, le=2**31 - 1, description="Delete after this long.")
    active_deadline_seconds: int | None = Field(None, ge=1, le=2**31 - 1, description="Fail after this long.")


class AdaExperiment(Model):
    """A whole experiment, as a person writes it and as the API server returns it."""

    api_version: Literal["ada.dev/v1alpha1"] = Field(description="API version.")
    kind: Literal["AdaExperiment"] = Field(description="Kind.")
    metadata: Metadata = Field(description="Object metadata.")
    spec: ExperimentSpec = Field(description="What is wanted.")
    status: dict[str, Any] | None = Field(None, description="What is; written by the operator only (ada_api.status).")
