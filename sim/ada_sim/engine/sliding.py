"""How far a box may move over terrain: it stops at what is too high for it, and is freed from what it hangs into."""

import numpy as np
from numba import njit

from ada_sim.constants import LEVEL_HEIGHT_M
from ada_sim.engine.terrain import EDGE, RUGGED, ground, is_blocked

# Bit 3 (di + 1) + dj + 1 of `around` stands for the tile beside that is di to the east and dj to the north.
MIDDLE_ROW, MIDDLE_COLUMN = 1 << 1, 1 << 3


@njit(error_model="numpy")
def move_over(t, x, y, bottom, dx, dy, half_x, half_y, walks):  # type: ignore[no-untyped-def]
    """Move a box by (dx, dy), under 0.4 m each, first along x, then along y; it stops at terrain too high for it.

    Returns its place and the height of the ground there. Where all is flat around, one look at `around` tells what
    `move_x` and `move_y` find out tile by tile.
    """
    here = int(x) * t.size + int(y)
    around = np.int64(t.around[here])
    cell = t.cell[here]
    if around & RUGGED or bottom != (cell >> 3) * LEVEL_HEIGHT_M:
        if dx != 0:
            x = move_x(t, x, y, bottom, dx, half_x, half_y, walks)
        if dy != 0:
            y = move_y(t, x, y, bottom, dy, half_x, half_y, walks)
        return x, y, ground(t, x, y)
    if dx != 0:
        i = int(x)
        j = int(y)
        to = x + dx
        rows = MIDDLE_ROW | (y - half_y < j) | (y + half_y >= j + 1) << 2
        if dx > 0:
            enters = to + half_x >= i + 1
            if around >> (6 if enters else 3) & rows:
                to = min(to, max(x, i + enters - half_x - EDGE))
        else:
            enters = to - half_x < i
            if around >> (0 if enters else 3) & rows:
                to = max(to, min(x, i + 1 - enters + half_x + EDGE))
        x = to
        if int(x) != i:
            here = int(x) * t.size + j
            around = np.int64(t.around[here])
            if around & RUGGED or t.cell[here] != cell:
                if dy != 0:
                    y = move_y(t, x, y, bottom, dy, half_x, half_y, walks)
                return x, y, ground(t, x, y)
    if dy != 0:
        i = int(x)
        j = int(y)
        to = y + dy
        columns = MIDDLE_COLUMN | (x - half_x < i) | (x + half_x >= i + 1) << 6
        if dy > 0:
            enters = to + half_y >= j + 1
            if around >> (2 if enters else 1) & columns:
                to = min(to, max(y, j + enters - half_y - EDGE))
        else:
            enters = to - half_y < j
            if around >> (0 if enters else 1) & columns:
                to = max(to, min(y, j + 1 - enters + half_y + EDGE))
        y = to
        if int(y) != j:
            return x, y, ground(t, x, y)
    return x, y, bottom


@njit(error_model="numpy")
def move_x(t, x, y, bottom, dx, half_x, half_y, walks):  # type: ignore[no-untyped-def]
    """Return the new x of a box that moves by dx (under 1 m) and stops at terrain too high for it."""
    to = x + dx
    i = int(to + half_x) if dx > 0 else int(to - half_x)
    for j in range(int(y - half_y), int(y + half_y) + 1):
        if is_blocked(t, i, j, to, y, bottom, walks):
            to = min(to, max(x, i - half_x - EDGE)) if dx > 0 else max(to, min(x, i + 1 + half_x + EDGE))
            break
    return min(max(to, 1.0 + half_x + EDGE), t.size - 1.0 - half_x - EDGE)


@njit(error_model="numpy")
def move_y(t, x, y, bottom, dy, half_x, half_y, walks):  # type: ignore[no-untyped-def]
    """Return the new y of a box that moves by dy (under 1 m) and stops at terrain too high for it."""
    to = y + dy
    j = int(to + half_y) if dy > 0 else int(to - half_y)
    for i in range(int(x - half_x), int(x + half_x) + 1):
        if is_blocked(t, i, j, x, to, bottom, walks):
            to = min(to, max(y, j - half_y - EDGE)) if dy > 0 else max(to, min(y, j + 1 + half_y + EDGE))
            break
    return min(max(to, 1.0 + half_y + EDGE), t.size - 1.0 - half_y - EDGE)


@njit(error_model="numpy")
def nothing_hangs(t, x, y, bottom, half_x, half_y):  # type: ignore[no-untyped-def]
    """Say, from `around` alone, that a box hangs into no terrain beside it; False may also mean that it isn't known."""
    i = int(x)
    j = int(y)
    around = np.int64(t.around[i * t.size + j])
    rows = MIDDLE_ROW | (y - half_y < j) | (y + half_y >= j + 1) << 2
    covered = rows << 3
    if x - half_x < i:
        covered |= rows
    if x + half_x >= i + 1:
        covered |= rows << 6
    return around & (covered | RUGGED) == 0 and bottom >= (t.cell[i * t.size + j] >> 3) * LEVEL_HEIGHT_M


@njit(error_model="numpy")
def push_out(t, x, y, bottom, half_x, half_y, walks):  # type: ignore[no-untyped-def]
    """Return the (dx, dy) that frees a box from terrain beside it: it fell past an edge and hangs into its side."""
    if nothing_hangs(t, x, y, bottom, half_x, half_y):
        return 0.0, 0.0
    ci = int(x)
    cj = int(y)
    dx = 0.0
    dy = 0.0
    if x + half_x > ci + 1 and is_blocked(t, ci + 1, cj, x, y, bottom, walks):
        dx = ci + 1 - half_x - EDGE - x
    elif x - half_x < ci and is_blocked(t, ci - 1, cj, x, y, bottom, walks):
        dx = ci + half_x + EDGE - x
    if y + half_y > cj + 1 and is_blocked(t, ci, cj + 1, x, y, bottom, walks):
        dy = cj + 1 - half_y - EDGE - y
    elif y - half_y < cj and is_blocked(t, ci, cj - 1, x, y, bottom, walks):
        dy = cj + half_y + EDGE - y
    if dx != 0.0 or dy != 0.0:
        return dx, dy
    # Only a corner hangs in: the shorter way out.
    out_x = ci + 1 - half_x - EDGE - x if x + half_x > ci + 1 else ci + half_x + EDGE - x
    out_y = cj + 1 - half_y - EDGE - y if y + half_y > cj + 1 else cj + half_y + EDGE - y
    ni = ci + 1 if x + half_x > ci + 1 else ci - 1
    nj = cj + 1 if y + half_y > cj + 1 else cj - 1
    hangs = (x + half_x > ci + 1 or x - half_x < ci) and (y + half_y > cj + 1 or y - half_y < cj)
    if hangs and is_blocked(t, ni, nj, x, y, bottom, walks):
        if abs(out_x) < abs(out_y):
            dx = out_x
        else:
            dy = out_y
    return dx, dy
