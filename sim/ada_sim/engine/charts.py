"""Which bodies may come near which in this timestep: worked out at most once a timestep for each body that asks.

Contacts and hands ask only these. What was put elsewhere in the meantime, or woke, is among everyone's neighbours until
the next timestep, and its own neighbours are worked out again.
"""

from numba import njit

from ada_sim.constants import (
    FIRST_OBJECT,
    GRIP_REACH_M,
    OUTER_RADIUS,
    TICK_S,
    TICKS_PER_TIMESTEP,
    WALK_SPEED_M_S,
)
from ada_sim.engine.lanes import LANES, MOVE_M, may_touch
from ada_sim.engine.types import WORLD

MARGIN_M = 0.1
assert WORLD.fields is not None
POSITION, SHAPE = (int(WORLD.fields[name][1]) for name in ("position", "shape"))
ARM_M = TICKS_PER_TIMESTEP * TICK_S * WALK_SPEED_M_S + GRIP_REACH_M + MARGIN_M


@njit(error_model="numpy")
def stray(w, k):  # type: ignore[no-untyped-def]
    """Note that body k was put elsewhere, maybe farther than it can move by itself, or that it begins to move."""
    w.strays |= 1 << k
    w.charted &= ~(1 << k)


@njit(error_model="numpy")
def touchable(w, k):  # type: ignore[no-untyped-def]
    """Return the set of bodies (k itself among them) that may touch body k in this timestep."""
    bit = 1 << k
    if not w.charted & bit:
        chart(w, k)
        w.charted |= bit
    return (w.beside[k] | w.strays) & w.bodies


@njit(error_model="numpy")
def in_reach(w, p):  # type: ignore[no-untyped-def]
    """Return the set of bodies that may come within reach of player p in this timestep."""
    touchable(w, p)
    return (w.in_reach[p] | w.strays) & w.bodies


@njit(error_model="numpy")
def chart(w, k):  # type: ignore[no-untyped-def]
    """Find the bodies that may touch body k and, if it is a player, those that may come within its reach."""
    waking = w.waking
    wide = OUTER_RADIUS[w.shape[k]] + (waking >> k & 1) * MOVE_M + MARGIN_M
    at = (w.position[k, 0], w.position[k, 1])
    beside = 0
    arm = 0
    for first in range(0, w.used, LANES):
        found = may_touch(w, POSITION + 24 * first, SHAPE + first, waking >> first, at, wide, ARM_M)
        beside |= (found & 0xFF) << first
        arm |= (found >> LANES) << first
    w.beside[k] = beside & ((1 << w.used) - 1)
    if k < FIRST_OBJECT:
        w.in_reach[k] = arm & ((1 << w.used) - 1)
