"""What travels between the curriculum and the trainers: one episode lent out, and what became of it."""

from dataclasses import dataclass
from typing import Literal

Policy = Literal["agent", "noop"]


@dataclass(frozen=True, slots=True)
class Lease:
    """One episode of a task, lent to a trainer worker."""

    id: str  # opaque; never given twice, not even after a restore
    task: int  # uint64, see ada_sim.tasks.source
    trials: int  # k
    seed: int  # uint64, of everything random in the episode
    learn: bool  # whether the learner may use its experience
    policy: Policy


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a lease."""

    lease: str
    returns: tuple[float, ...]  # [trials], share of each trial's time in the goal, 0 to 1
    fitness: float  # mean per-timestep measure over the last trial
    timesteps: int  # of the whole episode
