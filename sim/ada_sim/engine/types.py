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
VIEWED = (K + 7) // 8 * 8
DIRECTIONS = (c.NUM_RANGES + 15) // 16 * 16
SIGHT_FLOORS = 10  # heights, half a metre apart, for which it is kept what stands higher

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
        # Terrain (`packing`), tile (i, j) at i * size + j. Grid line n of an axis lies between its tiles n and n + 1; a
        # set of places along it has a bit a tile.
        ("ramps", np.int64),  # how many
        ("lowest", np.int64),  # surface, in half metres
        ("walk_lines", np.uint32, (4 * G,)),  # where one can't walk (or not always) over line [side * size + n]; sides
        # in the order of `ways`
        ("ramp_lines", np.uint32, (4 * G,)),  # where it depends on the place on the line: a ramp is there
        ("around", np.uint16, (G * G,)),  # bits of the tiles beside that are too high to get on to, and `RUGGED`
        ("cell", np.int16, (G * G,)),  # 8 * height + Tile; height of the surface, its low end on a ramp, in half metres
        # Where a tile beside line [(floor * 2 + axis) * size + n] is higher than `lowest + floor` half metres.
        ("sight_lines", np.uint32, (SIGHT_FLOORS * 2 * G,)),
        ("ways", np.uint8, (G * G,)),  # two bits a side, east, west, north, south: can it be walked across
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

# What changes from tick to tick. Metres, seconds, radians, world frame. What is asked for all the time comes first.
WORLD = np.dtype(
    [
        ("active", np.int64),  # is an episode running
        ("clock", np.int64),  # timesteps done of this trial
        ("trial", np.int64),  # index of this trial
        ("used", np.int64),  # body slots from this one on are empty
        ("bodies", np.int64),  # bit k: slot k holds a body
        ("waking", np.int64),  # bit k: body k is awake
        ("moved", np.int64),  # bit k: body k may have moved, or its view or hand changed, since the rules were read
        (
            "jumped",
            np.int64,
        ),  # bit k: body k may have moved farther than it can by itself since then, or its hand changed
        ("charted", np.int64),  # bit k: beside[k] is of this timestep
        ("strays", np.int64),  # bit k: body k was put elsewhere or woke in this timestep: a chart may not know
        ("latched", np.int64),  # bit r: a rule on players alone fired and its condition still holds
        ("possible", np.int64),  # bit r: both kinds of rule r's condition are in the world
        ("settled", np.int64),  # bit r: rule r can't fire before one of the bodies in watch[r] moves
        ("late", np.int64),  # bit r: one of them has moved, but not long enough yet
        ("spending", np.int64),  # bit r: some body has this bit in `spent`
        ("leaning", np.int64),  # bit k: body k sleeps on, or held up a slope by, another body
        ("tick", np.int64),  # ticks done of this trial
        ("view_hidden_by", np.int64),  # what `find_pair` found in lines of sight, as a set
        ("slack_m", np.float64),  # how far `find_pair` found the nearest pair from being close enough, at least
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
        ("told", np.int64, (P,)),  # how many bodies the player was told of
        ("in_reach", np.int64, (P,)),  # bit k: body k may come within the player's reach in this timestep
        ("bodies_of", np.int64, (c.NUM_KINDS,)),  # bit k: body k is of this kind
        ("action", np.int8, (P, len(c.ACTION_SIZES))),
        ("kind", np.int8, (K,)),  # object type or player, -1 for an empty slot
        ("shape", np.int8, (K,)),  # row of `constants.HALF`
        ("frozen", np.uint8, (K,)),  # never moves
        ("awake", np.uint8, (K,)),  # ticks of rest until the body sleeps; 0 asleep
        ("supported", np.uint8, (K,)),  # 0 in the air, 1 on terrain, 2 on a body at rest, 3 on one that may move
        ("position", np.float64, (K, 3)),  # centre of each body
        ("velocity", np.float64, (K, 3)),
        ("beside", np.int64, (K,)),  # bit k: body k may come to touch in this timestep
        ("watch", np.int64, (R,)),  # see `settled`
        ("due", np.int64, (R,)),  # before this tick a rule that waits for two bodies to come close can't fire
        ("spent", np.int64, (K,)),  # bit r: made by rule r, whose condition has held for it ever since
    ],
    align=True,
)

# What one world's step tells, and what the view is worked out in; one a thread.
TOLD = np.dtype(
    [
        ("trial_ended", np.int64),
        ("episode_ended", np.int64),
        ("episode_started", np.int64),
        # From the player's eye to each body's centre, and the square of that over the ground; in whole vectors.
        ("ahead_x", np.float64, (VIEWED,)),
        ("ahead_y", np.float64, (VIEWED,)),
        ("ahead_z", np.float64, (VIEWED,)),
        ("distance2", np.float64, (VIEWED,)),
        # Of the directions in which ranges are told: which grid lines can't be walked across, and how far off they are.
        ("fan_cos", np.float64, (DIRECTIONS,)),
        ("fan_sin", np.float64, (DIRECTIONS,)),
        ("fan_line_x", np.int32, (DIRECTIONS,)),
        ("fan_line_y", np.int32, (DIRECTIONS,)),
        ("fan_to_x", np.float64, (DIRECTIONS,)),
        ("fan_to_y", np.float64, (DIRECTIONS,)),
        ("may_hide", np.int64),  # bit k: body k may stand in front of something in the view
        ("reward", np.float32, (P,)),
        ("last_reward", np.float32, (P,)),
        ("last_action", np.int8, (P, len(c.ACTION_SIZES))),
    ],
    align=True,
)

# A player's rows of the arrays that come out, as records: a compiled function takes one as a single pointer.
SIGHT = np.dtype([("objects", np.float32, (c.OBJECT_SLOTS, c.OBJECT_FEATURES))])
RANGES = np.dtype([("ranges", np.float32, (c.NUM_RANGES,))])
BODY = np.dtype([("body", np.float32, (5,))])
TIMERS = np.dtype([("timers", np.float32, (4,))])


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


class Rows(NamedTuple):
    """Some of the outputs, each player's share as a record [B, P] over the same memory."""

    sight: np.ndarray
    ranges: np.ndarray
    body: np.ndarray
    timers: np.ndarray


def rows_of(out: Outputs) -> Rows:
    """Return the rows of these outputs."""
    lead = out.reward.shape

    def records(array: np.ndarray, kind: np.dtype[np.void]) -> np.ndarray:
        return array.reshape(*lead, -1).view(kind)[..., 0]

    return Rows(
        records(out.objects, SIGHT),
        records(out.ranges, RANGES),
        records(out.body, BODY),
        records(out.timers, TIMERS),
    )
