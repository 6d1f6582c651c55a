"""Players turn, look up and down, walk, and fall."""

import math

from numba import njit

from ada_sim.constants import (
    GRAVITY_M_S2,
    MAX_PITCH,
    MAX_SPEED_M_S,
    MOVE,
    PITCH,
    PITCH_PER_TICK,
    PLAYER_HEIGHT_M,
    PLAYER_RADIUS_M,
    STEP_M,
    STRAFE,
    TICK_S,
    TICKS_PER_SECOND,
    TURN,
    TURN_PER_TICK,
    WALK_SPEED_M_S,
)
from ada_sim.engine.terrain import ground, move_x, move_y, push_out

STRIDE_M = WALK_SPEED_M_S * TICK_S
CENTRE_M = PLAYER_HEIGHT_M / 2


@njit
def look(w, p, yaw, pitch):  # type: ignore[no-untyped-def]
    """Turn the eye of player p to this yaw, wrapped to -pi to pi, and pitch, within its limits."""
    if yaw > math.pi:
        yaw -= 2 * math.pi
    elif yaw < -math.pi:
        yaw += 2 * math.pi
    pitch = min(max(pitch, -MAX_PITCH), MAX_PITCH)
    w.yaw[p] = yaw
    w.pitch[p] = pitch
    w.cos_yaw[p] = math.cos(yaw)
    w.sin_yaw[p] = math.sin(yaw)
    w.tan_pitch[p] = math.tan(pitch)


@njit
def move_players(w, t):  # type: ignore[no-untyped-def]
    """Carry out one tick of move, strafe, turn and pitch, with terrain in the way."""
    for p in range(t.players):
        turn = w.action[p, TURN] - 2
        nod = w.action[p, PITCH] - 1
        if turn != 0 or nod != 0:
            look(w, p, w.yaw[p] + turn * abs(turn) * TURN_PER_TICK, w.pitch[p] + nod * PITCH_PER_TICK)

        forward = (w.action[p, MOVE] - 1) * STRIDE_M
        left = (w.action[p, STRAFE] - 1) * STRIDE_M
        if forward != 0 and left != 0:  # no faster on the diagonal
            forward *= math.sqrt(0.5)
            left *= math.sqrt(0.5)
        dx = 0.0
        dy = 0.0
        if forward != 0 or left != 0:
            dx = forward * w.cos_yaw[p] - left * w.sin_yaw[p]
            dy = forward * w.sin_yaw[p] + left * w.cos_yaw[p]
        old_x = w.position[p, 0]
        old_y = w.position[p, 1]
        bottom = w.position[p, 2] - CENTRE_M
        r = PLAYER_RADIUS_M
        x = old_x
        y = old_y
        if dx != 0:
            x = move_x(t, x, y, bottom, dx, r, r, True)
        if dy != 0:
            y = move_y(t, x, y, bottom, dy, r, r, True)
        w.velocity[p, 0] = (x - old_x) * TICKS_PER_SECOND
        w.velocity[p, 1] = (y - old_y) * TICKS_PER_SECOND

        floor = ground(t, x, y)
        if w.supported[p] == 1 and floor > bottom - STEP_M:
            bottom = floor  # walks down ramps instead of leaping off
            w.velocity[p, 2] = 0.0
        else:
            speed = max(w.velocity[p, 2] - GRAVITY_M_S2 * TICK_S, -MAX_SPEED_M_S)
            bottom += speed * TICK_S
            w.supported[p] = 0
            w.velocity[p, 2] = speed
            if bottom <= floor:
                bottom = floor
                w.velocity[p, 2] = 0.0
                w.supported[p] = 1
            else:
                out_x, out_y = push_out(t, x, y, bottom, r, r, True)
                x += out_x
                y += out_y
        w.position[p, 0] = x
        w.position[p, 1] = y
        w.position[p, 2] = bottom + CENTRE_M
