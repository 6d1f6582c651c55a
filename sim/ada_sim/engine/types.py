"""State of B worlds as arrays: what a task fixes, what changes, what comes out. No behaviour.

Letters: B worlds, P players, O object slots, K body slots (objects, then players), R rules, G tiles along a side.
"""

from typing import NamedTuple

import numpy as np

from ada_sim import constants as c


class Tasks(NamedTuple):
    """What an episode's task fixes, one row a world. Metres, world frame."""

    present: np.ndarray  # uint8 [B]: is there a task
    size: np.ndarray  # int64 [B]: tiles along a side
    tile: np.ndarray  # uint8 [B, G, G]: Tile; WALL outside of the world
    top: np.ndarray  # float64 [B, G, G]: height of the tile's surface, at its low end on a ramp
    kind: np.ndarray  # int8 [B, O]: initial objects' types, -1 for none
    place: np.ndarray  # float64 [B, O, 2]
    frozen: np.ndarray  # uint8 [B, O]
    spawn: np.ndarray  # float64 [B, 2, 2]: x y of each player
    rule: np.ndarray  # int8 [B, R, 8]: relation, first, second, negated, spawns (-1 for none)
    num_rules: np.ndarray  # int64 [B]
    goal: np.ndarray  # int8 [B, 2, 4]: relation, first, second, negated
    shown_goal: np.ndarray  # int8 [B, P, 6]: as the agent reads it
    shown_rules: np.ndarray  # int8 [B, P, 16, 26]
    trial_timesteps: np.ndarray  # int64 [B]
    trials: np.ndarray  # int64 [B]: of the episode
    seed: np.ndarray  # uint64 [B]: of the episode


class Worlds(NamedTuple):
    """What changes from tick to tick. Metres, seconds, radians, world frame."""

    active: np.ndarray  # uint8 [B]: is an episode running
    clock: np.ndarray  # int64 [B]: timesteps done of this trial
    trial: np.ndarray  # int64 [B]: index of this trial
    position: np.ndarray  # float64 [B, K, 3]: centre of each body
    velocity: np.ndarray  # float64 [B, K, 3]
    kind: np.ndarray  # int8 [B, K]: object type or player, -1 for an empty slot
    frozen: np.ndarray  # uint8 [B, K]: never moves
    awake: np.ndarray  # uint8 [B, K]: ticks of rest until the body sleeps; 0 asleep
    supported: np.ndarray  # uint8 [B, K]: 0 in the air, 1 on terrain, 2 on another body
    spent: np.ndarray  # int64 [B, K]: bit r: made by rule r, whose condition has held for it ever since
    latched: np.ndarray  # int64 [B]: bit r: a rule on players alone fired and its condition still holds
    used: np.ndarray  # int64 [B]: object slots from this one on are empty
    bodies_of: np.ndarray  # int64 [B, 14]: bit k: body k is of this kind
    yaw: np.ndarray  # float64 [B, P]: 0 east, anticlockwise
    pitch: np.ndarray  # float64 [B, P]: up
    held: np.ndarray  # int64 [B, P]: object slot, -1 for none
    hand_distance: np.ndarray  # float64 [B, P]
    hand_force: np.ndarray  # float64 [B, P]: 0 to 1, where the object slips
    last_height: np.ndarray  # float64 [B, P]: of the player at the last timestep
    in_goal: np.ndarray  # int64 [B, P]: ticks of this timestep


class Outputs(NamedTuple):
    """What a timestep returns; shapes as in `observation.specification`."""

    reward: np.ndarray  # float32 [B, P]
    trial_ended: np.ndarray  # int16 [B]
    episode_ended: np.ndarray  # bool [B]
    episode_started: np.ndarray  # bool [B]
    active: np.ndarray  # bool [B]
    objects: np.ndarray  # float32 [B, P, 8, 20]
    ranges: np.ndarray  # float32 [B, P, 9]
    body: np.ndarray  # float32 [B, P, 5]
    goal: np.ndarray  # int8 [B, P, 6]
    rules: np.ndarray  # int8 [B, P, 16, 26]
    last_action: np.ndarray  # int8 [B, P, 6]
    last_reward: np.ndarray  # float32 [B, P, 1]
    trials_remaining: np.ndarray  # float32 [B, P, 6]
    timers: np.ndarray  # float32 [B, P, 4]
    trial_start: np.ndarray  # float32 [B, P, 1]


