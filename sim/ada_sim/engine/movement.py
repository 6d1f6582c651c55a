"""Players turn, look up and down, walk, and fall."""

import math

from numba import njit

from ada_sim.constants import (
    GRAVITY_M_S2,
    MAX_OBJECTS,
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
    TURN,
    TURN_PER_TICK,
    WALK_SPEED_M_S,
)
from ada_sim.engine.terrain import ground, move_x, move_y, push_out

STRIDE_M = WALK_SPEED_M_S * TICK_S
CENTRE_M = PLAYER_HEIGHT_M / 2


@njit(cache=True)
def move_players(worlds, tasks, actions, begin, end):  # type: ignore[no-untyped-def]
    """Carry out one tick of move, strafe, turn and pitch, with terrain in the way."""
    for b in range(begin, end):
        if not worlds.active[b]:
            continue
        for p in range(worlds.yaw.shape[1]):
            k = MAX_OBJECTS + p
            turn = actions[b, p, TURN] - 2
            yaw = worlds.yaw[b, p] + turn * abs(turn) * TURN_PER_TICK
            if yaw > math.pi:
                yaw -= 2 * math.pi
            elif yaw < -math.pi:
                yaw += 2 * math.pi
            worlds.yaw[b, p] = yaw
            pitch = worlds.pitch[b, p] + (actions[b, p, PITCH] - 1) * PITCH_PER_TICK
            worlds.pitch[b, p] = min(max(pitch, -MAX_PITCH), MAX_PITCH)

            forward = (actions[b, p, MOVE] - 1) * STRIDE_M
            left = (actions[b, p, STRAFE] - 1) * STRIDE_M
            if forward != 0 and left != 0:  # no faster on the diagonal
                forward *= math.sqrt(0.5)
                left *= math.sqrt(0.5)
            dx = 0.0
            dy = 0.0
            if forward != 0 or left != 0:
                cos = math.cos(yaw)
                sin = math.sin(yaw)
                dx = forward * cos - left * sin
                dy = forward * sin + left * cos
            old_x = worlds.position[b, k, 0]
            old_y = worlds.position[b, k, 1]
            bottom = worlds.position[b, k, 2] - CENTRE_M
            size = tasks.size[b]
            r = PLAYER_RADIUS_M
            x = old_x
            y = old_y
            if dx != 0:
                x = move_x(tasks.tile, tasks.top, size, b, x, y, bottom, dx, r, r, True)
            if dy != 0:
                y = move_y(tasks.tile, tasks.top, size, b, x, y, bottom, dy, r, r, True)
            worlds.velocity[b, k, 0] = (x - old_x) / TICK_S
            worlds.velocity[b, k, 1] = (y - old_y) / TICK_S

            floor = ground(tasks.tile, tasks.top, b, x, y)
            if worlds.supported[b, k] == 1 and floor > bottom - STEP_M:
                bottom = floor  # walks down ramps instead of leaping off
                worlds.velocity[b, k, 2] = 0.0
            else:
                speed = max(worlds.velocity[b, k, 2] - GRAVITY_M_S2 * TICK_S, -MAX_SPEED_M_S)
                bottom += speed * TICK_S
                worlds.supported[b, k] = 0
                worlds.velocity[b, k, 2] = speed
                if bottom <= floor:
                    bottom = floor
                    worlds.velocity[b, k, 2] = 0.0
                    worlds.supported[b, k] = 1
                else:
                    out_x, out_y = push_out(tasks.tile, tasks.top, b, x, y, bottom, r, r, True)
                    x += out_x
                    y += out_y
            worlds.position[b, k, 0] = x
            worlds.position[b, k, 1] = y
            worlds.position[b, k, 2] = bottom + CENTRE_M
