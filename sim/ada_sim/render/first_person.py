"""What a player's camera sees: 72 x 96 RGB.

The picture plane stays vertical and pitch shifts the lens, so every column of pixels looks along one line over the
ground: one walk over the tiles fills the column from the bottom up. Bodies follow, each solved exactly inside its
bounds, in front of what is farther. Frames are drawn column by column (`colour[u, v]`) and turned at the end.

Depth is measured along the view, not along the ray: a pixel (u, v) at depth d is the point
eye + d * (forward + a * left + s * up), a = (W / 2 - u - 1/2) / focal, s = (H / 2 - v - 1/2) / focal + tan(pitch).
"""

import math

import numpy as np
from numba import njit

from ada_sim.constants import EYE_ABOVE_CENTRE_M, IMAGE_HEIGHT_PX, IMAGE_WIDTH_PX, LEVEL_HEIGHT_M, VIEW_ANGLE
from ada_sim.engine.terrain import EAST, FAR, NORTH, SOUTH, WALL, WEST, height_on
from ada_sim.render.bodies import draw_bodies
from ada_sim.render.palette import (
    CLIFF_RGB,
    FLOOR_RGB,
    FOG_PER_M,
    LEVEL_BRIGHTER,
    PIT_RGB,
    RAMP_RGB,
    SKY_RGB,
    WALL_RGB,
)
from ada_sim.tasks.task import Tile

W, H = IMAGE_WIDTH_PX, IMAGE_HEIGHT_PX
FOCAL_PX = W / (2 * math.tan(VIEW_ANGLE / 2))
PIT = int(Tile.PIT)
NEAR_M = 0.02


@njit(cache=True, nogil=True)
def draw_worlds(worlds, tasks, chosen, depth, colour, frames):  # type: ignore[no-untyped-def]
    """Draw what the players of the chosen worlds see.

    Args:
        worlds, tasks: records [B]; chosen: int64 [N].
        depth: float64 [96, 72] and colour: uint8 [96, 72, 3], to work in.
        frames: uint8 [N, P, 72, 96, 3], written; black where no episode runs.
    """
    for n in range(len(chosen)):
        w = worlds[chosen[n]]
        t = tasks[chosen[n]]
        for p in range(frames.shape[1]):
            if not w.active:
                frames[n, p] = 0
                continue
            for u in range(W):
                draw_column(w, t, p, u, depth, colour)
            draw_bodies(w, t, p, depth, colour)
            for v in range(H):
                for u in range(W):
                    for channel in range(3):
                        frames[n, p, v, u, channel] = colour[u, v, channel]


@njit
def row_above(slope, tan_pitch):  # type: ignore[no-untyped-def]
    """Return the topmost row whose line of sight is no steeper than `slope`, at least 0."""
    return max(0, int(np.ceil(H / 2 - 0.5 - min(max(slope - tan_pitch, -4.0), 4.0) * FOCAL_PX)))


@njit
def draw_column(w, t, p, u, depth, colour):  # type: ignore[no-untyped-def]
    """Fill column u with terrain and sky: front to back, from the bottom row up."""
    a = (W / 2 - u - 0.5) / FOCAL_PX
    x = w.position[p, 0]
    y = w.position[p, 1]
    eye = w.position[p, 2] + EYE_ABOVE_CENTRE_M
    dx = w.cos_yaw[p] - a * w.sin_yaw[p]
    dy = w.sin_yaw[p] + a * w.cos_yaw[p]
    tan_pitch = w.tan_pitch[p]
    i = int(x)
    j = int(y)
    step_i = 1 if dx > 0 else -1
    step_j = 1 if dy > 0 else -1
    per_i = 1.0 / abs(dx) if abs(dx) > 1e-12 else FAR
    per_j = 1.0 / abs(dy) if abs(dy) > 1e-12 else FAR
    next_i = ((i + 1 - x) if dx > 0 else (x - i)) * per_i
    next_j = ((j + 1 - y) if dy > 0 else (y - j)) * per_j
    ray = (x, y, eye, dx, dy, tan_pitch)
    filled = H  # rows from this one on are drawn
    enter = NEAR_M
    enter_height = height_on(t, i, j, x, y)
    while filled > 0:
        leave = max(min(next_i, next_j), enter)
        at_x = x + leave * dx
        at_y = y + leave * dy
        leave_height = height_on(t, i, j, at_x, at_y)
        top_row = row_above((leave_height - eye) / max(leave, NEAR_M), tan_pitch)
        if top_row < filled:
            rise = (leave_height - enter_height) / (leave - enter) if leave - enter > 1e-9 else 0.0
            paint_floor(t, i, j, ray, enter, leave, enter_height, rise, u, top_row, filled, depth, colour)
            filled = top_row
        along = at_y if next_i < next_j else at_x
        across_i = next_i < next_j
        if across_i:
            i += step_i
            next_i += per_i
        else:
            j += step_j
            next_j += per_j
        if i < 0 or j < 0 or i >= t.size or j >= t.size:
            break
        enter = leave
        enter_height = height_on(t, i, j, at_x, at_y)
        if enter_height > leave_height:
            top_row = row_above((enter_height - eye) / max(leave, NEAR_M), tan_pitch)
            if top_row < filled:
                paint_side(t, i, j, eye, tan_pitch, leave, along, across_i, u, top_row, filled, depth, colour)
                filled = top_row
    for v in range(filled):
        depth[u, v] = FAR
        for channel in range(3):
            colour[u, v, channel] = np.uint8(SKY_RGB[channel] - v * 0.5)


