"""Distances between bodies: boxes along the axes, balls, and upright cylinders, as one formula.

Each body is a box core (of no size for a ball, a vertical line for a cylinder) widened by a radius: round in the plane
for a cylinder, in space for a ball. Between two bodies, halves and radii add up.
"""

import math

from numba import njit

from ada_sim.constants import BALL_RADIUS, BOX_HALF, CYLINDER_RADIUS


@njit(error_model="numpy")
def contact(w, i, j):  # type: ignore[no-untyped-def]
    """Return the surface gap from body i to body j (negative: depth) and the unit normal from i to j."""
    si = w.shape[i]
    sj = w.shape[j]
    dx = w.position[j, 0] - w.position[i, 0]
    dy = w.position[j, 1] - w.position[i, 1]
    dz = w.position[j, 2] - w.position[i, 2]
    gx = abs(dx) - (BOX_HALF[si, 0] + BOX_HALF[sj, 0])
    gy = abs(dy) - (BOX_HALF[si, 1] + BOX_HALF[sj, 1])
    gz = abs(dz) - (BOX_HALF[si, 2] + BOX_HALF[sj, 2])
    sx = 1.0 if dx >= 0 else -1.0
    sy = 1.0 if dy >= 0 else -1.0
    sz = 1.0 if dz >= 0 else -1.0
    if gx > 0 or gy > 0:
        nx = max(gx, 0.0)
        ny = max(gy, 0.0)
        flat = math.sqrt(nx * nx + ny * ny)
        nx = nx / flat * sx
        ny = ny / flat * sy
    elif gx >= gy:
        flat = gx
        nx = sx
        ny = 0.0
    else:
        flat = gy
        nx = 0.0
        ny = sy
    flat -= CYLINDER_RADIUS[si] + CYLINDER_RADIUS[sj]
    ball = BALL_RADIUS[si] + BALL_RADIUS[sj]
    if flat > 0 or gz > 0:
        h = max(flat, 0.0)
        v = max(gz, 0.0)
        distance = math.sqrt(h * h + v * v)
        h /= distance
        v /= distance
        return distance - ball, nx * h, ny * h, sz * v
    if flat >= gz:
        return flat - ball, nx, ny, 0.0
    return gz - ball, 0.0, 0.0, sz


@njit(error_model="numpy")
def gap(w, i, j):  # type: ignore[no-untyped-def]
    """Return the distance between the surfaces of bodies i and j, negative where they overlap."""
    return contact(w, i, j)[0]
