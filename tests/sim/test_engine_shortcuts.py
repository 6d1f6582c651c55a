"""What is kept beside the state, or packed from terrain, tells the same as a slow look at everything."""

from itertools import pairwise

import numpy as np
import pytest

from ada_api.environment import Environment, IntRange, WorldRanges
from ada_sim import constants as c
from ada_sim.batch import BatchSim
from ada_sim.engine.contacts import REST_GAP_M
from ada_sim.engine.geometry import contact
from ada_sim.engine.sliding import move_over, move_x, move_y, nothing_hangs, push_out
from ada_sim.engine.terrain import ground, height_on, is_blocked, line_is_clear, walkable_distance
from ada_sim.engine.view import FAN
from ada_sim.tasks.source import TaskSource

WORLDS = 48


@pytest.fixture(scope="module", params=[1, 2])
def played(request):
    """Return a batch of generated worlds of all sizes, and actions for them."""
    ranges = WorldRanges(size=IntRange(min=8, max=24))
    environment = Environment(observation="symbolic", players=request.param, world=ranges)
    source, rng, everyone = TaskSource(environment), np.random.default_rng(request.param), np.arange(WORLDS)
    sim = BatchSim(WORLDS, environment, source)
    tasks = np.array([source.draw(rng, held_out=False) for _ in everyone], np.uint64)
    sim.assign(everyone, tasks, np.full(WORLDS, 9), everyone.astype(np.uint64))
    sim.reset(everyone)
    shape = (60, WORLDS, request.param)
    return sim, np.stack([rng.integers(0, size, shape) for size in c.ACTION_SIZES], axis=-1).astype(np.int8)


def crossings(x0, y0, x1, y1):
    """Return the shares of the way at which a line changes tiles, 0 and 1 included, in order."""
    ways = [0.0, 1.0]
    for low, high in ((x0, x1), (y0, y1)):
        lines = np.arange(int(min(low, high)) + 1, int(max(low, high)) + 1)
        ways += list((lines - low) / (high - low)) if high != low else []
    return sorted(ways)


def slow_line_is_clear(t, a, b):
    """Ask each tile on the line, where the line enters and leaves it."""
    ways = crossings(a[0], a[1], b[0], b[1])
    for enter, leave in pairwise(ways):
        x, y, _ = a + (enter + leave) / 2 * (b - a)
        for way in (enter, leave):
            at = a + way * (b - a)
            if at[2] < height_on(t, int(x), int(y), at[0], at[1]):
                return False
    return True


def slow_walkable_distance(t, x, y, cos, sin, limit):
    """Go from tile to tile and ask at each side whether it is too high."""
    ways = [way * limit for way in crossings(x, y, x + limit * cos, y + limit * sin)]
    for before, at, after in zip(ways, ways[1:], ways[2:], strict=False):
        i, j = int(x + (before + at) / 2 * cos), int(y + (before + at) / 2 * sin)
        to_i, to_j = int(x + (at + after) / 2 * cos), int(y + (at + after) / 2 * sin)
        to_x, to_y = x + at * cos, y + at * sin
        if is_blocked(t, to_i, to_j, to_x, to_y, height_on(t, i, j, to_x, to_y), True):
            return at
    return limit


def test_lines_of_sight_and_of_walking_agree_with_a_walk_over_tiles(played):
    sim, _ = played
    rng = np.random.default_rng(0)
    differing, clear, walked = 0, 0, []
    for t in sim._tasks:
        size = int(t["size"])
        for _ in range(40):
            a, b = (np.append(rng.uniform(1, size - 1, 2), 0) for _ in range(2))
            for end in (a, b):
                end[2] = ground(t, end[0], end[1]) + rng.uniform(0.0, 1.0)
            expected = slow_line_is_clear(t, a, b)
            clear += expected
            differing += line_is_clear(t, *a, *b) != expected
            x, y, angle = *a[:2], rng.uniform(-np.pi, np.pi)
            if t["tile"][int(x), int(y)] == 1:
                continue
            expected = slow_walkable_distance(t, x, y, np.cos(angle), np.sin(angle), c.RANGE_LIMIT_M)
            found = walkable_distance(t, x, y, np.cos(angle), np.sin(angle), c.RANGE_LIMIT_M)
            differing += abs(found - expected) > 1e-5
            walked.append(expected)
    assert 0.1 < clear / (40 * WORLDS) < 0.9
    assert np.std(walked) > 0.5
    assert differing == 0


