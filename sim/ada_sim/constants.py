"""Every number of the simulated world, once. Metres, seconds and radians, unless a name says otherwise.

What the AdA paper states is marked so; everything else is ours (docs/simulator.md says why).
"""

import math

import numpy as np

from ada_sim.tasks.task import MAX_SPAWNS, NUM_OBJECT_TYPES

# Time. AdA: 30 ticks a second, an action every fourth.
TICKS_PER_SECOND = 30
TICKS_PER_TIMESTEP = 4
TICK_S = 1.0 / TICKS_PER_SECOND
TIMESTEP_S = TICKS_PER_TIMESTEP * TICK_S

# Actions: groups in order, their number of choices, the choice that does nothing.
ACTION_GROUPS = ("move", "strafe", "turn", "pitch", "grip", "reach")
ACTION_SIZES = (3, 3, 5, 3, 2, 3)
ACTION_REST = (1, 1, 2, 1, 0, 1)
MOVE, STRAFE, TURN, PITCH, GRIP, REACH = range(6)

# Capacities.
MAX_PLAYERS = 2
MAX_OBJECTS = 32
MAX_BODIES = MAX_PLAYERS + MAX_OBJECTS  # a world's bodies: players first, then objects
FIRST_OBJECT = MAX_PLAYERS
NUM_KINDS = NUM_OBJECT_TYPES + MAX_PLAYERS  # an object's kind is its type; players follow
PLAYER_SHAPE = 4  # kind // 3 of both players

# Terrain.
LEVEL_HEIGHT_M = 0.5
WALL_HEIGHT_M = 1.0  # above the level of its tile
PIT_DEPTH_M = 1.0  # below the level of its tile; nobody climbs out
BORDER_HEIGHT_M = 2.0  # of the outermost tiles, above the highest level
STEP_M = 0.22  # a rise up to this is walked up

# Players.
WALK_SPEED_M_S = 4.0
TURN_PER_TICK = 0.04  # slow; fast is four times as much
PITCH_PER_TICK = 0.04
MAX_PITCH = 0.8
PLAYER_RADIUS_M = 0.3
PLAYER_HEIGHT_M = 1.0
EYE_ABOVE_CENTRE_M = 0.3  # the eye is 0.8 m above the floor
VIEW_ANGLE = math.radians(120)

# Hand. An object within reach is gripped; with a level pitch its bottom is held HAND_LIFT_M above the player's feet.
GRIP_REACH_M = 1.5  # from the player's axis to the object's surface
GRIP_HALF_ANGLE = math.radians(45)
MAX_HAND_DISTANCE_M = 1.75
HAND_CLEARANCE_M = 0.05  # between player and held object, at least
HAND_LIFT_M = 0.05
REACH_PER_TICK_M = 0.05
HAND_SLIP_M = 1.5  # an object this far from where the hand wants it slips out
HAND_PULL = 0.5  # share of that way made good each tick

# Motion.
GRAVITY_M_S2 = 9.8
MAX_SPEED_M_S = 6.0  # of objects; 0.2 m a tick, less than the thinnest two bodies together
SLIDE_FRICTION = 1.0
ROLLING_RESISTANCE_M_S2 = 1.0
ROLL_SHARE = 5.0 / 7.0  # of a slope's pull that a rolling solid sphere turns into speed
BOUNCE = 0.4  # restitution of spheres; other shapes don't bounce
SLEEP_SPEED_M_S = 0.05
SLEEP_TICKS = 6
PLAYER_INVERSE_MASS = 0.25  # objects: 1, frozen: 0

# Predicates. AdA: 1 mm and 1 m.
TOUCH_GAP_M = 0.001
TOUCH_SLOP_M = 0.009  # what the contact solver may leave open
NEAR_GAP_M = 1.0

# Bodies by shape (wall, cube, sphere, pyramid, player): a box, a ball or an upright cylinder.
BOX_HALF = np.array(
    [[0.4, 0.12, 0.3], [0.25, 0.25, 0.25], [0, 0, 0], [0.25, 0.25, 0.25], [0, 0, PLAYER_HEIGHT_M / 2]], np.float64
)
BALL_RADIUS = np.array([0, 0, 0.25, 0, 0], np.float64)
CYLINDER_RADIUS = np.array([0, 0, 0, 0, PLAYER_RADIUS_M], np.float64)
HALF = BOX_HALF + BALL_RADIUS[:, None] + CYLINDER_RADIUS[:, None] * np.array([1.0, 1.0, 0.0])  # bounds, x y z
OUTER_RADIUS = HALF[:, :2].max(axis=1)

# Symbolic observation.
OBJECT_SLOTS = 8
OBJECT_FEATURES = 20
NUM_RANGES = 9
RANGE_LIMIT_M = 12.0
DISTANCE_UNIT_M = 4.0
FELT_DISTANCE_M = 0.7  # what is this close is told even outside the view
TRIAL_SLOTS = 6
TIMER_UNIT_S = 10.0

# Pixel observation.
IMAGE_HEIGHT_PX = 72
IMAGE_WIDTH_PX = 96

RULE_FIELDS = 4 + MAX_SPAWNS  # relation, first, second, negated, spawns (-1: none)
