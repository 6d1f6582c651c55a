"""Bodies push one another apart: players push objects, objects push objects, what can't yield stops what pushes."""

import math

from numba import njit

from ada_sim.constants import (
    BOUNCE,
    FIRST_OBJECT,
    GRAVITY_M_S2,
    HALF,
    PLAYER_INVERSE_MASS,
    PLAYER_SHAPE,
    SLEEP_SPEED_M_S,
    SLIDE_FRICTION,
    TICK_S,
)
from ada_sim.engine.bits import lowest
from ada_sim.engine.bodies import OBJECTS, ON_MOVING, ON_STILL, wake
from ada_sim.engine.charts import stray, touchable
from ada_sim.engine.geometry import contact
from ada_sim.engine.sliding import move_over

ROUNDS = 6
CLOSE_ENOUGH_M = 1e-3  # overlaps up to this don't ask for another round
REST_GAP_M = 0.002  # surfaces this close rest on one another
SPHERE = 2
LONGEST_PUSH_M = 0.4


@njit(error_model="numpy")
def separate_bodies(w, t):  # type: ignore[no-untyped-def]
    """Resolve every contact in which at least one body is awake."""
    for _ in range(ROUNDS):
        touched = False
        todo = w.waking & w.bodies
        while todo:
            i = lowest(todo)
            later = -2 << i
            # A pair is looked at once: from its first body that is awake.
            others = touchable(w, i) & (later | ~w.waking) & ~(1 << i)
            while others:
                j = lowest(others)
                others &= others - 1
                if boxes_meet(w, i, j):
                    touched |= separate(w, t, i, j)
            todo = w.waking & w.bodies & later  # read anew: a push wakes
        if not touched:
            return
    for p in range(t.players):
        yield_to_objects(w, t, p)


@njit(error_model="numpy")
def boxes_meet(w, i, j):  # type: ignore[no-untyped-def]
    """Say whether the boxes around bodies i and j overlap or rest on one another; if not, there is no contact."""
    half_i = HALF[w.shape[i]]
    half_j = HALF[w.shape[j]]
    meet_x = abs(w.position[j, 0] - w.position[i, 0]) <= half_i[0] + half_j[0] + REST_GAP_M
    meet_y = abs(w.position[j, 1] - w.position[i, 1]) <= half_i[1] + half_j[1] + REST_GAP_M
    meet_z = abs(w.position[j, 2] - w.position[i, 2]) <= half_i[2] + half_j[2] + REST_GAP_M
    return meet_x & meet_y & meet_z  # one jump: which axis tells can't be foreseen


@njit(error_model="numpy")
def yield_to_objects(w, t, p):  # type: ignore[no-untyped-def]
    """Move player p out of what still overlaps with it: those objects have nowhere to go, so they stop the player."""
    objects = touchable(w, p) & OBJECTS
    while objects:
        k = lowest(objects)
        objects &= objects - 1
        if w.held[p] == k:
            continue
        gap, nx, ny, nz = contact(w, p, k)
        if gap < -CLOSE_ENOUGH_M and abs(nz) <= 0.7:
            depth = min(-gap, LONGEST_PUSH_M)
            shift(w, t, p, -nx * depth, -ny * depth)


@njit(error_model="numpy")
def separate(w, t, i, j):  # type: ignore[no-untyped-def]
    """Push bodies i and j apart if they overlap, and make their velocities agree. Returns whether it was much."""
    if (i < FIRST_OBJECT and w.held[i] == j) or (j < FIRST_OBJECT and w.held[j] == i):
        return False
    gap, nx, ny, nz = contact(w, i, j)
    if gap > REST_GAP_M:
        return False
    moves_i = inverse_mass(w, i)
    moves_j = inverse_mass(w, j)
    if moves_i + moves_j == 0:
        return False
    meet(w, i, j, nx, ny, nz, moves_i, moves_j)
    if gap >= 0:
        return False
    depth = min(-gap, LONGEST_PUSH_M)
    if abs(nz) > 0.7:  # the upper one yields: the lower one stands on something
        upper = j if nz > 0 else i
        if inverse_mass(w, upper) > 0:
            w.position[upper, 2] += depth
            w.moved |= 1 << upper
            if depth > CLOSE_ENOUGH_M and not w.waking >> upper & 1:
                wake(w, upper)
        else:
            shift(w, t, i if nz > 0 else j, nx * depth, ny * depth)
        return depth > CLOSE_ENOUGH_M
    flat = math.sqrt(nx * nx + ny * ny)
    depth = min(depth / flat, LONGEST_PUSH_M)
    nx /= flat
    ny /= flat
    share = depth * moves_j / (moves_i + moves_j)
    moved = shift(w, t, j, nx * share, ny * share)
    shift(w, t, i, -nx * (depth - moved), -ny * (depth - moved))
    return depth > CLOSE_ENOUGH_M


