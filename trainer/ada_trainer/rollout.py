"""Collecting unrolls: worlds, leases, acting, and what became of each episode.

    lease -> reserve -> assigned to a world -> running -> Result

A world always has its next episode assigned while the present one runs, so that no timestep is lost in between.

Not kept over a restart: episodes in flight, that is worlds, memories and leases held. Whoever lent the leases lends
the tasks again. `state_dict` holds the only thing that goes on: the generator from which actions are drawn.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ada_api.curriculum import Fitness
from ada_api.stages import Algorithm
from ada_curriculum.types import Lease, Result
from ada_sim.batch import TimeStep
from ada_sim.constants import ACTION_REST, ACTION_SIZES
from ada_sim.observation import MAX_TRIALS
from ada_trainer.algorithms.fitness import action_model_errors, value_model_errors
from ada_trainer.algorithms.returns import td_errors
from ada_trainer.batch import Batch
from ada_trainer.coplayers import CoPlayer
from ada_trainer.exits import ConfigurationError
from ada_trainer.networks.agent import AgentNetwork, AgentState
from ada_trainer.noting import Buffers, History

RESERVE_SHARE = 8  # leases are asked for an eighth of the worlds at a time


class Simulator(Protocol):
    """What the collector needs of `BatchSim` or `SimulatorClient`."""

    def assign(self, worlds: np.ndarray, tasks: np.ndarray, trials: np.ndarray, seeds: np.ndarray) -> None:
        """Set the next episode of these worlds."""

    def step(self, actions: np.ndarray) -> TimeStep:
        """Advance all worlds."""
        ...


@dataclass(frozen=True, slots=True)
class Collected:
    """One collection: the batch to learn from, what ended, and how training goes. The next one reuses the buffers."""

    batch: Batch
    results: list[Result]
    timesteps: int  # of active worlds: frames
    trial_scores: np.ndarray  # float64 [48]: sum of the shares of time in the goal, by index of the trial
    trial_counts: np.ndarray  # int64 [48]; both of episodes that the agent played


class _Episodes:
    """Leases waiting, assigned and running, by world."""

    def __init__(self, worlds: int, lease: Callable[[int], list[Lease]]) -> None:
        self._lease = lease
        self._reserve: deque[Lease] = deque()
        self._block = math.ceil(worlds / RESERVE_SHARE)
        self.assigned: list[Lease | None] = [None] * worlds
        self.running: list[Lease | None] = [None] * worlds
        self.learn = np.zeros(worlds, bool)
        self.noop = np.zeros(worlds, bool)

    def start(self, world: int) -> None:
        """Note that the world began what was assigned to it."""
        lease = self.assigned[world]
        assert lease is not None, f"world {world} started an episode that nobody assigned"
        self.assigned[world], self.running[world] = None, lease
        self.learn[world] = lease.learn and lease.policy == "agent"
        self.noop[world] = lease.policy == "noop"

    def end(self, world: int) -> Lease:
        """Note that the world's episode is over and return its lease."""
        lease = self.running[world]
        assert lease is not None, f"world {world} ended an episode that never started"
        self.running[world] = None
        self.learn[world] = self.noop[world] = False
        return lease

    def drop(self, world: int) -> None:
        """Note that the world was lost: its episode is gone, what was assigned to it has not begun and is kept."""
        if (waiting := self.assigned[world]) is not None:
            self._reserve.appendleft(waiting)
        self.assigned[world] = self.running[world] = None
        self.learn[world] = self.noop[world] = False

    def supply(self, simulator: Simulator, ask: bool) -> bool:
        """Assign leases to worlds without a next episode; return whether enough could be had."""
        needy = [world for world, lease in enumerate(self.assigned) if lease is None]
        if len(self._reserve) < len(needy) and ask:
            self._reserve.extend(self._lease(max(len(needy) - len(self._reserve), self._block)))
        served = needy[: len(self._reserve)]
        if served:
            leases = [self._reserve.popleft() for _ in served]
            for world, lease in zip(served, leases, strict=True):
                self.assigned[world] = lease
            simulator.assign(
                np.array(served, np.int64),
                np.array([lease.task for lease in leases], np.uint64),
                np.array([lease.trials for lease in leases], np.int64),
                np.array([lease.seed for lease in leases], np.uint64),
            )
        return len(served) == len(needy)


