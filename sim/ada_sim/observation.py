"""Every field of an observation: name, shape, range, unit, meaning. Nothing else describes observations."""

import math
from dataclasses import dataclass

import numpy as np

from ada_api.environment import Environment
from ada_sim import constants as c
from ada_sim.tasks.encoding import GOAL_FIELD_SIZES, RULE_FIELD_SIZES
from ada_sim.tasks.task import MAX_RULES, MAX_WORLD_SIZE

MAX_TRIALS = 48
MAX_TRIAL_S = 120
FARTHEST_M = math.sqrt(2.0) * MAX_WORLD_SIZE
HIGHEST_M = 200.0  # levels are int8


@dataclass(frozen=True)
class Field:
    """One array of the observation; `low` to `high` is its closed range, `per_episode` fields change with the task."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    low: float
    high: float
    unit: str
    per_episode: bool
    description: str


def specification(environment: Environment) -> tuple[Field, ...]:
    """Return the fields of a player's observation, in order; arrays lead with [worlds, players]."""
    view = (PIXELS,) if environment.observation == "pixels" else SYMBOLIC
    return view + SCALARS


def _field(
    name: str,
    shape: tuple[int, ...],
    dtype: type[np.generic],
    low: float,
    high: float,
    unit: str,
    description: str,
    per_episode: bool = False,
) -> Field:
    return Field(name, shape, np.dtype(dtype), low, high, unit, per_episode, description)


PIXELS = _field(
    "pixels", (c.IMAGE_HEIGHT_PX, c.IMAGE_WIDTH_PX, 3), np.uint8, 0, 255, "", "first-person picture, RGB, row 0 on top"
)

SYMBOLIC = (
    _field(
        "objects",
        (c.OBJECT_SLOTS, c.OBJECT_FEATURES),
        np.float32,
        -HIGHEST_M,
        HIGHEST_M,
        "",
        "visible objects and players, nearest first: present, shape one-hot 4, colour one-hot 3, is player, cosine and "
        "sine of the bearing (left positive), distance between centres (m) / 4, height difference (m), near, touching, "
        "held, frozen, radius (m), 2 zeros",
    ),
    _field(
        "ranges",
        (c.NUM_RANGES,),
        np.float32,
        0,
        c.RANGE_LIMIT_M / c.DISTANCE_UNIT_M,
        "4 m",
        "distance along the ground to the first rise that can't be walked up, from the view's right to its left",
    ),
)

SCALARS = (
    _field(
        "body",
        (5,),
        np.float32,
        -HIGHEST_M,
        HIGHEST_M,
        "",
        "is holding (0 or 1), hand distance and hand force as shares of their maximum, pitch (rad), height change "
        "since the last timestep (m)",
    ),
    _field(
        "goal",
        (len(GOAL_FIELD_SIZES),),
        np.int8,
        0,
        max(GOAL_FIELD_SIZES) - 1,
        "index",
        "goal as in ada_sim.tasks.encoding",
        per_episode=True,
    ),
    _field(
        "rules",
        (MAX_RULES, len(RULE_FIELD_SIZES)),
        np.int8,
        0,
        max(RULE_FIELD_SIZES) - 1,
        "index",
        "production rules as in ada_sim.tasks.encoding, hidden parts as extra indices",
        per_episode=True,
    ),
    _field(
        "last_action",
        (len(c.ACTION_SIZES),),
        np.int8,
        0,
        max(c.ACTION_SIZES),
        "index",
        "last choice of each action group + 1; 0 on an episode's first timestep",
    ),
    _field("last_reward", (1,), np.float32, 0, 1, "", "last reward: share of the timestep's ticks in the goal"),
    _field(
        "trials_remaining",
        (c.TRIAL_SLOTS,),
        np.float32,
        0,
        1,
        "",
        "trials after this one: one-hot 0 to 4, then a flag for 5 or more",
    ),
    _field(
        "timers",
        (4,),
        np.float32,
        0,
        MAX_TRIALS * MAX_TRIAL_S / c.TIMER_UNIT_S,
        "10 s",
        "until the last trial starts; left of this trial; duration of the last trial; duration of the next trial",
    ),
    _field("trial_start", (1,), np.float32, 0, 1, "", "1 on the first timestep of a trial"),
)
