"""Which bodies may come near which in this timestep: worked out at most once a timestep for each body that asks.

Contacts and hands ask only these. What was put elsewhere in the meantime, or woke, is among everyone's neighbours until
the next timestep, and its own neighbours are worked out again.
"""

from numba import njit

from ada_sim.constants import (
    FIRST_OBJECT,
    GRIP_REACH_M,
    MAX_SPEED_M_S,
    OUTER_RADIUS,
    TICK_S,
    TICKS_PER_TIMESTEP,
    WALK_SPEED_M_S,
)

MOVE_M = TICKS_PER_TIMESTEP * TICK_S * MAX_SPEED_M_S  # how far a body that is awake moves in a timestep, at most
MARGIN_M = 0.1
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
    x = w.position[k, 0]
    y = w.position[k, 1]
    waking = w.waking
    wide = OUTER_RADIUS[w.shape[k]] + (waking >> k & 1) * MOVE_M + MARGIN_M
    beside = 0
    arm = 0
    for other in range(w.used):
        apart = max(abs(w.position[other, 0] - x), abs(w.position[other, 1] - y))
        apart -= OUTER_RADIUS[w.shape[other]] + (waking >> other & 1) * MOVE_M
        beside |= (apart < wide) << other
        arm |= (apart < ARM_M) << other
    w.beside[k] = beside
    if k < FIRST_OBJECT:
        w.in_reach[k] = arm
