"""Bodies in a player's picture: each pixel of a body's bounds is solved exactly against its shape."""

import math

import numpy as np
from numba import njit

from ada_sim.constants import (
    EYE_ABOVE_CENTRE_M,
    FIRST_OBJECT,
    HALF,
    IMAGE_HEIGHT_PX,
    IMAGE_WIDTH_PX,
    PLAYER_RADIUS_M,
    VIEW_ANGLE,
)
from ada_sim.engine.terrain import FAR
from ada_sim.render.palette import FOG_PER_M, OBJECT_RGB, PLAYER_RGB, VISOR_RGB

W, H = IMAGE_WIDTH_PX, IMAGE_HEIGHT_PX
FOCAL_PX = W / (2 * math.tan(VIEW_ANGLE / 2))
NEAREST_M = 0.05
SPHERE, PYRAMID, PLAYER = 2, 3, 4
MISS = -1.0
# Light that a face reflects by the axis it looks along: x, y, z (up), and a slanted side.
LIGHT = np.array([0.72, 0.84, 1.0])


@njit
def draw_bodies(w, t, p, depth, colour):  # type: ignore[no-untyped-def]
    """Draw every body but the player's own over the terrain of its picture."""
    for k in range(w.used):
        if w.kind[k] >= 0 and k != p:
            draw_body(w, p, k, depth, colour)


@njit
def draw_body(w, p, k, depth, colour):  # type: ignore[no-untyped-def]
    """Draw body k where it is nearer than what is drawn."""
    kind = w.kind[k]
    shape = kind // 3
    cx = w.position[k, 0] - w.position[p, 0]
    cy = w.position[k, 1] - w.position[p, 1]
    cz = w.position[k, 2] - w.position[p, 2] - EYE_ABOVE_CENTRE_M
    cos = w.cos_yaw[p]
    sin = w.sin_yaw[p]
    ahead = cx * cos + cy * sin
    left = cy * cos - cx * sin
    reach = math.sqrt(HALF[shape, 0] ** 2 + HALF[shape, 1] ** 2)
    if ahead < -reach:
        return
    tan_pitch = w.tan_pitch[p]
    first_u, last_u, first_v, last_v = bounds(ahead, left, cz, reach, HALF[shape, 2], tan_pitch)
    for u in range(first_u, last_u + 1):
        a = (W / 2 - u - 0.5) / FOCAL_PX
        dx = cos - a * sin
        dy = sin + a * cos
        for v in range(first_v, last_v + 1):
            dz = (H / 2 - v - 0.5) / FOCAL_PX + tan_pitch
            d, light = hit(shape, dx, dy, dz, cx, cy, cz)
            if d < NEAREST_M or d >= depth[u, v]:
                continue
            depth[u, v] = d
            light /= 1.0 + FOG_PER_M * d
            visor = False
            if shape == PLAYER:
                across = (d * dx - cx) * w.cos_yaw[k] + (d * dy - cy) * w.sin_yaw[k]
                visor = across > 0.75 * PLAYER_RADIUS_M and d * dz > cz + 0.1
            for channel in range(3):
                if visor:
                    base = VISOR_RGB[channel]
                elif k < FIRST_OBJECT:
                    base = PLAYER_RGB[k, channel]
                else:
                    base = OBJECT_RGB[kind % 3, channel]
                colour[u, v, channel] = np.uint8(base * light)


@njit
def bounds(ahead, left, up, reach, half_z, tan_pitch):  # type: ignore[no-untyped-def]
    """Return the columns and rows, first and last, that a body of this size may cover; the whole picture if close."""
    near = ahead - reach
    if near < 0.15:
        return 0, W - 1, 0, H - 1
    far = ahead + reach
    most_left = max((left + reach) / near, (left + reach) / far)
    most_right = min((left - reach) / near, (left - reach) / far)
    most_up = max((up + half_z) / near, (up + half_z) / far) - tan_pitch
    most_down = min((up - half_z) / near, (up - half_z) / far) - tan_pitch
    first_u = max(0, int(W / 2 - 0.5 - most_left * FOCAL_PX))
    last_u = min(W - 1, int(W / 2 + 0.5 - most_right * FOCAL_PX))
    first_v = max(0, int(H / 2 - 0.5 - most_up * FOCAL_PX))
    last_v = min(H - 1, int(H / 2 + 0.5 - most_down * FOCAL_PX))
    return first_u, last_u, first_v, last_v


