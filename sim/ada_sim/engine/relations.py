"""The four predicates of XLand 2.0 between two bodies: touching, near, hold, see."""

from numba import njit

from ada_sim.constants import (
    EYE_ABOVE_CENTRE_M,
    FIRST_OBJECT,
    HALF,
    NEAR_GAP_M,
    TOUCH_GAP_M,
    TOUCH_SLOP_M,
)
from ada_sim.engine.bits import lowest
from ada_sim.engine.geometry import gap
from ada_sim.engine.terrain import line_is_clear
from ada_sim.engine.view import WIDEST_RADIUS2, comes_close, crosses_box, in_view
from ada_sim.tasks.task import Relation

TOUCHING, NEAR, HOLD, SEE = int(Relation.TOUCHING), int(Relation.NEAR), int(Relation.HOLD), int(Relation.SEE)


@njit(error_model="numpy")
def holds(w, t, relation, i, j):  # type: ignore[no-untyped-def]
    """Say whether `relation(body i, body j)` is true."""
    if relation == TOUCHING:
        return is_within(w, i, j, TOUCH_GAP_M + TOUCH_SLOP_M)
    if relation == NEAR:
        return is_within(w, i, j, NEAR_GAP_M)
    if relation == HOLD:
        return i < FIRST_OBJECT and w.held[i] == j
    return sees(w, t, i, j)


@njit(error_model="numpy")
def is_within(w, i, j, limit):  # type: ignore[no-untyped-def]
    """Say whether the gap between bodies i and j is at most `limit`; of bodies far apart only the bounds are asked.

    Leaves in `slack_m`, if it is less than what is there, how much nearer along x or y they must come at least.
    """
    si = w.shape[i]
    sj = w.shape[j]
    apart_x = abs(w.position[j, 0] - w.position[i, 0]) - (HALF[si, 0] + HALF[sj, 0])
    apart_y = abs(w.position[j, 1] - w.position[i, 1]) - (HALF[si, 1] + HALF[sj, 1])
    missing = max(apart_x, apart_y) - (limit + 1e-9)
    w.slack_m = min(w.slack_m, missing)
    return missing <= 0 and gap(w, i, j) <= limit


@njit(error_model="numpy")
def sees(w, t, i, j):  # type: ignore[no-untyped-def]
    """Say whether nothing stands between the centres of i and j; from a player: its eye, and j inside its view."""
    x0 = w.position[i, 0]
    y0 = w.position[i, 1]
    z0 = w.position[i, 2]
    if i < FIRST_OBJECT:
        p = i
        z0 += EYE_ABOVE_CENTRE_M
        dx = w.position[j, 0] - x0
        dy = w.position[j, 1] - y0
        dz = w.position[j, 2] - z0
        if not in_view(dx, dy, dz, w.cos_yaw[p], w.sin_yaw[p], w.tan_pitch[p]):
            return False
    return line_is_open(w, t, i, j, x0, y0, z0)


@njit(error_model="numpy")
def line_is_open(w, t, i, j, x, y, z):  # type: ignore[no-untyped-def]
    """Say whether neither terrain nor a body but i and j stands between the point (x, y, z) of body i and body j."""
    to_x = w.position[j, 0]
    to_y = w.position[j, 1]
    to_z = w.position[j, 2]
    return line_is_clear(t, x, y, z, to_x, to_y, to_z) and bodies_leave_open(w, i, j, x, y, z, to_x, to_y, to_z)


@njit(error_model="numpy")
def bodies_leave_open(w, i, j, x0, y0, z0, x1, y1, z1):  # type: ignore[no-untyped-def]
    """Say whether no body but i and j crosses the line between two points; leaves in `view_hidden_by` which one."""
    dx = x1 - x0
    dy = y1 - y0
    dz = z1 - z0
    length2 = dx * dx + dy * dy
    reach2 = WIDEST_RADIUS2 * length2
    others = w.bodies & ~(1 << i) & ~(1 << j)
    while others:
        k = lowest(others)
        others &= others - 1
        ex = w.position[k, 0] - x0
        ey = w.position[k, 1] - y0
        along = ex * dx + ey * dy
        across = ex * dy - ey * dx
        if not comes_close(along, across, length2, reach2):
            continue
        shape = w.shape[k]
        ez = w.position[k, 2] - z0
        if crosses_box(dx, dy, dz, ex, ey, ez, HALF[shape, 0], HALF[shape, 1], HALF[shape, 2]):
            w.view_hidden_by |= 1 << k
            return False
    return True
