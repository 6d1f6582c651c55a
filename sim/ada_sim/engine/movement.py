"""Players turn, look up and down, walk, and fall."""

import math

import numpy as np
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
from ada_sim.engine.charts import stray
from ada_sim.engine.sliding import move_over, push_out

STRIDE_M = WALK_SPEED_M_S * TICK_S
CENTRE_M = PLAYER_HEIGHT_M / 2
_TURNS = TURN_PER_TICK * np.array([-4.0, -1.0, 0.0, 1.0, 4.0])  # by choice
COS_TURN, SIN_TURN = np.cos(_TURNS), np.sin(_TURNS)
TAN_NOD, TAN_MAX_PITCH = math.tan(PITCH_PER_TICK), math.tan(MAX_PITCH)


@njit(error_model="numpy")
def look(w, p, yaw, pitch):  # type: ignore[no-untyped-def]
    """Turn the eye of player p to this yaw and pitch."""
    w.yaw[p] = yaw
    w.pitch[p] = pitch
    settle_look(w, p)


@njit(error_model="numpy")
def settle_look(w, p):  # type: ignore[no-untyped-def]
    """Work out afresh what is kept beside yaw and pitch."""
    w.cos_yaw[p] = math.cos(w.yaw[p])
    w.sin_yaw[p] = math.sin(w.yaw[p])
    w.tan_pitch[p] = math.tan(w.pitch[p])


@njit(error_model="numpy")
def settle_players(w, t):  # type: ignore[no-untyped-def]
    """Work out afresh, at the end of a timestep, what is kept beside the yaws and pitches that changed in it."""
    for p in range(t.players):
        if w.action[p, TURN] != 2:
            w.cos_yaw[p] = math.cos(w.yaw[p])
            w.sin_yaw[p] = math.sin(w.yaw[p])
        if w.action[p, PITCH] != 1:
            w.tan_pitch[p] = math.tan(w.pitch[p])


@njit(error_model="numpy")
def turn_eye(w, p, turn, nod):  # type: ignore[no-untyped-def]
    """Turn by one tick of these choices (-2 to 2, -1 to 1), within the limits of pitch.

    Sines and tangents follow by addition theorems; `settle_players` at the end of a timestep keeps them exact.
    """
    if turn != 0:
        yaw = w.yaw[p] + turn * abs(turn) * TURN_PER_TICK
        if yaw > math.pi:
            yaw -= 2 * math.pi
        elif yaw < -math.pi:
            yaw += 2 * math.pi
        w.yaw[p] = yaw
        c = COS_TURN[turn + 2]
        s = SIN_TURN[turn + 2]
        cos = w.cos_yaw[p]
        sin = w.sin_yaw[p]
        w.cos_yaw[p] = cos * c - sin * s
        w.sin_yaw[p] = sin * c + cos * s
    if nod != 0:
        pitch = w.pitch[p] + nod * PITCH_PER_TICK
        tan = w.tan_pitch[p]
        tan = (tan + nod * TAN_NOD) / (1.0 - tan * (nod * TAN_NOD))
        if abs(pitch) > MAX_PITCH:
            pitch = math.copysign(MAX_PITCH, pitch)
            tan = math.copysign(TAN_MAX_PITCH, pitch)
        w.pitch[p] = pitch
        w.tan_pitch[p] = tan


@njit(error_model="numpy")
def move_players(w, t):  # type: ignore[no-untyped-def]
    """Carry out one tick of move, strafe, turn and pitch, with terrain in the way."""
    for p in range(t.players):
        turn = w.action[p, TURN] - 2
        nod = w.action[p, PITCH] - 1
        turn_eye(w, p, turn, nod)

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
        old_z = w.position[p, 2]
        bottom = old_z - CENTRE_M
        r = PLAYER_RADIUS_M
        x, y, floor = move_over(t, old_x, old_y, bottom, dx, dy, r, r, True)
        w.velocity[p, 0] = (x - old_x) * TICKS_PER_SECOND
        w.velocity[p, 1] = (y - old_y) * TICKS_PER_SECOND

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
                if out_x != 0 or out_y != 0:
                    stray(w, p)
                    w.jumped |= 1 << p
        z = bottom + CENTRE_M
        if turn != 0 or nod != 0 or x != old_x or y != old_y or z != old_z:
            w.moved |= 1 << p
        w.position[p, 0] = x
        w.position[p, 1] = y
        w.position[p, 2] = z
