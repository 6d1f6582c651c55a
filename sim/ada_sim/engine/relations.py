"""The four predicates of XLand 2.0 between two bodies: touching, near, hold, see."""

import math

from numba import njit

from ada_sim.constants import (
    EYE_ABOVE_CENTRE_M,
    FIRST_OBJECT,
    HALF,
    IMAGE_HEIGHT_PX,
    IMAGE_WIDTH_PX,
    NEAR_GAP_M,
    OUTER_RADIUS,
    TOUCH_GAP_M,
    TOUCH_SLOP_M,
    VIEW_ANGLE,
)
from ada_sim.engine.bits import lowest
from ada_sim.engine.geometry import gap
from ada_sim.engine.terrain import line_is_clear
from ada_sim.tasks.task import Relation

TOUCHING, NEAR, HOLD, SEE = int(Relation.TOUCHING), int(Relation.NEAR), int(Relation.HOLD), int(Relation.SEE)
COS2_HALF_VIEW = math.cos(VIEW_ANGLE / 2) ** 2
WIDEST_RADIUS2 = (OUTER_RADIUS**2).max() * 2.0
TAN_HALF_HEIGHT = math.tan(VIEW_ANGLE / 2) * IMAGE_HEIGHT_PX / IMAGE_WIDTH_PX


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
    """Say whether the gap between bodies i and j is at most `limit`; of bodies far apart only the bounds are asked."""
    si = w.shape[i]
    sj = w.shape[j]
    far = limit + 1e-9
    if abs(w.position[j, 0] - w.position[i, 0]) > HALF[si, 0] + HALF[sj, 0] + far:
        return False
    if abs(w.position[j, 1] - w.position[i, 1]) > HALF[si, 1] + HALF[sj, 1] + far:
        return False
    return gap(w, i, j) <= limit


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
def terrain_hides(w, t, i, j):  # type: ignore[no-untyped-def]
    """Say whether terrain stands between the centres of i and j."""
    from_i = w.position[i]
    to_j = w.position[j]
    return not line_is_clear(t, from_i[0], from_i[1], from_i[2], to_j[0], to_j[1], to_j[2])


@njit(error_model="numpy")
def line_is_open(w, t, i, j, x, y, z):  # type: ignore[no-untyped-def]
    """Say whether neither terrain nor a body but i and j stands between the point (x, y, z) of body i and body j."""
    to_x = w.position[j, 0]
    to_y = w.position[j, 1]
    to_z = w.position[j, 2]
    return bodies_leave_open(w, i, j, x, y, z, to_x, to_y, to_z) and line_is_clear(t, x, y, z, to_x, to_y, to_z)


@njit(error_model="numpy")
def in_view(dx, dy, dz, cos, sin, tan_pitch):  # type: ignore[no-untyped-def]
    """Say whether the point (dx, dy, dz) from the eye is inside the picture that the camera takes."""
    ahead = dx * cos + dy * sin
    if ahead <= 0 or ahead * ahead < COS2_HALF_VIEW * (dx * dx + dy * dy):
        return False
    return abs(dz - ahead * tan_pitch) <= ahead * TAN_HALF_HEIGHT


@njit(error_model="numpy")
def bodies_leave_open(w, i, j, x0, y0, z0, x1, y1, z1):  # type: ignore[no-untyped-def]
    """Say whether no body but i and j crosses the line between two points."""
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
            return False
    return True


@njit(error_model="numpy")
def comes_close(along, across, length2, reach2):  # type: ignore[no-untyped-def]
    """Say whether a centre is within a body's width of a segment; along and across it, in units of its length."""
    beyond = max(-along, along - length2, 0.0)
    return (across * across <= reach2) & (beyond * beyond <= reach2)


@njit(error_model="numpy")
def crosses_box(dx, dy, dz, ex, ey, ez, half_x, half_y, half_z):  # type: ignore[no-untyped-def]
    """Say whether the segment from 0 to (dx, dy, dz) crosses the box around (ex, ey, ez)."""
    near = 0.0
    far = 1.0
    for axis in range(3):
        d = dx if axis == 0 else (dy if axis == 1 else dz)
        e = ex if axis == 0 else (ey if axis == 1 else ez)
        half = half_x if axis == 0 else (half_y if axis == 1 else half_z)
        if abs(d) < 1e-12:
            if abs(e) > half:
                return False
            continue
        t0 = (e - half) / d
        t1 = (e + half) / d
        near = max(near, min(t0, t1))
        far = min(far, max(t0, t1))
    return near <= far
