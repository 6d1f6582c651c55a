"""What a worker does in an iteration, as the loop sees it, and how it is put together from collector and learner."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ada_curriculum.client import CurriculumClient
from ada_curriculum.types import Result
from ada_trainer.elastic.group import Group
from ada_trainer.settings import Settings


@dataclass(frozen=True)
class Figures:
    """What came of one iteration."""

    frames: int  # this worker's own
    updates: int  # optimiser steps, the same on all workers
    skipped_updates: int
    results: tuple[Result, ...]  # episodes that ended in this worker's worlds
    losses: dict[str, float]  # over the group


class Work(Protocol):
    """Collecting and learning of one worker."""

    def begin(self, frames: int) -> None:
        """Begin from nothing."""

    def load(self, learner: Mapping[Any, Any], collector: Mapping[Any, Any] | None, frames: int) -> None:
        """Go on from a checkpoint; without a collector's state its random numbers follow from progress."""

    def collect(self) -> Any:
        """Play one unroll in every world."""

    def update(self, experience: Any, frames: int) -> Figures:
        """Learn from it together with the group; `frames` is the stage's progress before it."""

    def learner_state(self) -> dict[str, Any]:
        """Return what the next update depends on, the same on all workers."""

    def collector_state(self) -> dict[str, Any]:
        """Return what the next unroll depends on, this worker's own."""

    def totals(self) -> dict[str, int]:
        """Return counters for the metrics."""

    def close(self) -> None:
        """Let go of the simulators."""


def make_work(settings: Settings, group: Group, client: CurriculumClient, generation: int, worker: str) -> Work:
    """Return the real thing."""
    raise NotImplementedError("collector and learner are not connected yet")
