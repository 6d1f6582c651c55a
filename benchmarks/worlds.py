"""Batches of worlds at work: tasks of 12 objects and 12 rules, random and busy players, episodes without end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ada_api.environment import Environment, GameRanges, IntRange, WorldRanges
from ada_sim.batch import BatchSim
from ada_sim.constants import ACTION_REST, ACTION_SIZES, FIRST_OBJECT, GRIP, MOVE, PITCH, REACH, TURN
from ada_sim.tasks.source import TaskSource
from ada_sim.tasks.task import Task

OBJECTS = RULES = 12
SIDE = 13  # tiles, as XLand-MiniGrid's R4-13x13
GRIP_FROM_M = 1.2
CARRY_TIMESTEPS = 8
GAME = GameRanges(rules=IntRange(min=7, max=8), distractors=IntRange(min=2, max=10), dead_ends=IntRange(min=5, max=8))


def environment(seconds: Sequence[int] = (10, 25, 40)) -> Environment:
    """Return generated tasks with many rules in worlds of 13 x 13 tiles, one trial an episode."""
    return Environment(
        observation="symbolic",
        trials=IntRange(min=1, max=1),
        trial_seconds=list(seconds),
        world=WorldRanges(size=IntRange(min=SIDE, max=SIDE)),
        game=GAME,
    )


@dataclass(frozen=True)
class Chosen:
    """Some tasks as a source."""

    tasks: Sequence[Task]

    def task(self, number: int) -> Task:
        """Return the task with this number, round and round."""
        return self.tasks[number % len(self.tasks)]


def crowded_tasks(count: int, seconds: Sequence[int] = (10, 25, 40)) -> Chosen:
    """Return generated tasks that have exactly 12 objects and 12 rules."""
    source, rng = TaskSource(environment(seconds)), np.random.default_rng(0)
    found: list[Task] = []
    for _ in range(100_000):
        task = source.task(source.draw(rng, False))
        if len(task.objects) == OBJECTS and len(task.game.rules) == RULES:
            found.append(task)
            if len(found) == count:
                return Chosen(found)
    raise RuntimeError(f"only {len(found)} of 100,000 generated tasks have {OBJECTS} objects and {RULES} rules")


class Worlds:
    """A batch whose worlds always have a next episode, as a collector sees to it."""

    def __init__(self, sim: BatchSim, seed: int = 0) -> None:
        self.sim = sim
        self.reward = 0.0
        self._rng = np.random.default_rng(seed)
        everyone = np.arange(sim.num_worlds)
        self._assign(everyone)
        sim.reset(everyone)
        self._assign(everyone)

    def step(self, actions: np.ndarray) -> None:
        """Take a step; worlds whose episode ended get another one for later."""
        timestep = self.sim.step(actions)
        self.reward += float(timestep.reward.sum())
        ended = np.flatnonzero(timestep.episode_ended)
        if ended.size:
            self._assign(ended)

    def spread(self, timesteps: int) -> None:
        """Have the episodes of worlds end at different times: an equal share of them starts anew with each step."""
        rest = resting(self.sim.num_worlds)
        for share in np.array_split(self._rng.permutation(self.sim.num_worlds), timesteps):
            self.sim.reset(share)
            self._assign(share)
            self.step(rest)

    def _assign(self, worlds: np.ndarray) -> None:
        tasks, seeds = self._rng.integers(1 << 34, size=(2, len(worlds))).astype(np.uint64)  # within the pool
        self.sim.assign(worlds, tasks, np.ones(len(worlds), np.int64), seeds)


def resting(worlds: int) -> np.ndarray:
    """Return actions that do nothing, [B, 1, 6]."""
    return np.tile(np.array(ACTION_REST, np.int8), (worlds, 1, 1))


def random_actions(worlds: int, timesteps: int) -> np.ndarray:
    """Return uniformly random actions, int8 [T, B, 1, 6]."""
    rng = np.random.default_rng(1)
    return rng.integers(0, ACTION_SIZES, size=(timesteps, worlds, 1, len(ACTION_SIZES)), dtype=np.int8)


def replay(worlds: Worlds, actions: np.ndarray) -> Callable[[], None]:
    """Return a function that takes these actions [T, B, P, 6], one after the other."""

    def work() -> None:
        for row in actions:
            worlds.step(row)

    return work


def moved_share(sim: BatchSim, before: dict[str, np.ndarray]) -> float:
    """Return the share of worlds in which an object is not where it was or not what it was."""
    now = sim.state()
    place, kind = "world.position", "world.kind"
    other = (now[kind] != before[kind]).any(1) | (np.abs(now[place] - before[place]).max(2) > 0.1)[
        :, FIRST_OBJECT:
    ].any(1)
    return float(other.mean())


@dataclass(frozen=True)
class BusyPlay:
    """Scripted actions from a state of a batch: played again, they do the same again."""

    state: dict[str, np.ndarray]
    actions: np.ndarray  # int8 [T, B, 1, 6]
    held_share: float  # of timesteps with an object in the hand
    moving: float  # objects a world that move, mean over timesteps


def busy_play(worlds: Worlds, timesteps: int) -> BusyPlay:
    """Let scripted players fetch, carry, push and throw for some timesteps."""
    sim, rng = worlds.sim, np.random.default_rng(2)
    start = sim.state()
    carried = np.zeros(sim.num_worlds, np.int64)
    taken, held_share, moving = [], 0.0, 0.0
    for _ in range(timesteps):
        state = sim.state()
        held = state["world.held"][:, 0] >= 0
        carried = np.where(held, carried + 1, 0)
        actions = _fetch_and_throw(state, held, carried, rng)
        taken.append(actions)
        worlds.step(actions)
        speed = np.abs(state["world.velocity"][:, FIRST_OBJECT:]).max(2)
        held_share += float(held.mean()) / timesteps
        moving += float((speed > 0.1).sum(1).mean()) / timesteps
    return BusyPlay(start, np.stack(taken), held_share, moving)


def _fetch_and_throw(
    state: dict[str, np.ndarray], held: np.ndarray, carried: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Walk to the nearest object, grip it, carry it on in a curve, throw it; whatever is in the way is pushed."""
    position, kind = state["world.position"], state["world.kind"]
    offset = position[:, FIRST_OBJECT:, :2] - position[:, :1, :2]
    distance = np.linalg.norm(offset, axis=2)
    distance[kind[:, FIRST_OBJECT:] < 0] = np.inf
    nearest = distance.argmin(1)
    everyone = np.arange(len(nearest))
    reach = distance[everyone, nearest]
    toward = offset[everyone, nearest]
    bearing = np.arctan2(toward[:, 1], toward[:, 0]) - state["world.yaw"][:, 0]
    bearing = (bearing + np.pi) % (2 * np.pi) - np.pi
    actions = resting(len(nearest))
    free = actions[:, 0]
    turn = np.select([bearing > 0.5, bearing > 0.1, bearing < -0.5, bearing < -0.1], [4, 3, 0, 1], 2)
    throws = carried > CARRY_TIMESTEPS
    free[:, TURN] = np.where(held, rng.integers(1, 4, len(held)), turn)
    free[:, MOVE] = np.where((np.abs(bearing) < 0.6) | held, 2, 1)
    free[:, GRIP] = np.where(held, ~throws, (reach < GRIP_FROM_M) & (np.abs(bearing) < 0.6))
    free[:, REACH] = np.where(throws | (carried > CARRY_TIMESTEPS - 3), 2, 0)
    free[:, PITCH] = np.where(held & (carried < 3), 2, np.where(held, 1, 0))
    return actions
