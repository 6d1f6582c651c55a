"""What a curriculum method is: it orders episodes, and learns from what became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np

from ada_curriculum.types import Policy


class Purpose(IntEnum):
    """Why an episode is played."""

    TRAIN = 0  # learn from it; its outcome decides nothing
    EVALUATE = 1  # fitness of a new task
    REPLAY = 2  # learn from an archived task and refresh its fitness
    FILTER_AGENT = 3  # the agent's side of the no-op filter
    FILTER_NOOP = 4  # and the no-op policy's


@dataclass(frozen=True, slots=True)
class Order:
    """One episode that a method wants to be played."""

    task: int
    trials: int
    learn: bool
    purpose: Purpose
    candidate: int = 0  # of the no-op filter

    @property
    def policy(self) -> Policy:
        """Return who acts."""
        return "noop" if self.purpose == Purpose.FILTER_NOOP else "agent"


class Tasks(Protocol):
    """What a method needs of the task source (ada_sim.tasks.source.TaskSource)."""

    def draw(self, rng: np.random.Generator, held_out: bool) -> int:
        """Draw the number of a task."""

    def trials(self, number: int) -> int:
        """Return the number of trials that belongs to a task."""


class Method(Protocol):
    """`plr`, `noop-filter` or `uniform`: rules with the data they need. Time and randomness come from outside."""

    def next_orders(self, random: np.random.Generator, tasks: Tasks) -> list[Order]:
        """Decide what to do next; returns one order or more."""

    def apply(self, order: Order, returns: Sequence[float], fitness: float, tasks: Tasks) -> list[Order]:
        """Take the outcome of an order; returns the orders that follow from it."""

    def lost(self, order: Order) -> list[Order]:
        """Take note that an order's outcome will never come; returns the orders to play instead."""

    def figures(self) -> dict[str, float]:
        """Return what is worth logging, by name."""

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return everything that decides later orders."""

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Replace the state by a snapshot's. Raises KeyError or ValueError if it makes no sense."""
