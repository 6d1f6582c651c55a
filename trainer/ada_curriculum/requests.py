"""The bodies of the service's requests, with their bounds: what does not fit here never reaches a stage."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ada_api.progress import TrialScore
from ada_api.stages import NAME_PATTERN
from ada_curriculum.fitness import MAX_TRIALS
from ada_curriculum.types import Result

MAX_BODY_BYTES = 4 << 20
MAX_LEASES = 4096  # of one request
MAX_METRICS = 256

StageName = Annotated[str, Field(min_length=1, max_length=40, pattern=NAME_PATTERN)]
MetricName = Annotated[str, Field(min_length=1, max_length=100)]
Share = Annotated[float, Field(ge=0, le=1.001)]  # float32 means may round above 1
Count = Annotated[int, Field(ge=0, lt=1 << 53)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StageBody(_Body):
    """A request about a stage."""

    stage: StageName


class GroupBody(StageBody):
    """A request by a training group; an older generation than the newest known one is refused."""

    generation: Count


class Register(GroupBody):
    """A training group begins."""

    workers: int = Field(ge=1, le=1_000_000)


class LeaseRequest(GroupBody):
    """A worker wants episodes."""

    worker: str = Field(max_length=253)
    count: int = Field(ge=1, le=MAX_LEASES)


class ResultBody(_Body):
    """`types.Result` on the wire."""

    lease: str = Field(min_length=1, max_length=64)
    returns: list[Share] = Field(min_length=1, max_length=MAX_TRIALS)
    fitness: float
    timesteps: int = Field(ge=0, lt=1 << 32)

    def to_result(self) -> Result:
        """Return the plain result."""
        return Result(self.lease, tuple(self.returns), self.fitness, self.timesteps)


class Report(GroupBody):
    """A worker's finished episodes."""

    worker: str = Field(max_length=253)
    results: list[ResultBody] = Field(max_length=MAX_LEASES)


class AdvanceRequest(GroupBody):
    """How far the group has come."""

    frames: Count
    updates: Count
    skipped_updates: Count = 0
    metrics: dict[MetricName, float] = Field({}, max_length=MAX_METRICS)


class CheckpointBody(GroupBody):
    """A request about a committed checkpoint."""

    uri: str = Field(min_length=1, max_length=1024)
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")


class Commit(CheckpointBody):
    """A checkpoint was committed."""

    frames: Count


class Restore(CheckpointBody):
    """The group went back to a checkpoint."""


class Finish(GroupBody):
    """The stage is over."""

    outcome: Literal["trained", "failed"]
    message: str = Field("", max_length=16_384)


class EvaluationBody(StageBody):
    """The stage was judged."""

    scores: list[TrialScore] = Field(max_length=64)
    best_score: float | None = None
