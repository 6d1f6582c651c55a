"""Which bodies may come near which in this timestep: worked out at most once a timestep for each body that asks.

Contacts and hands ask only these. What was put elsewhere in the meantime is among everyone's neighbours until the next
timestep, and its own neighbours are worked out again.
"""

from numba import njit

from ada_sim.constants import (
    GRIP_REACH_M,
    MAX_SPEED_M_S,
    NEAR_GAP_M,
    OUTER_RADIUS,
    PLAYER_RADIUS_M,
    TICK_S,
    TICKS_PER_TIMESTEP,
    WALK_SPEED_M_S,
)

_OBJECT_M = TICKS_PER_TIMESTEP * TICK_S * MAX_SPEED_M_S  # how far an object moves in a timestep, at most
_PLAYER_M = TICKS_PER_TIMESTEP * TICK_S * WALK_SPEED_M_S
_WIDEST_M = float(OUTER_RADIUS.max())
CHART_M = 0.1 + max(
    2 * _OBJECT_M + 2 * _WIDEST_M + NEAR_GAP_M,
    _PLAYER_M + _OBJECT_M + _WIDEST_M + max(GRIP_REACH_M, PLAYER_RADIUS_M + NEAR_GAP_M),
)
BESIDE_M = 0.1 + 2 * _WIDEST_M + 2 * _OBJECT_M


@njit(error_model="numpy")
def stray(w, k):  # type: ignore[no-untyped-def]
    """Note that body k was put elsewhere, maybe farther than it can move by itself."""
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
def neighbours(w, k):  # type: ignore[no-untyped-def]
    """Return the set of bodies (k itself among them) that may be close to body k, along x as well as along y."""
    bit = 1 << k
    if not w.charted & bit:
        chart(w, k)
        w.charted |= bit
    return (w.near[k] | w.strays) & w.bodies


@njit(error_model="numpy")
def chart(w, k):  # type: ignore[no-untyped-def]
    """Find the neighbours of body k."""
    x = w.position[k, 0]
    y = w.position[k, 1]
    near = 0
    beside = 0
    for other in range(w.used):
        apart = max(abs(w.position[other, 0] - x), abs(w.position[other, 1] - y))
        near |= (apart < CHART_M) << other
        beside |= (apart < BESIDE_M) << other
    w.near[k] = near
    w.beside[k] = beside
