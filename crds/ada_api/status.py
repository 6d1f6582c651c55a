"""`status`: what is, written by the operator only. People read the first lines; the planner remembers by the rest."""

from typing import Literal

from pydantic import ConfigDict, Field, computed_field

from ada_api.base import Model
from ada_api.progress import CommittedCheckpoint, TrialScore
from ada_api.stages import CheckpointReference

Phase = Literal["Pending", "Starting", "Training", "Evaluating", "Suspending", "Suspended", "Succeeded", "Failed"]
StagePhase = Literal["Pending", "Preparing", "Training", "Evaluating", "Succeeded"]


class StatusModel(Model):
    """A part of the status; fields that a newer operator wrote are ignored."""

    model_config = ConfigDict(**{**Model.model_config, "extra": "ignore"})


class Condition(StatusModel):
    """A standard condition; `docs/status.md` lists types and reasons."""

    type: str = Field(max_length=316, description="Type, in CamelCase.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(max_length=1024, description="Reason, in CamelCase.")
    message: str = Field("", max_length=32_768, description="A sentence for a person.")
    last_transition_time: str = Field(description="When `status` last changed.")
    observed_generation: int = Field(0, description="Generation of the spec this is about.")


class NodeCounts(StatusModel):
    """Trainer nodes of the running stage."""

    ready: int = Field(0, description="Nodes that are up.")
    desired: int = Field(0, description="Nodes that are wanted.")


class RestartCounts(StatusModel):
    """Failures by cause; a crash that all nodes of a group feel is one."""

    code: int = Field(0, description="Crashes of the program.")
    out_of_memory: int = Field(0, description="Ends for lack of memory.")
    stall: int = Field(0, description="Groups made anew because nothing was learned any more.")
    not_finite: int = Field(0, description="Groups made anew because updates were not finite.")
    collapse: int = Field(0, description="Groups made anew because the score collapsed.")
    disruption: int = Field(0, description="Nodes lost, drained or preempted; never counted against a budget.")


FailureCause = Literal["code", "out_of_memory", "stall", "not_finite", "collapse", "disruption"]
LossCause = Literal[FailureCause, "starting", "queued", "suspended", "resized", "unobserved", "other"]


class LostSeconds(StatusModel):
    """Time in which no group trained though one was wanted, by cause."""

    code: float = Field(0.0, description="To crashes of the program.")
    out_of_memory: float = Field(0.0, description="To ends for lack of memory.")
    stall: float = Field(0.0, description="To groups that no longer learned.")
    not_finite: float = Field(0.0, description="To updates that were not finite.")
    collapse: float = Field(0.0, description="To scores that collapsed.")
    disruption: float = Field(0.0, description="To nodes lost, drained or preempted.")
    starting: float = Field(0.0, description="To starts: of a stage's first group, after a queue or a suspension.")
    queued: float = Field(0.0, description="To a queue that held the group.")
    suspended: float = Field(0.0, description="To `spec.suspend`.")
    resized: float = Field(0.0, description="To new bounds of the group.")
    unobserved: float = Field(0.0, description="Nobody could tell whether it trained.")
    other: float = Field(0.0, description="To anything else, as the end of a group whose frames are done.")


class StageStatus(StatusModel):
    """One stage."""

    name: str = Field(description="Name of the stage.")
    phase: StagePhase = Field("Pending", description="Where it is.")
    generation: int = Field(0, description="Number of its newest training group.")
    frames: int = Field(0, description="Frames learned from.")
    frames_total: int = Field(0, description="Frames to learn from.")
    frames_per_second: float = Field(0.0, description="Speed.")
    score: float | None = Field(None, description="Mean training score of recent last trials.")
    best_score: float | None = Field(None, description="The best of it since the group started.")
    checkpoint: CommittedCheckpoint | None = Field(None, description="Newest commit.")
    earlier_checkpoint: CommittedCheckpoint | None = Field(None, description="The commit before, for a roll-back.")
    resume: CommittedCheckpoint | None = Field(None, description="Where the next group starts, if not at the newest.")
    teacher: CheckpointReference | None = Field(None, description="The teacher's checkpoint, pinned.")
    evaluation: list[TrialScore] = Field([], description="Scores on held-out tasks.")
    restarts: RestartCounts = Field(RestartCounts(), description="Failures by cause.")
    group_restarts: RestartCounts = Field(RestartCounts(), description="Those of the present group.")
    given_up: int = Field(0, description="Number of the newest training group that was given up.")
    forgiven: int = Field(0, description="Counted failures up to the newest commit, which use up no budget.")
    skipped_updates_before: int = Field(0, description="Updates skipped by former groups.")
    start_time: str | None = Field(None, description="When its first group started.")
    trained_time: str | None = Field(None, description="When its frames were done and committed.")
    completion_time: str | None = Field(None, description="When it was evaluated and passed.")


class ExperimentStatus(StatusModel):
    """The whole status."""

    phase: Phase = Field("Pending", description="Derived from the conditions, for printing.")
    stage: str = Field("", description="Running stage, as `2/3 student`.")
    frames: int = Field(0, description="Frames of the running stage.")
    progress: str = Field("", description="Share of the running stage's frames, as `42 %`.")
    frames_per_second: float = Field(0.0, description="Speed.")
    score: float | None = Field(None, description="Training score of the running stage.")
    nodes: NodeCounts = Field(NodeCounts(), description="Trainer nodes.")
    checkpoint: CommittedCheckpoint | None = Field(None, description="Newest commit of the running stage.")
    restarts: int = Field(0, description="Failures of all stages, disruptions included.")
    goodput: float | None = Field(None, description="trainingSeconds as a share of it and all of lostSeconds.")
    training_seconds: float = Field(0.0, description="Time in which the group trained.")
    lost_seconds: LostSeconds = Field(LostSeconds(), description="Time in which it should have and did not, by cause.")
    looked: float | None = Field(None, description="Until when the two are booked; s since 1970.")
    losing: LossCause | None = Field(None, description="What the time since then is being lost to, if it is.")
    start_time: str | None = Field(None, description="When the experiment was first acted on, or last resumed.")
    completion_time: str | None = Field(None, description="When it ended.")
    observed_generation: int = Field(0, description="Generation of the spec the status is about.")
    stages: list[StageStatus] = Field([], description="One entry a stage.")
    conditions: list[Condition] = Field([], description="The truth; see docs/status.md.")

    @computed_field(alias="nodesReady", description="Ready and wanted nodes, as `3/4`.")  # type: ignore[prop-decorator]
    @property
    def nodes_ready(self) -> str:
        """Return ready and wanted nodes as one word, because a printer column can't join two fields."""
        return f"{self.nodes.ready}/{self.nodes.desired}"
