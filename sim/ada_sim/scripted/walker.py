"""What a scripted player knows of its world, and how it gets about: angles, distances, ways around what is there."""

import math
from collections import deque
from collections.abc import Iterable

import numpy as np

from ada_sim.constants import ACTION_REST, FIRST_OBJECT
from ada_sim.tasks.task import Task
from ada_sim.tasks.walking import STEP_X, STEP_Y, can_walk

MOVE, STRAFE, TURN, PITCH, GRIP, REACH = range(6)  # action groups
GRIP_FROM_M = 1.15  # a hand reaches farther, but not past what stands between

Point = tuple[float, float]
Tile = tuple[int, int]


class Walker:
    """One player of a world, and the action that it is about to take."""

    def __init__(self, task: Task, world: np.void, number: int = 0) -> None:
        """Look at a world as it changes.

        Args:
            task: what the world is loaded with.
            world: its record (`BatchSim.world`).
            number: index of the player.
        """
        self.task, self.number = task, number
        self.kinds, self.places, self.velocities = world["kind"], world["position"], world["velocity"]
        self.yaws, self.pitches, self.hands = world["yaw"], world["pitch"], world["held"]
        self.distances = world["hand_distance"]
        self.action = resting()
        self._steps_from = _steps_on_foot(task)

    @property
    def here(self) -> Point:
        """Where the player stands."""
        return self.at(self.number)

    @property
    def held(self) -> int:
        """Slot of the body in the hand, or -1."""
        return int(self.hands[self.number])

    def at(self, body: int) -> Point:
        """Return where a body is, metres."""
        return float(self.places[body, 0]), float(self.places[body, 1])

    def tile(self, body: int) -> Tile:
        """Return the tile that a body is on."""
        return int(self.places[body, 0]), int(self.places[body, 1])

    def objects(self) -> list[int]:
        """Return the slots that hold an object."""
        return [k for k in range(FIRST_OBJECT, len(self.kinds)) if self.kinds[k] >= 0]

    def slots(self, kind: int) -> list[int]:
        """Return the objects of a kind."""
        return [k for k in self.objects() if self.kinds[k] == kind]

    def nearest(self, kind: int, but: int = -1) -> int | None:
        """Return the closest object of a kind, if possible one that no other player holds; None if there is none."""
        taken = {but, *(int(k) for p, k in enumerate(self.hands) if p != self.number)}
        free = [k for k in self.slots(kind) if k not in taken] or [k for k in self.slots(kind) if k != but]
        return min(free, key=lambda k: math.dist(self.here, self.at(k)), default=None)

    def can_grip(self, body: int) -> bool:
        """Return whether a body is so close that a hand should get it."""
        return math.dist(self.places[self.number], self.places[body]) < GRIP_FROM_M

    def angle_to(self, point: Point) -> float:
        """Return how far to the left of the view a point is, radians."""
        angle = math.atan2(point[1] - self.here[1], point[0] - self.here[0])
        return float((angle - self.yaws[self.number] + math.pi) % (2 * math.pi) - math.pi)

    def turn(self, off: float) -> None:
        """Turn to what is `off` radians to the left."""
        if abs(off) > 0.1:
            self.action[TURN] = 2 + (1 if off > 0 else -1) * (2 if abs(off) > 0.5 else 1)

    def walk_straight(self, point: Point) -> None:
        """Turn to a point, and walk when it is ahead."""
        off = self.angle_to(point)
        self.turn(off)
        if abs(off) < 0.5:
            self.action[MOVE] = 2

    def walk_to(self, point: Point, but: Iterable[int] = (), never: Iterable[int] = ()) -> None:
        """Walk to a point around terrain and `never` and, if there is a way, around all objects other than `but`."""
        goal = (int(point[0]), int(point[1]))
        shut = {self.tile(k) for k in never} - {goal}
        objects = {self.tile(k) for k in self.objects() if k not in set(but)} - {goal}
        way = self.path(goal, objects | shut) or self.path(goal, shut)
        self.walk_straight(point if not way or len(way) <= 2 else (way[1][0] + 0.5, way[1][1] + 0.5))

    def path(self, goal: Tile, blocked: set[Tile]) -> list[Tile] | None:
        """Return the shortest way on foot, from the tile that the player is on; None if there is none."""
        came: dict[Tile, Tile | None] = {self.tile(self.number): None}
        queue = deque(came)
        while queue:
            tile = queue.popleft()
            if tile == goal:
                way: list[Tile] = []
                step: Tile | None = tile
                while step is not None:
                    way.append(step)
                    step = came[step]
                return way[::-1]
            for to in self._steps_from[tile]:
                if to not in came and to not in blocked:
                    came[to] = tile
                    queue.append(to)
        return None


def resting() -> np.ndarray:
    """Return the action that rests: int8 [6]."""
    return np.array(ACTION_REST, np.int8)


def _steps_on_foot(task: Task) -> dict[Tile, list[Tile]]:
    """Return the tiles that each inner tile leads to."""
    world, inner = task.world, range(1, task.world.size - 1)
    return {
        (i, j): [
            (i + int(STEP_X[direction]), j + int(STEP_Y[direction]))
            for direction in range(4)
            if can_walk(world.tiles, world.levels, i, j, direction)
        ]
        for i in inner
        for j in inner
    }
