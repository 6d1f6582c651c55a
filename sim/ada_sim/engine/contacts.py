"""Bodies push one another apart: players push objects, objects push objects, what can't yield stops what pushes."""

from numba import njit

from ada_sim.constants import (
    BOUNCE,
    GRAVITY_M_S2,
    HALF,
    MAX_OBJECTS,
    PLAYER_INVERSE_MASS,
    PLAYER_SHAPE,
    SLEEP_SPEED_M_S,
    SLEEP_TICKS,
    SLIDE_FRICTION,
    TICK_S,
)
from ada_sim.engine.geometry import contact
from ada_sim.engine.terrain import ground, move_x, move_y

ROUNDS = 2
REST_GAP_M = 0.002  # surfaces this close rest on one another
SPHERE = 2
LONGEST_PUSH_M = 0.4


@njit(cache=True)
def separate_bodies(worlds, tasks, begin, end):  # type: ignore[no-untyped-def]
    """Resolve every contact in which at least one body is awake."""
    players = worlds.yaw.shape[1]
    for b in range(begin, end):
        if not worlds.active[b]:
            continue
        used = worlds.used[b]
        for _ in range(ROUNDS):
            touched = False
            for i in range(MAX_OBJECTS + players - 1, -1, -1):
                if i < MAX_OBJECTS and (i >= used or worlds.awake[b, i] == 0 or worlds.kind[b, i] < 0):
                    continue
                for j in range(min(i, used) if i >= MAX_OBJECTS else used):
                    if worlds.kind[b, j] < 0 or j == i or (i < MAX_OBJECTS and worlds.awake[b, j] and j > i):
                        continue
                    dx = worlds.position[b, j, 0] - worlds.position[b, i, 0]
                    dy = worlds.position[b, j, 1] - worlds.position[b, i, 1]
                    if abs(dx) < 0.81 and abs(dy) < 0.81:
                        touched |= separate(worlds, tasks, b, i, j)
            if players == 2:
                touched |= separate(worlds, tasks, b, MAX_OBJECTS + 1, MAX_OBJECTS)
            if not touched:
                break


@njit(cache=True)
def separate(worlds, tasks, b, i, j):  # type: ignore[no-untyped-def]
    """Push bodies i and j apart if they overlap, and make their velocities agree. Returns whether they overlapped."""
    if i >= MAX_OBJECTS and worlds.held[b, i - MAX_OBJECTS] == j:
        return False
    position = worlds.position
    gap, nx, ny, nz = contact(position, worlds.kind, b, i, j)
    if gap > REST_GAP_M:
        return False
    moves_i = inverse_mass(worlds, b, i)
    moves_j = inverse_mass(worlds, b, j)
    if moves_i + moves_j == 0:
        return False
    meet(worlds, b, i, j, nx, ny, nz, moves_i, moves_j)
    if gap >= 0:
        return False
    depth = min(-gap, LONGEST_PUSH_M)
    if abs(nz) > 0.7:  # the upper one yields: the lower one stands on something
        upper = j if nz > 0 else i
        if inverse_mass(worlds, b, upper) > 0:
            position[b, upper, 2] += depth
        else:
            shift(worlds, tasks, b, i if nz > 0 else j, nx * depth, ny * depth)
        return True
    flat = (nx * nx + ny * ny) ** 0.5
    depth = min(depth / flat, LONGEST_PUSH_M)
    nx /= flat
    ny /= flat
    share = depth * moves_j / (moves_i + moves_j)
    moved = shift(worlds, tasks, b, j, nx * share, ny * share)
    shift(worlds, tasks, b, i, -nx * (depth - moved), -ny * (depth - moved))
    return True


@njit(cache=True)
def inverse_mass(worlds, b, k):  # type: ignore[no-untyped-def]
    """Return how readily body k yields."""
    if k >= MAX_OBJECTS:
        return PLAYER_INVERSE_MASS
    return 0.0 if worlds.frozen[b, k] else 1.0