def empty_tasks(B: int, P: int) -> Tasks:
    """Return B rows without a task."""
    O, G, R = c.MAX_OBJECTS, c.MAX_WORLD_SIZE, c.MAX_RULES  # noqa: E741 - the legend's letters
    return Tasks(
        present=np.zeros(B, np.uint8),
        size=np.zeros(B, np.int64),
        tile=np.zeros((B, G, G), np.uint8),
        top=np.zeros((B, G, G), np.float64),
        kind=np.full((B, O), -1, np.int8),
        place=np.zeros((B, O, 2), np.float64),
        frozen=np.zeros((B, O), np.uint8),
        spawn=np.zeros((B, c.MAX_PLAYERS, 2), np.float64),
        rule=np.zeros((B, R, c.RULE_FIELDS), np.int8),
        num_rules=np.zeros(B, np.int64),
        goal=np.zeros((B, c.MAX_PLAYERS, 4), np.int8),
        shown_goal=np.zeros((B, P, 6), np.int8),
        shown_rules=np.zeros((B, P, R, 26), np.int8),
        trial_timesteps=np.zeros(B, np.int64),
        trials=np.zeros(B, np.int64),
        seed=np.zeros(B, np.uint64),
    )


def idle_worlds(B: int, P: int) -> Worlds:
    """Return B worlds in which no episode runs."""
    K = c.MAX_BODIES
    return Worlds(
        active=np.zeros(B, np.uint8),
        clock=np.zeros(B, np.int64),
        trial=np.zeros(B, np.int64),
        position=np.zeros((B, K, 3), np.float64),
        velocity=np.zeros((B, K, 3), np.float64),
        kind=np.full((B, K), -1, np.int8),
        frozen=np.zeros((B, K), np.uint8),
        awake=np.zeros((B, K), np.uint8),
        supported=np.zeros((B, K), np.uint8),
        spent=np.zeros((B, K), np.int64),
        latched=np.zeros(B, np.int64),
        used=np.zeros(B, np.int64),
        bodies_of=np.zeros((B, c.NUM_KINDS), np.int64),
        yaw=np.zeros((B, P), np.float64),
        pitch=np.zeros((B, P), np.float64),
        held=np.full((B, P), -1, np.int64),
        hand_distance=np.zeros((B, P), np.float64),
        hand_force=np.zeros((B, P), np.float64),
        last_height=np.zeros((B, P), np.float64),
        in_goal=np.zeros((B, P), np.int64),
    )


def empty_outputs(B: int, P: int) -> Outputs:
    """Return the outputs of idle worlds."""
    return Outputs(
        reward=np.zeros((B, P), np.float32),
        trial_ended=np.full(B, -1, np.int16),
        episode_ended=np.zeros(B, np.bool_),
        episode_started=np.zeros(B, np.bool_),
        active=np.zeros(B, np.bool_),
        objects=np.zeros((B, P, c.OBJECT_SLOTS, c.OBJECT_FEATURES), np.float32),
        ranges=np.zeros((B, P, c.NUM_RANGES), np.float32),
        body=np.zeros((B, P, 5), np.float32),
        goal=np.zeros((B, P, 6), np.int8),
        rules=np.zeros((B, P, c.MAX_RULES, 26), np.int8),
        last_action=np.zeros((B, P, 6), np.int8),
        last_reward=np.zeros((B, P, 1), np.float32),
        trials_remaining=np.zeros((B, P, c.TRIAL_SLOTS), np.float32),
        timers=np.zeros((B, P, 4), np.float32),
        trial_start=np.zeros((B, P, 1), np.float32),
    )
