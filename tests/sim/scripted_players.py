"""Players that follow a written part: a list of steps such as `bring("black cube", to="purple cube")`.

A step is a generator over timesteps that sets the player's action and ends when it is done. Players know everything
about the world. A part that is over rests, with a closed hand if something is in it. Steps keep to what players
can do: walk, grip, carry, lift, push.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import wraps

import numpy as np

from ada_sim.batch import BatchSim
from ada_sim.constants import HALF
from ada_sim.scripted.walker import GRIP, MOVE, PITCH, REACH, STRAFE, TURN, Point, Walker, resting
from ada_sim.tasks.task import COLOURS, SHAPES, Task

ON_A_LEVEL_M = 0.55  # what is lifted this high goes over an edge of one level

Step = Callable[["Player"], Iterator[None]]
Part = Sequence[Step]


def written(make: Callable[..., Step]) -> Callable[..., Step]:
    """Let a step know how it was written: `bring black cube, purple cube`."""

    @wraps(make)
    def step(*given: object, **named: object) -> Step:
        play = make(*given, **named)
        play.__name__ = f"{make.__name__} {', '.join(str(value) for value in (*given, *named.values()))}"
        return play

    return step


class Player(Walker):
    """One scripted player that follows a written part."""

    def __init__(self, task: Task, sim: BatchSim, number: int, part: Part) -> None:
        super().__init__(task, sim.world(0), number)
        self.timesteps = (None for step in part for _ in step(self))

    def act(self) -> np.ndarray:
        """Return the choice in each action group."""
        self.action = resting()
        self.action[GRIP] = self.held >= 0
        next(self.timesteps, None)
        return self.action

    def drift_to(self, point: Point) -> None:
        """Step towards a point in whichever of eight directions is closest to it, and turn that way meanwhile."""
        off = self.angle_to(point)
        self.turn(off)
        eighth = round(off / (math.pi / 4)) % 8
        self.action[MOVE] = (2, 2, 1, 0, 0, 0, 1, 2)[eighth]
        self.action[STRAFE] = (1, 2, 2, 2, 1, 0, 0, 0)[eighth]


def kind_of(name: str) -> int:
    """Return the type of `yellow sphere` and the like."""
    colour, shape = name.split()
    return SHAPES.index(shape) * len(COLOURS) + COLOURS.index(colour)


def place_of(player: Player, to: str | Point, but: int = -1) -> Point | None:
    """Return where a point, a `player 1` or the nearest object of a kind is."""
    if not isinstance(to, str):
        return to
    if to.startswith("player"):
        return player.at(int(to.split()[1]) - 1)
    target = player.nearest(kind_of(to), but)
    return None if target is None else player.at(target)


@written
def rest(timesteps: int) -> Step:
    """Do nothing for a while."""

    def play(player: Player) -> Iterator[None]:
        for _ in range(timesteps):
            yield

    return play


@written
def spin(timesteps: int) -> Step:
    """Look all around."""

    def play(player: Player) -> Iterator[None]:
        for _ in range(timesteps):
            player.action[TURN] = 4
            yield

    return play


@written
def face(point: Point) -> Step:
    """Turn to a point."""

    def play(player: Player) -> Iterator[None]:
        while abs(off := player.angle_to(point)) > 0.1:
            player.turn(off)
            yield

    return play


@written
def wait_for(name: str, count: int = 1) -> Step:
    """Rest until there are so many objects of a kind."""

    def play(player: Player) -> Iterator[None]:
        while len(player.slots(kind_of(name))) < count:
            yield

    return play


@written
def wait_until_near(name: str, place: Point, within: float = 0.8) -> Step:
    """Rest until an object of a kind lies still around a place, in nobody's hand."""

    def play(player: Player) -> Iterator[None]:
        def lies(k: int) -> bool:
            still = np.abs(player.velocities[k]).max() < 0.05 and k not in player.hands
            return bool(still) and math.dist(player.at(k), place) < within

        while not any(lies(k) for k in player.slots(kind_of(name))):
            yield

    return play


@written
def go(to: str | Point, within: float = 0.3) -> Step:
    """Walk until a place, an object of a kind or a player is this close."""

    def play(player: Player) -> Iterator[None]:
        while (place := place_of(player, to, player.held)) and math.dist(player.here, place) > within:
            player.walk_to(place, (player.held,))
            yield

    return play


@written
def touch(name: str) -> Step:
    """Walk against an object of a kind until there are fewer of it."""

    def play(player: Player) -> Iterator[None]:
        kind = kind_of(name)
        count = len(player.slots(kind))
        while len(player.slots(kind)) >= count and (target := player.nearest(kind)) is not None:
            player.walk_to(player.at(target), (target,))
            yield

    return play