class _Scores:
    """Shares of time in the goal by trial, and the last trial's mean fitness measure, per world."""

    def __init__(self, worlds: int) -> None:
        self._reward = np.zeros(worlds)
        self._error = np.zeros(worlds)
        self._timesteps = np.zeros(worlds, np.int64)
        self._played = np.zeros(worlds, np.int64)
        self._shares: list[list[float]] = [[] for _ in range(worlds)]
        self.totals = np.zeros(MAX_TRIALS)
        self.counts = np.zeros(MAX_TRIALS, np.int64)
        self.results: list[Result] = []

    def begin(self) -> None:
        """Start a new collection."""
        self.totals, self.counts, self.results = np.zeros(MAX_TRIALS), np.zeros(MAX_TRIALS, np.int64), []

    def add(
        self,
        reward: np.ndarray,
        error: np.ndarray,
        active: np.ndarray,
        trial_ended: np.ndarray,
        ended: dict[int, Lease],
    ) -> None:
        """Count one timestep, arrays [B]; `ended` are the episodes that ended with it, by world."""
        self._reward += reward * active
        self._error += error * active
        self._timesteps += active
        self._played += active
        for world in np.flatnonzero(trial_ended >= 0).tolist():
            share = float(self._reward[world] / self._timesteps[world])
            self._shares[world].append(min(share, 1.0))
            if world in ended:
                self._finish(world, ended[world])
            self._reward[world] = self._error[world] = self._timesteps[world] = 0

    def drop(self, worlds: Sequence[int]) -> None:
        """Forget the episodes of these worlds, which were lost with their simulator."""
        for world in worlds:
            self._reward[world] = self._error[world] = self._timesteps[world] = self._played[world] = 0
            self._shares[world] = []

    def _finish(self, world: int, lease: Lease) -> None:
        shares = self._shares[world]
        fitness = float(self._error[world] / self._timesteps[world])
        self.results.append(Result(lease.id, tuple(shares), fitness, int(self._played[world])))
        if lease.policy == "agent":
            self.totals[: len(shares)] += shares
            self.counts[: len(shares)] += 1
        self._shares[world] = []
        self._played[world] = 0


