"""State of a world as one record: what a task fixes, what changes, and the arrays that come out. No behaviour.

A batch is an array of such records: a world is one block of a few kilobytes, and a compiled function takes it as one
pointer. Letters: B worlds, P players, K bodies (two players, then objects), R rules, G tiles along a side.
"""

from typing import NamedTuple

import numpy as np

from ada_sim import constants as c
from ada_sim.tasks.task import MAX_RULES, MAX_WORLD_SIZE

K, G, R, P = c.MAX_BODIES, MAX_WORLD_SIZE, MAX_RULES, c.MAX_PLAYERS
RULE_COLUMNS = 26

# What an episode's task fixes. Metres, world frame.
TASK = np.dtype(
    [
        ("present", np.int64),  # is there a task
        ("players", np.int64),
        ("size", np.int64),  # tiles along a side
        ("num_objects", np.int64),
        ("num_rules", np.int64),
        ("trial_timesteps", np.int64),
        ("trials", np.int64),  # of the episode
        ("seed", np.uint64),  # of the episode
        ("goal", np.int8, (P, 4)),  # relation, first, second, negated
        ("rule", np.int8, (R, c.RULE_FIELDS)),  # relation, first, second, negated, spawns (-1 for none)
        # Terrain, tile (i, j) at i * size + j.
        ("ways", np.uint8, (G * G,)),  # two bits a side (`loading.ways_between`): can it be walked across
        ("cell", np.int16, (G * G,)),  # 8 * height + Tile; height of the surface, its low end on a ramp, in half metres
        # Asked for only when a trial begins, and by pictures.
        ("place", np.float64, (c.MAX_OBJECTS, 2)),  # initial objects' x y
        ("spawn", np.float64, (P, 2)),  # players' x y
        ("kind", np.int8, (c.MAX_OBJECTS,)),  # initial objects' types
        ("frozen", np.uint8, (c.MAX_OBJECTS,)),
        ("top", np.float32, (G, G)),  # the same terrain as heights in metres
        ("tile", np.uint8, (G, G)),  # and Tile; WALL outside of the world
        ("shown_goal", np.int8, (P, 6)),  # as the agent reads it
        ("shown_rules", np.int8, (P, R, RULE_COLUMNS)),
    ],
    align=True,
)

# What changes from tick to tick. Metres, seconds, radians, world frame.
WORLD = np.dtype(
    [
        ("active", np.int64),  # is an episode running
        ("clock", np.int64),  # timesteps done of this trial
        ("trial", np.int64),  # index of this trial
        ("used", np.int64),  # body slots from this one on are empty
        ("bodies", np.int64),  # bit k: slot k holds a body
        ("waking", np.int64),  # bit k: body k is awake
        ("moved", np.int64),  # bit k: body k may have moved since the rules were read
        ("charted", np.int64),  # bit k: near[k] is of this timestep
        ("strays", np.int64),  # bit k: body k was put elsewhere in this timestep, farther than it can move
        ("latched", np.int64),  # bit r: a rule on players alone fired and its condition still holds
        ("possible", np.int64),  # bit r: both kinds of rule r's condition are in the world
        ("settled", np.int64),  # bit r: rule r can't fire before one of its bodies moves
        ("spending", np.int64),  # bit r: some body has this bit in `spent`
        ("stacked", np.int64),  # bit k: body k sleeps on another body
        ("bodies_of", np.int64, (c.NUM_KINDS,)),  # bit k: body k is of this kind
        ("spent", np.int64, (K,)),  # bit r: made by rule r, whose condition has held for it ever since
        ("near", np.int64, (K,)),  # bit k: body k may come near in this timestep
        ("beside", np.int64, (K,)),  # bit k: body k may come to touch in this timestep
        ("position", np.float64, (K, 3)),  # centre of each body
        ("velocity", np.float64, (K, 3)),
        ("yaw", np.float64, (P,)),  # 0 east, anticlockwise
        ("pitch", np.float64, (P,)),  # up
        ("cos_yaw", np.float64, (P,)),  # of these two, kept beside them: they are asked for all the time
        ("sin_yaw", np.float64, (P,)),
        ("tan_pitch", np.float64, (P,)),
        ("hand_distance", np.float64, (P,)),
        ("hand_force", np.float64, (P,)),  # 0 to 1, where the object slips
        ("last_height", np.float64, (P,)),  # of the player at the last timestep
        ("held", np.int64, (P,)),  # body slot, -1 for none
        ("in_goal", np.int64, (P,)),  # ticks of this timestep
        ("kind", np.int8, (K,)),  # object type or player, -1 for an empty slot
        ("shape", np.int8, (K,)),  # row of `constants.HALF`
        ("frozen", np.uint8, (K,)),  # never moves
        ("awake", np.uint8, (K,)),  # ticks of rest until the body sleeps; 0 asleep
        ("supported", np.uint8, (K,)),  # 0 in the air, 1 on terrain, 2 on a body at rest, 3 on one that may move
        ("action", np.int8, (P, len(c.ACTION_SIZES))),
    ],
    align=True,
)


# What one world's step tells, and what the view is worked out in; one a thread, copied into `Outputs`.
TOLD = np.dtype(
    [
        ("trial_ended", np.int64),
        ("episode_ended", np.int64),
        ("episode_started", np.int64),
        ("ahead", np.float64, (K, 3)),  # from the player's eye to each body's centre
        ("may_hide", np.int64),  # bit k: body k may stand in front of something in the view
        ("distance2", np.float64, (K,)),  # of that over the ground, squared
        ("reward", np.float32, (P,)),
        ("last_reward", np.float32, (P,)),
        ("trial_start", np.float32, (P,)),
        ("timers", np.float32, (P, 4)),
        ("body", np.float32, (P, 5)),
        ("trials_remaining", np.float32, (P, c.TRIAL_SLOTS)),
        ("ranges", np.float32, (P, c.NUM_RANGES)),
        ("objects", np.float32, (P, c.OBJECT_SLOTS, c.OBJECT_FEATURES)),
        ("last_action", np.int8, (P, len(c.ACTION_SIZES))),
    ],
    align=True,
)


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


def empty_outputs(num_worlds: int, players: int) -> Outputs:
    """Return the outputs of idle worlds."""
    lead = (num_worlds, players)
    return Outputs(
        reward=np.zeros(lead, np.float32),
        trial_ended=np.full(num_worlds, -1, np.int16),
        episode_ended=np.zeros(num_worlds, np.bool_),
        episode_started=np.zeros(num_worlds, np.bool_),
        active=np.zeros(num_worlds, np.bool_),
        objects=np.zeros((*lead, c.OBJECT_SLOTS, c.OBJECT_FEATURES), np.float32),
        ranges=np.zeros((*lead, c.NUM_RANGES), np.float32),
        body=np.zeros((*lead, 5), np.float32),
        goal=np.zeros((*lead, 6), np.int8),
        rules=np.zeros((*lead, R, RULE_COLUMNS), np.int8),
        last_action=np.zeros((*lead, len(c.ACTION_SIZES)), np.int8),
        last_reward=np.zeros((*lead, 1), np.float32),
        trials_remaining=np.zeros((*lead, c.TRIAL_SLOTS), np.float32),
        timers=np.zeros((*lead, 4), np.float32),
        trial_start=np.zeros((*lead, 1), np.float32),
    )
