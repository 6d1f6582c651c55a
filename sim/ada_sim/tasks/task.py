"""Task = world + game: plain frozen data, no behaviour (AdA, section "Open-ended task space").

Coordinates are metres in the world frame, x east, y north, tile (i, j) covering [i, i+1) x [j, j+1);
heights are whole levels of LEVEL_HEIGHT_M.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np

SHAPES = ("wall", "cube", "sphere", "pyramid")
COLOURS = ("black", "purple", "yellow")
NUM_OBJECT_TYPES = len(SHAPES) * len(COLOURS)

# An entity is an object type, `shape * len(COLOURS) + colour`, or one of the players.
PLAYER_1 = NUM_OBJECT_TYPES
PLAYER_2 = NUM_OBJECT_TYPES + 1

MAX_RULES = 16
MAX_SPAWNS = 4
MAX_WORLD_SIZE = 24


class Relation(IntEnum):
    """Two-place predicates of XLand 2.0."""

    TOUCHING = 0
    NEAR = 1
    HOLD = 2
    SEE = 3


class Tile(IntEnum):
    """What stands on a tile. A ramp rises by one level towards the direction it names."""

    FLOOR = 0
    WALL = 1
    RAMP_NORTH = 2
    RAMP_EAST = 3
    RAMP_SOUTH = 4
    RAMP_WEST = 5
    PIT = 6


@dataclass(frozen=True, slots=True)
class Predicate:
    """`relation(first, second)`, or its negation; the arguments are entities."""

    relation: Relation
    first: int
    second: int
    negated: bool = False


@dataclass(frozen=True, slots=True)
class ProductionRule:
    """When `condition` becomes true its objects vanish and `spawns` (object types, at most MAX_SPAWNS) appear."""

    condition: Predicate
    spawns: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Hiding:
    """What one player is not shown of the rules; the goal is never hidden (AdA, section "Environment")."""

    rules: frozenset[int] = frozenset()  # indices of rules hidden as a whole
    objects: tuple[int, ...] = ()  # object types masked in every rule, numbered by position
    predicates: tuple[int, ...] = ()  # indices of rules whose predicate is masked, numbered by position


@dataclass(frozen=True, slots=True)
class Game:
    """One goal and one hiding a player, and the production rules they share."""

    goals: tuple[Predicate, ...]
    rules: tuple[ProductionRule, ...]
    hidings: tuple[Hiding, ...]


@dataclass(frozen=True, slots=True)
class World:
    """Static topology. `tiles` is uint8 [size, size] of Tile, `levels` int8 [size, size]; index [i, j] = (x, y)."""

    tiles: np.ndarray
    levels: np.ndarray

    @property
    def size(self) -> int:
        """Tiles along a side, walls included."""
        return int(self.tiles.shape[0])


@dataclass(frozen=True, slots=True)
class InitialObject:
    """An object as every trial of the task begins with it."""

    type: int
    x: float
    y: float
    frozen: bool = False


class Numbers(NamedTuple):
    """A task as the engine reads it (`ada_sim.tasks.numbers`)."""

    small: bytes  # uint8
    bodies: bytes  # float64


@dataclass(frozen=True, slots=True)
class Task:
    """Everything that is the same in each trial of an episode; only the players' yaw is drawn anew."""

    world: World
    game: Game
    objects: tuple[InitialObject, ...]
    spawns: tuple[tuple[float, float], ...]  # one (x, y) a player
    trial_timesteps: int  # 4 ticks of 1/30 s each
    name: str = ""  # template or probe the task was drawn from
    # Of a generated task; not handed on by `replace`, which makes another one.
    numbers: Numbers | None = field(default=None, init=False, compare=False, repr=False)