@njit(error_model="numpy")
def inverse_mass(w, k):  # type: ignore[no-untyped-def]
    """Return how readily body k yields."""
    if k < FIRST_OBJECT:
        return PLAYER_INVERSE_MASS
    return 0.0 if w.frozen[k] else 1.0


@njit(error_model="numpy")
def shift(w, t, k, dx, dy):  # type: ignore[no-untyped-def]
    """Move body k as far as terrain lets it, and return how far that was in the wanted direction."""
    wanted = math.sqrt(dx * dx + dy * dy)
    if wanted < 1e-9 or inverse_mass(w, k) == 0:
        return 0.0
    shape = w.shape[k]
    x = w.position[k, 0]
    y = w.position[k, 1]
    bottom = w.position[k, 2] - HALF[shape, 2]
    half_x = HALF[shape, 0]
    half_y = HALF[shape, 1]
    walks = shape == PLAYER_SHAPE
    to_x, to_y, floor = move_over(t, x, y, bottom, dx, dy, half_x, half_y, walks)
    w.position[k, 0] = to_x
    w.position[k, 1] = to_y
    if floor > bottom:
        w.position[k, 2] = floor + HALF[shape, 2]
    stray(w, k)
    w.moved |= 1 << k
    w.jumped |= 1 << k
    if k >= FIRST_OBJECT:
        wake(w, k)
    return ((to_x - x) * dx + (to_y - y) * dy) / wanted


@njit(error_model="numpy")
def meet(w, i, j, nx, ny, nz, moves_i, moves_j):  # type: ignore[no-untyped-def]
    """Stop two touching bodies from moving into one another; rub them when one stands on the other."""
    v = w.velocity
    if i < FIRST_OBJECT:
        moves_i = 0.0
    if j < FIRST_OBJECT:
        moves_j = 0.0
    closing = (v[j, 0] - v[i, 0]) * nx + (v[j, 1] - v[i, 1]) * ny + (v[j, 2] - v[i, 2]) * nz
    if moves_i + moves_j > 0 and closing < 0:
        round_ = w.shape[i] == SPHERE or w.shape[j] == SPHERE
        bounce = BOUNCE if round_ and closing < -1.0 and moves_i > 0 and moves_j > 0 else 0.0
        if nz > 0.7 and moves_j > 0 and w.supported[i] != 0:
            moves_i = 0.0  # it stands: what lands on it doesn't drive it into the ground
        elif nz < -0.7 and moves_i > 0 and w.supported[j] != 0:
            moves_j = 0.0
        impulse = -(1.0 + bounce) * closing / (moves_i + moves_j)
        add_velocity(w, i, -nx * impulse * moves_i, -ny * impulse * moves_i, -nz * impulse * moves_i)
        add_velocity(w, j, nx * impulse * moves_j, ny * impulse * moves_j, nz * impulse * moves_j)
    if abs(nz) > 0.7:
        upper = j if nz > 0 else i
        lower = i if nz > 0 else j
        v[upper, 2] = max(v[upper, 2], min(v[lower, 2], 0.0))
        still = lower >= FIRST_OBJECT and not w.waking >> lower & 1
        w.supported[upper] = max(w.supported[upper], ON_STILL if still else ON_MOVING)
        rub_on(w, upper, lower)


@njit(error_model="numpy")
def add_velocity(w, k, dx, dy, dz):  # type: ignore[no-untyped-def]
    """Change the velocity of body k; what sleeps wakes if that is worth it, and else takes no notice."""
    if dx * dx + dy * dy + dz * dz == 0:
        return
    if dx * dx + dy * dy > SLEEP_SPEED_M_S**2:
        wake(w, k)
    elif not w.waking >> k & 1:
        return
    w.velocity[k, 0] += dx
    w.velocity[k, 1] += dy
    w.velocity[k, 2] += dz


@njit(error_model="numpy")
def rub_on(w, upper, lower):  # type: ignore[no-untyped-def]
    """Let the lower body drag the upper one along."""
    if upper < FIRST_OBJECT or w.shape[upper] == SPHERE:
        return
    dx = w.velocity[lower, 0] - w.velocity[upper, 0]
    dy = w.velocity[lower, 1] - w.velocity[upper, 1]
    speed = math.sqrt(dx * dx + dy * dy)
    if speed < SLEEP_SPEED_M_S:
        return
    share = min(1.0, SLIDE_FRICTION * GRAVITY_M_S2 * TICK_S / speed)
    w.velocity[upper, 0] += dx * share
    w.velocity[upper, 1] += dy * share
    wake(w, upper)