def seats_of(worlds: int, players: int, beside_a_co_player: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the agent's seats and the co-player's, int64 [worlds, seats]; raises ConfigurationError for one player."""
    if not beside_a_co_player:
        return np.tile(np.arange(players), (worlds, 1)), np.empty((worlds, 0), np.int64)
    if players != 2:
        raise ConfigurationError(f"a co-player needs tasks of two players, these are of {players}: set players to 2")
    own = np.arange(worlds)[:, None] % 2
    return own, 1 - own


class Collector:
    """Acts in B worlds with P players each: B * P agents of one network, or B of them, each beside a co-player.

    Beside a co-player the agent sits in seat 0 of every other world and in seat 1 of the rest.
    """

    def __init__(
        self,
        simulator: Simulator,
        worlds: int,
        players: int,
        network: AgentNetwork,
        algorithm: Algorithm,
        lease: Callable[[int], list[Lease]],
        *,
        seed: int,
        teacher: AgentNetwork | None = None,
        renewed: Callable[[], Iterable[int]] = tuple,
        fitness: Fitness = "td-error",
        co_player: CoPlayer | None = None,
    ) -> None:
        """Act in the worlds of `simulator`, with episodes from `lease`.

        Args:
            co_player: has the other seat of each world; without one the agent has all seats.
            renewed: returns the worlds that the last step opened anew, because their simulator was lost.
            fitness: what of a timestep counts for the curriculum; a measure by the model needs a network with one.

        Raises ConfigurationError for a fitness that the network can't tell.
        """
        if fitness != "td-error" and network.model is None:
            raise ConfigurationError(f"fitness {fitness} needs a learned model: use algorithm muesli, or td-error")
        self._simulator, self._renewed, self._fitness = simulator, renewed, fitness
        self._worlds, self._players, self._co_player = worlds, players, co_player
        self._seats, self._other_seats = seats_of(worlds, players, co_player is not None)
        self._own = self._seats.shape[1]  # agents a world
        self._agents = worlds * self._own
        self._network, self._teacher = network, teacher
        self._algorithm = algorithm
        self._device = network.rest.device
        self._rows, self._other_rows = (
            torch.from_numpy((np.arange(worlds)[:, None] * players + seats).ravel()).to(self._device)
            for seats in (self._seats, self._other_seats)
        )
        self._generator = torch.Generator(self._device).manual_seed(seed)
        self._episodes = _Episodes(worlds, lease)
        self._scores = _Scores(worlds)
        self._rest = torch.tensor(ACTION_REST, dtype=torch.int8, device=self._device)
        self._clear = torch.zeros(self._agents, dtype=torch.bool, device=self._device)
        self._timestep: TimeStep | None = None
        self._observation: dict[str, Tensor] = {}
        self._others_observation: dict[str, Tensor] = {}
        self._buffers: Buffers | None = None
        with torch.inference_mode():
            self._state = network.initial_state(self._agents)
            self._teacher_state = teacher.initial_state(self._agents) if teacher else None

    def state_dict(self) -> dict[str, Tensor]:
        """Return what goes on after a restart: the state of the generator."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on drawing actions from there."""
        self._generator.set_state(state["generator"])

    def collect(self) -> Collected:
        """Act for one unroll in all worlds."""
        with torch.inference_mode():
            return self._collect()

    def _collect(self) -> Collected:
        T = self._algorithm.unroll
        if self._timestep is None:
            self._begin()
        if self._buffers is None:
            self._buffers = Buffers(T, self._observation, self._network, self._teacher is not None)
        buffers = self._buffers
        self._state = self._network.renew(self._state)
        start = self._network.clone(self._state)
        history = History(T, self._worlds, self._seats)
        supplied = True
        for t in range(T):
            actions = self._act(t, buffers)
            assert self._timestep is not None
            history.before(t, self._timestep.active, self._episodes.learn)
            self._timestep = self._simulator.step(actions)
            history.after(t, self._timestep)
            dropped = self._drop(t, history)
            if self._turn_over(t, history) or dropped or not supplied:
                supplied = self._episodes.supply(self._simulator, ask=supplied)
            self._look()
        output, _ = self._network.step(self._observation, self._network.clone(self._state), self._clear)
        buffers.note(T, output)
        return self._finish(buffers, start, history)

    def _begin(self) -> None:
        """Give every world an episode, start them with a step at rest, and assign the next ones."""
        self._episodes.supply(self._simulator, ask=True)
        actions = np.tile(np.array(ACTION_REST, np.int8), (self._worlds, self._players, 1))
        self._timestep = self._simulator.step(actions)
        for lost in self._renewed():
            self._episodes.drop(int(lost))
        for world in np.flatnonzero(self._timestep.episode_started):
            self._episodes.start(int(world))
        self._episodes.supply(self._simulator, ask=True)
        self._look()

    def _look(self) -> None:
        """Take over the observation of the present timestep, agents first."""
        assert self._timestep is not None
        started = self._timestep.episode_started
        self._clear = torch.from_numpy(started.repeat(self._own)).to(self._device)
        everyone = {
            name: torch.from_numpy(field).flatten(0, 1).to(self._device)
            for name, field in self._timestep.observation.items()
        }
        if self._co_player is None:
            self._observation = everyone
            return
        self._observation = {name: field.index_select(0, self._rows) for name, field in everyone.items()}
        self._others_observation = {name: field.index_select(0, self._other_rows) for name, field in everyone.items()}

    def _act(self, t: int, buffers: Buffers) -> np.ndarray:
        """Choose actions [B, P, 6] and note everything the learner needs."""
        buffers.clear[t] = self._clear
        for name, field in self._observation.items():
            buffers.observation[name][t] = field
        output, self._state = self._network.step(self._observation, self._state, self._clear)
        actions = self._network.sample(output, self._generator)
        if self._episodes.noop.any():
            resting = torch.from_numpy(self._episodes.noop.repeat(self._own)).to(self._device)
            actions[resting] = self._rest
        buffers.actions[t] = actions
        buffers.log_prob[t] = self._network.log_prob(output, actions)
        buffers.note(t, output)
        if self._teacher is not None and self._teacher_state is not None:
            labels, self._teacher_state = self._teacher.step(self._observation, self._teacher_state, self._clear)
            buffers.teacher[t] = torch.cat(labels.logits, -1)
        if self._co_player is not None:
            others = self._co_player.act(self._others_observation, self._clear, self._generator)
            both = actions.new_empty(self._worlds * self._players, len(ACTION_SIZES))
            both[self._rows], both[self._other_rows] = actions, others
            actions = both
        return actions.cpu().numpy().reshape(self._worlds, self._players, len(ACTION_SIZES))

    def _drop(self, t: int, history: History) -> bool:
        """Drop the episodes of worlds that were lost with this step; return whether there were any."""
        lost = [int(world) for world in self._renewed()]
        for world in lost:
            self._episodes.drop(world)
        history.drop(t, lost)
        return len(lost) > 0

    def _turn_over(self, t: int, history: History) -> bool:
        """Note which episodes ended and which began; return whether any began."""
        assert self._timestep is not None
        for world in np.flatnonzero(self._timestep.episode_ended):
            history.ended[t][int(world)] = self._episodes.end(int(world))
        started = np.flatnonzero(self._timestep.episode_started)
        for world in started:
            self._episodes.start(int(world))
        return len(started) > 0

    def _finish(self, buffers: Buffers, start: AgentState, history: History) -> Collected:
        """Turn what was noted into a batch and results."""
        P, T = self._own, len(buffers.clear)
        algorithm = self._algorithm
        buffers.reward.copy_(torch.from_numpy(history.reward).flatten(1) * algorithm.reward_scale)
        buffers.continues.copy_(torch.from_numpy(~history.episode_ended.repeat(P, 1)))
        buffers.learn.copy_(torch.from_numpy((history.learn & history.active).repeat(P, 1)))
        by_world = self._worth(buffers).view(T, self._worlds, P).mean(-1).cpu().numpy()
        rewards = history.reward.mean(-1)
        self._scores.begin()
        for t in range(T):
            self._scores.add(rewards[t], by_world[t], history.active[t], history.trial_ended[t], history.ended[t])
            self._scores.drop(history.dropped[t])
        batch = Batch(
            observation=buffers.observation,
            clear=buffers.clear,
            actions=buffers.actions,
            log_prob=buffers.log_prob,
            reward=buffers.reward,
            value=buffers.value,
            continues=buffers.continues,
            learn=buffers.learn,
            state=start,
            teacher=buffers.teacher if self._teacher is not None else None,
            roots=buffers.roots,
        )
        scores = self._scores
        return Collected(batch, scores.results, int(history.active.sum()) * P, scores.totals, scores.counts)

    def _worth(self, buffers: Buffers) -> Tensor:
        """Return what each timestep tells of its task, [T, agents]: the measure that is the fitness."""
        if self._fitness == "td-error":
            errors = td_errors(buffers.reward, buffers.value, buffers.continues, self._algorithm.discount)
            return errors.abs()
        model, roots = self._network.model, buffers.roots
        assert model is not None and roots is not None
        predicted = model.step(roots[:-1], buffers.actions[..., self._network.groups])
        if self._fitness == "value-model":
            return value_model_errors(buffers.value, model.value(predicted), buffers.continues)
        return action_model_errors(model.policy(roots[1:]), model.policy(predicted), buffers.continues)

    def stop_labelling(self) -> None:
        """Let the teacher go: the frames of imitation are over."""
        self._teacher = self._teacher_state = None