@njit
def paint_floor(t, i, j, ray, enter, leave, enter_height, rise, u, top_row, end, depth, colour):  # type: ignore[no-untyped-def]
    """Paint rows top_row to end of column u with the top of tile (i, j): a checker board of half metres."""
    x, y, eye, dx, dy, tan_pitch = ray
    kind = t.tile[i, j]
    brighter = LEVEL_BRIGHTER * t.top[i, j] / LEVEL_HEIGHT_M
    if kind in (NORTH, EAST, SOUTH, WEST):
        red, green, blue = RAMP_RGB[0], RAMP_RGB[1], RAMP_RGB[2]
    elif kind == PIT:
        red, green, blue = PIT_RGB[0], PIT_RGB[1], PIT_RGB[2]
        brighter = 0.0
    elif kind == WALL:
        red, green, blue = WALL_RGB[0], WALL_RGB[1], WALL_RGB[2]
        brighter = 20.0
    else:
        red, green, blue = FLOOR_RGB[0], FLOOR_RGB[1], FLOOR_RGB[2]
    base = enter_height - rise * enter - eye  # the floor's height above the eye is base + rise * depth
    for v in range(top_row, end):
        s = (H / 2 - v - 0.5) / FOCAL_PX + tan_pitch
        d = base / (s - rise) if abs(s - rise) > 1e-9 else leave
        d = min(max(d, enter), leave)
        checker = (int(2 * (x + d * dx)) + int(2 * (y + d * dy))) & 1
        light = (1.0 if checker else 0.86) / (1.0 + FOG_PER_M * d)
        depth[u, v] = d
        colour[u, v, 0] = np.uint8(min(255.0, (red + brighter) * light))
        colour[u, v, 1] = np.uint8(min(255.0, (green + brighter) * light))
        colour[u, v, 2] = np.uint8(min(255.0, (blue + brighter) * light))


@njit
def paint_side(t, i, j, eye, tan_pitch, d, along, across_i, u, top_row, end, depth, colour):  # type: ignore[no-untyped-def]
    """Paint rows top_row to end of column u with the side of tile (i, j): courses of bricks, darker on one axis."""
    light = (0.95 if across_i else 0.75) / (1.0 + FOG_PER_M * d)
    is_wall = t.tile[i, j] == WALL
    red = WALL_RGB[0] if is_wall else CLIFF_RGB[0]
    green = WALL_RGB[1] if is_wall else CLIFF_RGB[1]
    blue = WALL_RGB[2] if is_wall else CLIFF_RGB[2]
    column = int(2 * along)
    for v in range(top_row, end):
        s = (H / 2 - v - 0.5) / FOCAL_PX + tan_pitch
        course = int(4 * (eye + s * d) + 400)
        shade = light if (course + column) & 1 else light * 0.88
        depth[u, v] = d
        colour[u, v, 0] = np.uint8(red * shade)
        colour[u, v, 1] = np.uint8(green * shade)
        colour[u, v, 2] = np.uint8(blue * shade)