@njit
def hit(shape, dx, dy, dz, cx, cy, cz):  # type: ignore[no-untyped-def]
    """Return the depth at which the ray d * (dx, dy, dz) enters the shape centred at (cx, cy, cz), and its light."""
    if shape == SPHERE:
        return hit_sphere(dx, dy, dz, cx, cy, cz)
    if shape == PYRAMID:
        return hit_pyramid(dx, dy, dz, cx, cy, cz)
    if shape == PLAYER:
        return hit_cylinder(dx, dy, dz, cx, cy, cz)
    return hit_box(dx, dy, dz, cx, cy, cz, HALF[shape, 0], HALF[shape, 1], HALF[shape, 2])


@njit
def hit_sphere(dx, dy, dz, cx, cy, cz):  # type: ignore[no-untyped-def]
    """Solve |d * ray - centre| = radius."""
    radius = HALF[SPHERE, 2]
    a = dx * dx + dy * dy + dz * dz
    b = dx * cx + dy * cy + dz * cz
    c = cx * cx + cy * cy + cz * cz - radius * radius
    root = b * b - a * c
    if root <= 0:
        return MISS, 0.0
    d = (b - math.sqrt(root)) / a
    return d, 0.75 + 0.25 * (d * dz - cz) / radius


@njit
def clip(rate, start, near, far):  # type: ignore[no-untyped-def]
    """Narrow (near, far) to where start + d * rate <= 0."""
    if abs(rate) < 1e-12:
        if start > 0:
            return FAR, -FAR
        return near, far
    d = -start / rate
    if rate > 0:
        return near, min(far, d)
    return max(near, d), far


@njit
def hit_box(dx, dy, dz, cx, cy, cz, half_x, half_y, half_z):  # type: ignore[no-untyped-def]
    """Clip the ray by six faces."""
    near_x, far_x = clip(dx, -cx - half_x, -FAR, FAR)
    near_x, far_x = clip(-dx, cx - half_x, near_x, far_x)
    near_y, far_y = clip(dy, -cy - half_y, -FAR, FAR)
    near_y, far_y = clip(-dy, cy - half_y, near_y, far_y)
    near_z, far_z = clip(dz, -cz - half_z, -FAR, FAR)
    near_z, far_z = clip(-dz, cz - half_z, near_z, far_z)
    near = max(near_x, near_y, near_z)
    if near > min(far_x, far_y, far_z):
        return MISS, 0.0
    if near == near_x:
        return near, LIGHT[0]
    if near == near_y:
        return near, LIGHT[1]
    return near, LIGHT[2]


@njit
def hit_pyramid(dx, dy, dz, cx, cy, cz):  # type: ignore[no-untyped-def]
    """Clip the ray by the base and four slanted sides: |x| / half + (z + half) / (2 half) <= 1 about the centre."""
    half = HALF[PYRAMID, 0]
    tilt = half / (2 * HALF[PYRAMID, 2])
    level = -cz * tilt - half / 2
    near_x, far_x = clip(dx + tilt * dz, -cx + level, -FAR, FAR)
    near_x, far_x = clip(-dx + tilt * dz, cx + level, near_x, far_x)
    near_y, far_y = clip(dy + tilt * dz, -cy + level, -FAR, FAR)
    near_y, far_y = clip(-dy + tilt * dz, cy + level, near_y, far_y)
    near_z, far_z = clip(-dz, cz - HALF[PYRAMID, 2], -FAR, FAR)
    near = max(near_x, near_y, near_z)
    if near > min(far_x, far_y, far_z):
        return MISS, 0.0
    return near, LIGHT[0] if near == near_x else LIGHT[1]


@njit
def hit_cylinder(dx, dy, dz, cx, cy, cz):  # type: ignore[no-untyped-def]
    """Solve for the mantle, clipped by top and bottom."""
    radius = HALF[PLAYER, 0]
    a = dx * dx + dy * dy
    b = dx * cx + dy * cy
    root = b * b - a * (cx * cx + cy * cy - radius * radius)
    if root <= 0:
        return MISS, 0.0
    mantle = (b - math.sqrt(root)) / a
    near, far = clip(dz, -cz - HALF[PLAYER, 2], mantle, (b + math.sqrt(root)) / a)
    near, far = clip(-dz, cz - HALF[PLAYER, 2], near, far)
    if near > far:
        return MISS, 0.0
    if near > mantle:
        return near, LIGHT[2]
    return near, 0.7 + 0.2 * abs(cy - near * dy) / radius