@written
def hold(name: str) -> Step:
    """Grip an object of a kind; ends when it is in the hand, or when a rule took it there."""

    def play(player: Player) -> Iterator[None]:
        kind = kind_of(name)
        count = len(player.slots(kind))
        while player.held < 0 or player.kinds[player.held] != kind:
            target = player.nearest(kind)
            if target is None or len(player.slots(kind)) < count:
                return
            off = player.angle_to(player.at(target))
            player.action[GRIP] = 0
            if player.can_grip(target):
                player.turn(off)
                player.action[GRIP] = player.held < 0 and abs(off) < 0.4
            else:
                player.walk_to(player.at(target), (target,))
            yield

    return play


@written
def drop(timesteps: int = 2) -> Step:
    """Open the hand and look level."""

    def play(player: Player) -> Iterator[None]:
        player.action[GRIP] = 0
        yield
        for _ in range(timesteps):
            yield
        while abs(player.pitches[player.number]) > 0.1:
            player.action[PITCH] = 0 if player.pitches[player.number] > 0 else 2
            yield

    return play


@written
def back(timesteps: int) -> Step:
    """Walk backwards."""

    def play(player: Player) -> Iterator[None]:
        for _ in range(timesteps):
            player.action[MOVE] = 0
            yield

    return play


@written
def bring(name: str, to: str | Point, reach: int = 0) -> Step:
    """Carry an object of a kind to something until a rule takes it, or to a place; `reach` is the hand's choice."""

    def play(player: Player) -> Iterator[None]:
        yield from hold(name)(player)
        carried, kind = player.held, kind_of(name)
        count = len(player.slots(kind))
        while carried >= 0 and player.kinds[carried] == kind and len(player.slots(kind)) >= count:
            place = place_of(player, to, carried)
            if place is None or (not isinstance(to, str) and math.dist(player.at(carried), place) < 0.3):
                return
            if player.held != carried:
                yield from hold(name)(player)
                carried = player.held
                continue
            player.action[REACH] = reach
            player.walk_to(place, (carried,))
            yield
        player.action[GRIP] = 0  # not what appears there
        yield

    return play


@written
def lift(name: str, stand: Point, onto: Point) -> Step:
    """Carry an object to where the player is to stand, and lay it down on a place one level higher."""

    def play(player: Player) -> Iterator[None]:
        yield from hold(name)(player)
        me, carried = player.number, player.held
        while math.dist(player.here, stand) > 0.3:
            player.action[REACH] = 0
            player.walk_to(stand, (carried,))
            yield
        half = HALF[int(player.kinds[carried]) // 3, 2]
        while player.held == carried:
            low = player.places[carried, 2] - half < ON_A_LEVEL_M
            off = math.dist(player.at(carried), onto) > 0.3 or np.abs(player.velocities[carried]).max() > 0.3
            if not low and not off:
                break
            player.turn(player.angle_to(onto))
            player.action[PITCH] = 2 if low and player.pitches[me] < 0.7 else 1
            short = math.dist(player.here, onto) / math.cos(player.pitches[me]) - player.distances[me]
            player.action[REACH] = 1 if abs(short) < 0.1 else 2 if short > 0 else 0
            yield
        yield from drop()(player)

    return play


@written
def push(name: str, *ways: str | Point, within: float = 0.6) -> Step:
    """Push an object with the body past some places to the last one."""

    def play(player: Player) -> Iterator[None]:
        kind = kind_of(name)
        ball, count = player.nearest(kind), len(player.slots(kind))
        for way in ways:
            while ball is not None and player.kinds[ball] == kind and len(player.slots(kind)) >= count:
                goal = place_of(player, way, ball)
                if goal is None or math.dist(player.at(ball), goal) < within:
                    break
                push_once(player, ball, goal)
                yield

    return play


def push_once(player: Player, ball: int, goal: Point) -> None:
    """Take one action that pushes a body towards a place, or walks around it to behind it."""
    x, y = player.at(ball)
    vx, vy = player.velocities[ball, :2]
    x, y = x + 0.1 * vx, y + 0.1 * vy  # where it will be
    away = math.dist((x, y), goal)
    dx, dy = (goal[0] - x) / away, (goal[1] - y) / away
    rx, ry = player.here[0] - x, player.here[1] - y
    along, across = rx * dx + ry * dy, rx * dy - ry * dx  # from the ball, to the goal and to the right of it
    if along < -0.3 and abs(across) < 0.2:
        player.drift_to((x + 0.2 * dx, y + 0.2 * dy))
    elif along < -0.5:
        player.drift_to((x - 0.75 * dx, y - 0.75 * dy))
    else:
        side = 0.9 if across > 0 else -0.9
        player.drift_to((x - 0.8 * dx + side * dy, y - 0.8 * dy - side * dx))