def test_lines_along_the_axes_are_like_others(played):
    t = played[0]._tasks[0]
    size = int(t["size"])
    for x in np.arange(1.25, size - 1, 0.5):
        for cos, sin in ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)):
            y = size / 2 + 0.25
            if t["tile"][int(x), int(y)] == 1:
                continue
            expected = slow_walkable_distance(t, x, y, cos, sin, c.RANGE_LIMIT_M)
            assert walkable_distance(t, x, y, cos, sin, c.RANGE_LIMIT_M) == pytest.approx(expected, abs=1e-5)


def test_ranges_told_at_once_are_those_of_each_direction_alone(played):
    sim, actions = played
    worlds, tasks = sim._worlds, sim._tasks
    for action in actions[:20]:
        told = sim.step(action).observation["ranges"]
        for b, p in np.ndindex(told.shape[:2]):
            w, t = worlds[b], tasks[b]
            x, y = w["position"][p, :2]
            cos, sin = (w[name][p] * FAN[:, 0] for name in ("cos_yaw", "sin_yaw"))
            cos, sin = cos - w["sin_yaw"][p] * FAN[:, 1], sin + w["cos_yaw"][p] * FAN[:, 1]
            alone = [walkable_distance(t, x, y, *way, c.RANGE_LIMIT_M) for way in zip(cos, sin, strict=True)]
            assert np.array_equal(told[b, p], np.array(alone, np.float32) * np.float32(1 / c.DISTANCE_UNIT_M))
    assert (tasks["ramps"] > 0).mean() > 0.5


def test_moving_by_what_is_around_is_moving_tile_by_tile(played):
    sim, _ = played
    rng = np.random.default_rng(1)
    stopped = 0
    for t in sim._tasks:
        size = int(t["size"])
        for _ in range(60):
            walks = bool(rng.random() < 0.5)
            half_x, half_y = c.HALF[c.PLAYER_SHAPE if walks else rng.integers(4), :2]
            x, y = rng.uniform(1.01 + half_x, size - 1.01 - half_x), rng.uniform(1.01 + half_y, size - 1.01 - half_y)
            bottom = ground(t, x, y) + (0.0 if rng.random() < 0.8 else rng.uniform(0, 1))
            dx, dy = rng.uniform(-0.4, 0.4, 2) * (rng.random(2) < 0.8)
            expected_x = move_x(t, x, y, bottom, dx, half_x, half_y, walks) if dx else x
            expected_y = move_y(t, expected_x, y, bottom, dy, half_x, half_y, walks) if dy else y
            found = move_over(t, x, y, bottom, dx, dy, half_x, half_y, walks)
            assert found == pytest.approx((expected_x, expected_y, ground(t, expected_x, expected_y)), abs=1e-12)
            stopped += expected_x != x + dx or expected_y != y + dy
            if nothing_hangs(t, x, y, bottom, half_x, half_y):
                slow = [
                    is_blocked(t, i, j, x, y, bottom, walks)
                    for i in range(int(x - half_x), int(x + half_x) + 1)
                    for j in range(int(y - half_y), int(y + half_y) + 1)
                ]
                assert not any(slow)
                assert push_out(t, x, y, bottom, half_x, half_y, walks) == (0.0, 0.0)
    assert stopped > 100


def test_charts_hold_all_that_touch_and_slots_not_told_are_empty(played):
    sim, actions = played
    worlds, out = sim._worlds, sim._out
    touching = 0
    for action in actions:
        sim.step(action)
        told = worlds["told"][:, : sim.players, None]
        shown = out.objects[..., 0] > 0
        assert np.array_equal(shown, np.arange(c.OBJECT_SLOTS) < told)
        assert not out.objects[~shown].any()
        for w in worlds:
            bodies = [k for k in range(int(w["used"])) if int(w["bodies"]) >> k & 1]
            for k in bodies:
                if not int(w["charted"]) >> k & 1:
                    continue
                known = int(w["beside"][k]) | int(w["strays"])
                for other in bodies:
                    apart = np.abs(w["position"][k] - w["position"][other]) - (
                        c.HALF[w["shape"][k]] + c.HALF[w["shape"][other]]
                    )
                    if other != k and (apart < REST_GAP_M).all() and contact(w, k, other)[0] <= REST_GAP_M:
                        touching += 1
                        assert known >> other & 1
    assert touching > 100
