"""The generated pool: task i is world i // games and game i % games, both rebuilt from the pool's seed alone.

World, game, and where the game's objects stand in the world come from separate streams of random numbers, training
and held-out tasks from separate streams again; in addition hashes keep worlds and games of the two sides apart.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from ada_api.environment import Environment
from ada_sim.constants import TIMESTEP_S
from ada_sim.tasks.games import (
    FIRST,
    FROZEN,
    NEEDED,
    NEGATED,
    OBJECTS,
    RELATION,
    RULES,
    SECOND,
    SPAWN,
    SPAWNS,
    TYPE,
    GameBuffer,
    make_game,
)
from ada_sim.tasks.numbers import MOST_BODIES, MOST_SMALL, list_drawn
from ada_sim.tasks.random import below, hash_of
from ada_sim.tasks.task import (
    MAX_WORLD_SIZE,
    Game,
    Hiding,
    InitialObject,
    Numbers,
    Predicate,
    ProductionRule,
    Relation,
    Task,
    Tile,
    World,
)
from ada_sim.tasks.worlds import make_world

_WORLD_STREAM, _GAME_STREAM, _PLACE_STREAM = 1, 2, 3
_RELATIONS = tuple(Relation)
_FLOOR = int(Tile.FLOOR)
_MAX_PLACED = 40
MOST_DRAWS = 1000  # of a world for one task


@dataclass(frozen=True)
class GeneratedTask:
    """A task with the evidence that it can be solved."""

    task: Task
    plan: tuple[int, ...]  # indices of the rules that, fired in this order, yield the goal's objects
    home: np.ndarray  # bool [S, S], tiles each of which is reached on foot from each other; everything stands there


class Generator:
    """Draws the pool's tasks; holds nothing but buffers, so that every process draws the same."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._pool = environment.task_pool
        world, game = environment.world, environment.game
        self._sizes = np.array([max(6, world.size.min), min(MAX_WORLD_SIZE, world.size.max)], np.int64)
        self._levels = np.array([max(1, world.levels.min), max(1, world.levels.max)], np.int64)
        self._ranges = np.array([[r.min, r.max] for r in (game.rules, game.distractors, game.dead_ends)], np.int64)
        self._buffer = GameBuffer()
        side = (MAX_WORLD_SIZE, MAX_WORLD_SIZE)
        self._tiles, self._level_map = np.zeros(side, np.uint8), np.zeros(side, np.int8)
        self._home, self._queue = np.zeros(side, np.bool_), np.zeros(MAX_WORLD_SIZE**2, np.int32)
        self._spots = np.zeros((_MAX_PLACED, 2), np.int64)
        self._small, self._bodies = np.zeros(MOST_SMALL, np.uint8), np.zeros(MOST_BODIES)
        self._state = np.zeros(1, np.uint64)
        self._timesteps = [round(seconds / TIMESTEP_S) for seconds in environment.trial_seconds]

    def task(self, number: int, held_out: bool = False) -> Task:
        """Return task `number` of the training or of the held-out pool; raises ValueError beyond the pool."""
        return self.draw(number, held_out).task

    def draw(self, number: int, held_out: bool = False) -> GeneratedTask:
        """Return task `number` with its plan and home region."""
        if not 0 <= number < self._pool.worlds * self._pool.games:
            raise ValueError(
                f"task {number} is not in the pool of {self._pool.worlds} worlds x {self._pool.games} games"
            )
        world_number, game_number = divmod(number, self._pool.games)
        seeds = [
            hash_of(self._pool.seed, held_out, stream, part)
            for stream, part in ((_WORLD_STREAM, world_number), (_GAME_STREAM, game_number), (_PLACE_STREAM, number))
        ]
        timesteps = self._timesteps[seeds[2] % len(self._timesteps)]
        buffer, environment = self._buffer, self._environment
        size, small, bodies = _draw_task(
            np.array(seeds, np.uint64),
            self._state,
            self._sizes,
            self._levels,
            environment.world.wall_density,
            self._ranges,
            environment.game.hiding_probability,
            environment.game.frozen_probability,
            environment.players,
            held_out,
            timesteps,
            self._small,
            self._bodies,
            self._tiles,
            self._level_map,
            self._home,
            self._queue,
            self._spots,
            *(buffer.goal, buffer.rules, buffer.chain, buffer.objects, buffer.hidings, buffer.counts, buffer.types),
        )
        if size == 0:
            world = environment.world
            raise ValueError(
                f"task {number}: none of {MOST_DRAWS} worlds of environment.world.size {world.size.min} to "
                f"{world.size.max} has room for what its game needs: allow larger worlds or fewer rules"
            )
        task = Task(
            world=_frozen_world(self._tiles[:size, :size], self._level_map[:size, :size]),
            game=_game(buffer, environment.players),
            objects=_objects(buffer, self._spots, environment.players),
            spawns=tuple((x + 0.5, y + 0.5) for x, y in self._spots[: environment.players].tolist()),
            trial_timesteps=timesteps,
        )
        numbers = Numbers(self._small[:small].tobytes(), self._bodies[:bodies].tobytes())
        object.__setattr__(task, "numbers", numbers)
        positions = buffer.chain[: buffer.counts[RULES]].tolist()
        plan = tuple(positions.index(position) for position in range(1, max([0, *positions]) + 1))
        return GeneratedTask(task, plan, self._home[:size, :size].copy())


