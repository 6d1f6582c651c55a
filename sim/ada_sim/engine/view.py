"""What a camera takes in, and what may stand in front of it."""

import math

import numpy as np
from numba import njit

from ada_sim.constants import IMAGE_HEIGHT_PX, IMAGE_WIDTH_PX, NUM_RANGES, OUTER_RADIUS, VIEW_ANGLE

COS2_HALF_VIEW = math.cos(VIEW_ANGLE / 2) ** 2
FAN_ANGLES = np.linspace(-VIEW_ANGLE / 2, VIEW_ANGLE / 2, NUM_RANGES)
FAN = np.stack([np.cos(FAN_ANGLES), np.sin(FAN_ANGLES)], axis=1)  # of the directions of ranges, from the right on
TAN_HALF_VIEW = math.tan(VIEW_ANGLE / 2)
TAN_HALF_HEIGHT = TAN_HALF_VIEW * IMAGE_HEIGHT_PX / IMAGE_WIDTH_PX
WIDEST_RADIUS2 = float((OUTER_RADIUS**2).max()) * 2.0
# A body that crosses a line inside the view has its centre at most this far outside of the view, counted to the side.
HIDING_M = 1.01 * math.sqrt(WIDEST_RADIUS2) * (1.0 + TAN_HALF_VIEW)


@njit(error_model="numpy")
def in_view(dx, dy, dz, cos, sin, tan_pitch):  # type: ignore[no-untyped-def]
    """Say whether the point (dx, dy, dz) from the eye is inside the picture that the camera takes."""
    ahead = dx * cos + dy * sin
    if ahead <= 0 or ahead * ahead < COS2_HALF_VIEW * (dx * dx + dy * dy):
        return False
    return abs(dz - ahead * tan_pitch) <= ahead * TAN_HALF_HEIGHT


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