@njit(cache=True)
def shift(worlds, tasks, b, k, dx, dy):  # type: ignore[no-untyped-def]
    """Move body k as far as terrain lets it, and return how far that was in the wanted direction."""
    wanted = (dx * dx + dy * dy) ** 0.5
    if wanted < 1e-9 or inverse_mass(worlds, b, k) == 0:
        return 0.0
    shape = worlds.kind[b, k] // 3
    x = worlds.position[b, k, 0]
    y = worlds.position[b, k, 1]
    bottom = worlds.position[b, k, 2] - HALF[shape, 2]
    half_x = HALF[shape, 0]
    half_y = HALF[shape, 1]
    walks = shape == PLAYER_SHAPE
    to_x = move_x(tasks.tile, tasks.top, tasks.size[b], b, x, y, bottom, dx, half_x, half_y, walks)
    to_y = move_y(tasks.tile, tasks.top, tasks.size[b], b, to_x, y, bottom, dy, half_x, half_y, walks)
    worlds.position[b, k, 0] = to_x
    worlds.position[b, k, 1] = to_y
    floor = ground(tasks.tile, tasks.top, b, to_x, to_y)
    if floor > bottom:
        worlds.position[b, k, 2] = floor + HALF[shape, 2]
    if k < MAX_OBJECTS:
        worlds.awake[b, k] = SLEEP_TICKS
    return ((to_x - x) * dx + (to_y - y) * dy) / wanted


@njit(cache=True)
def meet(worlds, b, i, j, nx, ny, nz, moves_i, moves_j):  # type: ignore[no-untyped-def]
    """Stop two touching bodies from moving into one another; rub them when one stands on the other."""
    v = worlds.velocity
    if i >= MAX_OBJECTS:
        moves_i = 0.0
    if j >= MAX_OBJECTS:
        moves_j = 0.0
    closing = (
        (v[b, j, 0] - v[b, i, 0]) * nx + (v[b, j, 1] - v[b, i, 1]) * ny + (v[b, j, 2] - v[b, i, 2]) * nz
    )
    if moves_i + moves_j > 0 and closing < 0:
        round_ = worlds.kind[b, i] // 3 == SPHERE or worlds.kind[b, j] // 3 == SPHERE
        bounce = BOUNCE if round_ and closing < -1.0 and moves_i > 0 and moves_j > 0 else 0.0
        impulse = -(1.0 + bounce) * closing / (moves_i + moves_j)
        add_velocity(worlds, b, i, -nx * impulse * moves_i, -ny * impulse * moves_i, -nz * impulse * moves_i)
        add_velocity(worlds, b, j, nx * impulse * moves_j, ny * impulse * moves_j, nz * impulse * moves_j)
    if abs(nz) > 0.7:
        upper = j if nz > 0 else i
        lower = i if nz > 0 else j
        v[b, upper, 2] = max(v[b, upper, 2], min(v[b, lower, 2], 0.0))
        worlds.supported[b, upper] = max(worlds.supported[b, upper], 2)
        rub_on(worlds, b, upper, lower)


@njit(cache=True)
def add_velocity(worlds, b, k, dx, dy, dz):  # type: ignore[no-untyped-def]
    """Change the velocity of body k, and wake it if that is worth it."""
    if dx * dx + dy * dy + dz * dz == 0:
        return
    worlds.velocity[b, k, 0] += dx
    worlds.velocity[b, k, 1] += dy
    worlds.velocity[b, k, 2] += dz
    if dx * dx + dy * dy > SLEEP_SPEED_M_S**2:
        worlds.awake[b, k] = SLEEP_TICKS


@njit(cache=True)
def rub_on(worlds, b, upper, lower):  # type: ignore[no-untyped-def]
    """Let the lower body drag the upper one along."""
    if upper >= MAX_OBJECTS or worlds.kind[b, upper] // 3 == SPHERE:
        return
    dx = worlds.velocity[b, lower, 0] - worlds.velocity[b, upper, 0]
    dy = worlds.velocity[b, lower, 1] - worlds.velocity[b, upper, 1]
    speed = (dx * dx + dy * dy) ** 0.5
    if speed < SLEEP_SPEED_M_S:
        return
    share = min(1.0, SLIDE_FRICTION * GRAVITY_M_S2 * TICK_S / speed)
    worlds.velocity[b, upper, 0] += dx * share
    worlds.velocity[b, upper, 1] += dy * share
    worlds.awake[b, upper] = SLEEP_TICKS
