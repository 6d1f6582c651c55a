"""Evaluation, checkpoints, scheduling and failure: `evaluation`, `checkpoint`, `scheduling`, `failurePolicy`."""

from typing import Annotated, Literal

from pydantic import Field

from ada_api.base import Model


class Gate(Model):
    """A score a stage must reach before the next one starts."""

    stage: str = Field(min_length=1, max_length=40, description="Name of the stage.")
    trials: int = Field(5, ge=1, le=48, description="Trials of the episodes that count; one of evaluation.trials.")
    score: float = Field(ge=0, le=10, description="Least median last-trial score.")


class Evaluation(Model):
    """How a stage is judged on held-out tasks when its frames are done."""

    tasks: int = Field(512, ge=1, le=100_000, description="Held-out tasks.")
    trials: list[Annotated[int, Field(ge=1, le=48)]] = Field(
        [1, 2, 3, 5, 8, 13], min_length=1, max_length=16, description="Numbers of trials, ascending; 1 to 48."
    )
    repetitions: int = Field(1, ge=1, le=1000, description="Episodes a task and number of trials.")
    probe_tasks: bool = Field(False, description="Also play each probe task (docs/probe-tasks.md) 16 times.")
    gates: list[Gate] = Field([], max_length=64, description="Scores that must be reached.")


class Store(Model):
    """An S3-compatible object store."""

    endpoint: str = Field(pattern=r"^https?://[^/\s]+$", max_length=512, description="URL of the store.")
    bucket: str = Field(
        min_length=3, max_length=63, pattern=r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$", description="Bucket, which must exist."
    )
    prefix: str = Field("", max_length=512, description="Key prefix inside the bucket.")
    region: str = Field("us-east-1", max_length=64, description="Region.")
    secret_name: str | None = Field(None, max_length=253, description="Secret with `accessKey` and `secretKey`.")
    ca_config_map: str | None = Field(None, max_length=253, description="ConfigMap whose `ca.crt` signs the store.")
    path_style: bool = Field(True, description="Address the bucket in the path, as MinIO does.")


class Retention(Model):
    """Which checkpoints are kept; the newest and those that others depend on always are."""

    last: int = Field(2, ge=1, le=10_000, description="The last N.")
    every: int | None = Field(None, ge=1, le=10**15, description="And one every so many frames.")
    best: bool = Field(True, description="And the one of the best score in training.")


class Checkpoint(Model):
    """When and where checkpoints are committed."""

    store: Store | None = Field(None, description="The object store; a directory in `ada run` if not set.")
    interval_seconds: int = Field(600, ge=1, le=86_400, description="Commit at least this often.")
    interval_frames: int | None = Field(None, ge=1, le=10**15, description="And at least every so many frames.")
    retention: Retention = Field(Retention(), description="Which ones are kept.")


class Scheduling(Model):
    """Queues and gangs."""

    queue_name: str | None = Field(None, max_length=253, description="Kueue's local queue.")
    gang: Literal["none", "kueue", "volcano"] = Field("none", description="Who starts the pods all at once.")
    topology_key: str | None = Field(None, max_length=253, description="Keep a group within one value of this label.")


class FailurePolicy(Model):
    """What a failure means. Disruptions never count; code failures do."""

    max_code_failures: int = Field(3, ge=0, le=1000, description="Crashes of our own code before giving up.")
    on_stall: Literal["restart", "rollback", "fail"] = Field("restart", description="When progress stops.")
    on_nan: Literal["rollback", "fail"] = Field("rollback", description="When too many updates are not finite.")
    on_collapse: Literal["ignore", "rollback", "fail"] = Field("ignore", description="When the score collapses.")
    stall_seconds: int = Field(600, ge=10, le=86_400, description="Silence that counts as a stall, at least.")
