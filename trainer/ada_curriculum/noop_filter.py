"""`noop-filter`: train on a task if acting makes a difference there (AdA, appendix D, "No-op filtering").

A candidate is played for n single-trial episodes by the agent and by a policy that does nothing; an accepted task is
trained on for a fixed number of episodes of its own k, then dropped. Returns are shares of the trial's duration T.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ada_api.curriculum import NoopFilter
from ada_curriculum.orders import Order, Purpose, Tasks

REASONS = ("solved_by_noop", "too_easy", "agent_like_noop", "too_even")


def reason_to_reject(agent: Sequence[float], noop: Sequence[float], limits: NoopFilter) -> str | None:
    """Return the first criterion that a candidate fails, None if it is accepted.

    Args:
        agent: returns R of the agent's episodes, as shares of T.
        noop: returns R' of the no-op policy's.
    """
    above = sum(value >= max(noop) + limits.epsilon_0 for value in agent)
    below = sum(value <= min(noop) - limits.epsilon_0 for value in agent)
    criteria = {
        "solved_by_noop": max(noop) <= limits.epsilon_1,
        "too_easy": sum(value >= limits.epsilon_2 for value in agent) <= limits.epsilon_3,
        "agent_like_noop": above >= limits.epsilon_4 or below >= limits.epsilon_5,
        "too_even": max(agent) - min(agent) >= limits.epsilon_6,
    }
    return next((reason for reason in REASONS if not criteria[reason]), None)


@dataclass
class Candidate:
    """A task that is being played for admission."""

    task: int
    agent: list[float] = field(default_factory=list)
    noop: list[float] = field(default_factory=list)


class NoopFiltering:
    """The candidates in play, and counts of what became of the earlier ones."""

    def __init__(self, parameters: NoopFilter) -> None:
        self.parameters = parameters
        self.candidates: dict[int, Candidate] = {}
        self.accepted = 0
        self.rejected = dict.fromkeys(REASONS, 0)
        self._next_candidate = 0

    def next_orders(self, random: np.random.Generator, tasks: Tasks) -> list[Order]:
        """Order all the episodes of a new candidate."""
        number, task = self._next_candidate, tasks.draw(random, held_out=False)
        self._next_candidate += 1
        self.candidates[number] = Candidate(task)
        purposes = (Purpose.FILTER_AGENT, Purpose.FILTER_NOOP)
        orders = [Order(task, 1, learn=False, purpose=purpose, candidate=number) for purpose in purposes]
        return orders * self.parameters.episodes

    def apply(self, order: Order, returns: Sequence[float], fitness: float, tasks: Tasks) -> list[Order]:
        """Note a candidate's return; after its last one decide, and order the training of an accepted task."""
        candidate = self.candidates.get(order.candidate)
        if candidate is None or order.purpose == Purpose.TRAIN:
            return []
        (candidate.noop if order.purpose == Purpose.FILTER_NOOP else candidate.agent).append(returns[-1])
        if min(len(candidate.agent), len(candidate.noop)) < self.parameters.episodes:
            return []
        del self.candidates[order.candidate]
        reason = reason_to_reject(candidate.agent, candidate.noop, self.parameters)
        if reason is not None:
            self.rejected[reason] += 1
            return []
        self.accepted += 1
        training = Order(order.task, tasks.trials(order.task), learn=True, purpose=Purpose.TRAIN)
        return [training] * self.parameters.training_episodes

    def lost(self, order: Order) -> list[Order]:
        """Play a candidate's lost episode again; without it the candidate would never be decided."""
        return [order] if order.candidate in self.candidates and order.purpose != Purpose.TRAIN else []

    def figures(self) -> dict[str, float]:
        """Return candidates in play, and accepted and rejected ones so far."""
        rejected = {f"rejected_{reason}": float(count) for reason, count in self.rejected.items()}
        return {"candidates": float(len(self.candidates)), "accepted": float(self.accepted), **rejected}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return candidates (with returns float64 [C, 2, episodes], NaN where not played yet) and counts."""
        returns = np.full((len(self.candidates), 2, self.parameters.episodes), np.nan)
        for row, candidate in enumerate(self.candidates.values()):
            returns[row, 0, : len(candidate.agent)] = candidate.agent
            returns[row, 1, : len(candidate.noop)] = candidate.noop
        counts = [self._next_candidate, self.accepted, *self.rejected.values()]
        return {
            "candidates": np.array(list(self.candidates), np.int64),
            "candidate_tasks": np.array([candidate.task for candidate in self.candidates.values()], np.uint64),
            "candidate_returns": returns,
            "counts": np.array(counts, np.int64),
        }

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Replace candidates and counts by a snapshot's."""
        numbers, tasks, returns = (arrays[f"candidate{name}"] for name in ("s", "_tasks", "_returns"))
        if returns.shape != (len(numbers), 2, self.parameters.episodes) or len(tasks) != len(numbers):
            raise ValueError(
                f"candidates of a snapshot have returns {returns.shape}, not {self.parameters.episodes} each"
            )
        self.candidates = {}
        for row, number in enumerate(numbers):
            agent, noop = ([float(value) for value in side if not np.isnan(value)] for side in returns[row])
            self.candidates[int(number)] = Candidate(int(tasks[row]), agent, noop)
        self._next_candidate, self.accepted, *rejected = (int(count) for count in arrays["counts"])
        self.rejected = dict(zip(REASONS, rejected, strict=True))