def _frozen_world(tiles: np.ndarray, levels: np.ndarray) -> World:
    tiles, levels = tiles.copy(), levels.copy()
    tiles.setflags(write=False)
    levels.setflags(write=False)
    return World(tiles, levels)


def _predicate(row: list[int]) -> Predicate:
    return Predicate(_RELATIONS[row[RELATION]], row[FIRST], row[SECOND], bool(row[NEGATED]))


def _game(buffer: GameBuffer, players: int) -> Game:
    rows = buffer.rules[: buffer.counts[RULES]].tolist()
    goal = _predicate(buffer.goal.tolist())
    rules = tuple(ProductionRule(_predicate(row), tuple(row[SPAWN : SPAWN + row[SPAWNS]])) for row in rows)
    return Game((goal,) * players, rules, tuple(_hiding(rows) for rows in buffer.hidings[:players].tolist()))


def _hiding(rows: list[list[int]]) -> Hiding:
    rules, objects, predicates = (tuple(row[1 : 1 + row[0]]) for row in rows)
    return Hiding(frozenset(rules), objects, predicates)


def _objects(buffer: GameBuffer, spots: np.ndarray, players: int) -> tuple[InitialObject, ...]:
    count = int(buffer.counts[OBJECTS])
    rows = zip(buffer.objects[:count].tolist(), spots[players : players + count].tolist(), strict=True)
    return tuple(InitialObject(row[TYPE], x + 0.5, y + 0.5, bool(row[FROZEN])) for row, (x, y) in rows)


@njit(cache=True)
def _draw_task(  # type: ignore[no-untyped-def]
    seeds, state, sizes, level_range, density, ranges, hiding_chance, frozen_chance, players, held_out,
    timesteps, small, bodies, tiles, levels, home, queue, spots, goal, rules, chain, objects, hidings, counts, types,
):  # fmt: skip
    """Draw world, game and places, each from its seed of `seeds`, uint64 [3], and list the task's numbers.

    A world that has no room for what the game needs is replaced by the next of its stream. Returns the world's size,
    0 where MOST_DRAWS worlds had no room, and how many small numbers and bodies were listed.
    """
    state[0] = seeds[1]
    make_game(
        state, ranges, hiding_chance, frozen_chance, players, held_out,
        goal, rules, chain, objects, hidings, counts, types,
    )  # fmt: skip
    world_state = np.array([seeds[0]], np.uint64)
    state[0] = seeds[2]
    for _ in range(MOST_DRAWS):
        size = make_world(world_state, sizes, level_range, density, held_out, tiles, levels, home, queue)
        if _place(state, size, tiles, levels, home, players, objects, counts, spots, queue):
            listed = list_drawn(
                small, bodies, players, size, timesteps, tiles, levels, goal, rules, counts, hidings, objects, spots
            )
            return size, listed[0], listed[1]
    return 0, 0, 0


@njit(cache=True)
def _is_open(tiles, levels, i, j):  # type: ignore[no-untyped-def]
    """Return whether (i, j) and all eight tiles around it are floor of one level: one can walk around it."""
    for x in range(i - 1, i + 2):
        for y in range(j - 1, j + 2):
            if tiles[x, y] != _FLOOR or levels[x, y] != levels[i, j]:
                return False
    return True


@njit(cache=True)
def _place(state, size, tiles, levels, home, players, objects, counts, spots, queue):  # type: ignore[no-untyped-def]
    """Give players and objects tiles of the home region into `spots`; return False if the needed ones don't fit.

    Tiles are at least two apart along x or y, so that nothing is near anything else when a trial begins. Distractors
    that don't fit are left out; frozen objects stand in the open, or else are free.
    """
    free = 0
    for i in range(size):
        for j in range(size):
            if home[i, j] and tiles[i, j] == _FLOOR:
                queue[free] = i * size + j
                free += 1
    for index in range(free - 1, 0, -1):
        other = below(state, index + 1)
        queue[index], queue[other] = queue[other], queue[index]
    placed = 0
    while placed < players + counts[OBJECTS]:
        index = placed - players
        wants_open = index >= 0 and objects[index, FROZEN] == 1
        found = _take_spot(size, tiles, levels, queue, free, spots, placed, wants_open)
        if not found and wants_open:
            objects[index, FROZEN] = 0
            found = _take_spot(size, tiles, levels, queue, free, spots, placed, False)
        if found:
            placed += 1
        elif index < 0 or objects[index, NEEDED]:
            return False
        else:  # no room for this distractor, so none for those behind it
            counts[OBJECTS] = index
    return True


@njit(cache=True)
def _take_spot(size, tiles, levels, queue, free, spots, placed, wants_open):  # type: ignore[no-untyped-def]
    """Find the first shuffled tile at least two tiles from every spot so far."""
    for position in range(free):
        i, j = queue[position] // size, queue[position] % size
        fits = True
        for other in range(placed):
            if abs(spots[other, 0] - i) < 2 and abs(spots[other, 1] - j) < 2:
                fits = False
                break
        if fits and (not wants_open or _is_open(tiles, levels, i, j)):
            spots[placed, 0], spots[placed, 1] = i, j
            return True
    return False
