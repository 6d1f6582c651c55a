"""Worlds drawn by hand for the engine's tests: one world, one action, one assertion."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from ada_api.environment import Environment
from ada_sim.batch import BatchSim, TimeStep
from ada_sim.constants import ACTION_GROUPS, ACTION_REST, FIRST_OBJECT
from ada_sim.engine.packing import PACKED, pack_terrain
from ada_sim.engine.types import TASK
from ada_sim.tasks.task import (
    COLOURS,
    PLAYER_1,
    SHAPES,
    Game,
    Hiding,
    InitialObject,
    Predicate,
    ProductionRule,
    Relation,
    Task,
    Tile,
    World,
)

TILES = {"#": Tile.WALL, "^": Tile.RAMP_NORTH, ">": Tile.RAMP_EAST, "v": Tile.RAMP_SOUTH, "<": Tile.RAMP_WEST}
SHAPE_LETTERS = {"W": "wall", "C": "cube", "S": "sphere", "P": "pyramid"}
NEVER = Predicate(Relation.NEAR, PLAYER_1, 11)


def object_type(name: str) -> int:
    """Return the type of `yellow sphere` and the like."""
    colour, shape = name.split()
    return SHAPES.index(shape) * len(COLOURS) + COLOURS.index(colour)


def drawn(
    text: str,
    rules: tuple[ProductionRule, ...] = (),
    goal: Predicate = NEVER,
    trial_timesteps: int = 1000,
    frozen: bool = False,
    extra: tuple[InitialObject, ...] = (),
) -> Task:
    """Return the task of a picture, north up.

    # wall, ^>v< ramps, ~ pit, digits levels, @ & players, WCSP black and wcsp yellow objects.
    """
    rows = [row.strip() for row in text.strip().splitlines()][::-1]
    size = len(rows)
    tiles = np.zeros((size, size), np.uint8)
    levels = np.zeros((size, size), np.int8)
    objects: list[InitialObject] = []
    players: dict[str, tuple[float, float]] = {}
    for j, row in enumerate(rows):
        for i, mark in enumerate(row):
            tiles[i, j] = TILES.get(mark, Tile.PIT if mark == "~" else Tile.FLOOR)
            if mark.isdigit():
                levels[i, j] = int(mark)
            elif mark in "@&":
                players[mark] = (i + 0.5, j + 0.5)
            elif mark.upper() in SHAPE_LETTERS:
                colour = "black" if mark.isupper() else "yellow"
                kind = object_type(f"{colour} {SHAPE_LETTERS[mark.upper()]}")
                objects.append(InitialObject(kind, i + 0.5, j + 0.5, frozen))
    spawns = tuple(players[mark] for mark in sorted(players, key="@&".index))
    count = len(spawns)
    game = Game((goal,) * count, rules, (Hiding(),) * count)
    return Task(World(tiles, levels), game, (*objects, *extra), spawns, trial_timesteps)


class Tasks:
    """A source of the given tasks."""

    def __init__(self, *tasks: Task) -> None:
        self.tasks = tasks

    def task(self, number: int) -> Task:
        """Return the task with this number."""
        return self.tasks[number]


@dataclass
class OneWorld:
    """A batch of one world, driven by names of action groups."""

    sim: BatchSim
    last: TimeStep = field(init=False)

    def __post_init__(self) -> None:
        self.last = self.sim.timestep()

    def act(self, timesteps: int = 1, player: int = 0, **choices: int) -> float:
        """Take the named choices, the other groups at rest; return the sum of the player's rewards."""
        actions = np.empty((1, self.sim.players, 6), np.int8)
        actions[:] = ACTION_REST
        for name, choice in choices.items():
            actions[0, player, ACTION_GROUPS.index(name)] = choice
        total = 0.0
        for _ in range(timesteps):
            self.last = self.sim.step(actions)
            total += float(self.last.reward[0, player])
        return total

    def change(self, **values: object) -> None:
        """Overwrite fields of the world's state; yaw and pitch with what is kept beside them."""
        state = self.sim.state()
        for name, value in values.items():
            state[f"world.{name}"][0] = value
        state["world.cos_yaw"][:] = np.cos(state["world.yaw"])
        state["world.sin_yaw"][:] = np.sin(state["world.yaw"])
        state["world.tan_pitch"][:] = np.tan(state["world.pitch"])
        self.sim.load(state)

    def raise_ground(self, columns: slice, rows: slice, height: float) -> None:
        """Set the height of these tiles, under whatever stands there."""
        state = self.sim.state()
        state["task.top"][0, columns, rows] = height
        row = np.zeros(1, TASK)
        for name in ("size", "tile", "top"):
            row[name] = state[f"task.{name}"]
        pack_terrain(row, 0)
        for name in PACKED:
            state[f"task.{name}"][:] = row[name]
        self.sim.load(state)

    def world(self, name: str) -> np.ndarray:
        """Return a field of the world's state."""
        return self.sim.state()[f"world.{name}"][0]

    def player(self, player: int = 0) -> np.ndarray:
        """Return where the player's centre is."""
        return self.world("position")[player]

    def place(self, number: int = 0) -> np.ndarray:
        """Return where the object in this slot is."""
        return self.world("position")[FIRST_OBJECT + number]

    def objects(self) -> list[int]:
        """Return the types of the objects in the world, sorted."""
        kinds = self.world("kind")[FIRST_OBJECT:]
        return sorted(int(kind) for kind in kinds if kind >= 0)


EAST, NORTH, WEST, SOUTH = 0.0, math.pi / 2, math.pi, -math.pi / 2


@pytest.fixture
def world_of() -> Callable[..., OneWorld]:
    """Return a function from a picture (and the arguments of `drawn`) to its world, players facing `yaw` (east)."""

    def make(text: str, yaw: float = EAST, trials: int = 1, **arguments: object) -> OneWorld:
        task = drawn(text, **arguments)  # type: ignore[arg-type]
        environment = Environment(observation="symbolic", players=len(task.spawns))
        sim = BatchSim(1, environment, Tasks(task))
        first = np.zeros(1, np.int64)
        sim.assign(first, first.astype(np.uint64), np.array([trials]), np.array([7], np.uint64))
        sim.reset(first)
        one = OneWorld(sim)
        one.change(yaw=yaw)
        return one

    return make


@pytest.fixture
def draw() -> Callable[..., Task]:
    """Return the function from a picture to a task."""
    return drawn


@pytest.fixture
def source_of() -> Callable[..., Tasks]:
    """Return the function from tasks to a source of them."""
    return Tasks
