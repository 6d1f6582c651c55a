"""Pictures beside something slow and obvious: a ray marched in small steps through the same world."""

import math

import numpy as np
import pytest

from ada_api.environment import Environment
from ada_sim import constants as c
from ada_sim.batch import BatchSim
from ada_sim.engine.terrain import ground, line_is_clear
from ada_sim.render.first_person import draw_worlds

WILD = """
############
#1111..CS..#
#1@C1<.....#
#11>2.~~.P.#
#.^.22S~W..#
#..#.###...#
#.C#S#.#.c.#
#..#.#.#...#
#W.....<1..#
#...s.2111P#
#...p.....&#
############
"""
STEP_M = 0.004
FOCAL_PX = c.IMAGE_WIDTH_PX / (2 * math.tan(c.VIEW_ANGLE / 2))


@pytest.fixture
def wild(draw, source_of):
    task = draw(WILD)
    sim = BatchSim(1, Environment(observation="pixels", players=2), source_of(task))
    zero = np.zeros(1, np.int64)
    sim.assign(zero, zero.astype(np.uint64), np.ones(1, int), np.array([3], np.uint64))
    sim.reset(zero)
    return sim


def look(sim, yaw, pitch):
    state = sim.state()
    state["world.yaw"][:], state["world.pitch"][:] = yaw, pitch
    state["world.cos_yaw"][:], state["world.sin_yaw"][:] = math.cos(yaw), math.sin(yaw)
    state["world.tan_pitch"][:] = math.tan(pitch)
    sim.load(state)


def inside(shape, offset):
    """Say which points, [N, 3] from the centre, are inside the shape."""
    x, y, z = np.abs(offset[:, 0]), np.abs(offset[:, 1]), offset[:, 2]
    half = c.HALF[shape]
    if shape == 2:
        return np.hypot(np.hypot(x, y), z) <= half[2]
    if shape == 3:
        share = (half[2] - z) / (2 * half[2])
        return (np.abs(z) <= half[2]) & (np.maximum(x, y) <= half[0] * share)
    if shape == c.PLAYER_SHAPE:
        return (np.abs(z) <= half[2]) & (np.hypot(x, y) <= half[0])
    return (x <= half[0]) & (y <= half[1]) & (np.abs(z) <= half[2])


def marched_depth(world, task, player, u, v):
    """Return how far along the view pixel (u, v) first meets something, in steps of 4 mm."""
    a = (c.IMAGE_WIDTH_PX / 2 - u - 0.5) / FOCAL_PX
    s = (c.IMAGE_HEIGHT_PX / 2 - v - 0.5) / FOCAL_PX + world["tan_pitch"][player]
    cos, sin = world["cos_yaw"][player], world["sin_yaw"][player]
    direction = np.array([cos - a * sin, sin + a * cos, s])
    eye = world["position"][player] + (0, 0, c.EYE_ABOVE_CENTRE_M)
    depths = np.arange(STEP_M, 30, STEP_M)
    points = eye + depths[:, None] * direction
    within = ((points[:, :2] >= 0) & (points[:, :2] < task["size"])).all(axis=1)
    met = np.zeros(len(depths), bool)
    met[within] = [z < ground(task, x, y) for x, y, z in points[within]]
    for k in np.flatnonzero(world["kind"] >= 0):
        if k != player:
            met |= inside(world["kind"][k] // 3, points - world["position"][k]) & (depths > 0.05)
    return depths[met.argmax()] if met.any() else np.inf


@pytest.mark.parametrize(("yaw", "pitch", "player"), [(-0.3, 0.0, 0), (2.2, -0.5, 1), (0.9, 0.6, 0), (2.6, 0.1, 1)])
def test_each_pixel_shows_what_its_ray_meets_first(wild, yaw, pitch, player):
    look(wild, yaw, pitch)
    depth = np.empty((c.IMAGE_WIDTH_PX, c.IMAGE_HEIGHT_PX))
    colour = np.empty((c.IMAGE_WIDTH_PX, c.IMAGE_HEIGHT_PX, 3), np.uint8)
    frames = np.empty((1, player + 1, c.IMAGE_HEIGHT_PX, c.IMAGE_WIDTH_PX, 3), np.uint8)
    draw_worlds(
        wild._worlds, wild._tasks, np.zeros(1, np.int64), depth, colour, frames
    )  # leaves the last player's depth
    rng = np.random.default_rng(0)
    pixels = np.stack([rng.integers(0, c.IMAGE_WIDTH_PX, 60), rng.integers(0, c.IMAGE_HEIGHT_PX, 60)], axis=1)
    world, task = wild._worlds[0], wild._tasks[0]
    wrong = []
    for u, v in pixels:
        expected = marched_depth(world, task, player, u, v)
        drawn = depth[u, v] if depth[u, v] < 30 else np.inf
        if not (drawn == expected or abs(drawn - expected) < 0.05):
            wrong.append((u, v, drawn, expected))
    assert len(wrong) <= 1, wrong  # a ray may graze an edge


def test_line_of_sight_agrees_with_points_along_the_line(wild):
    task = wild._tasks[0]
    rng = np.random.default_rng(1)
    differing = clear = 0
    for _ in range(300):
        a, b = np.append(rng.uniform(1, 11, 2), 0), np.append(rng.uniform(1, 11, 2), 0)
        a[2] = ground(task, a[0], a[1]) + rng.uniform(0.1, 0.8)
        b[2] = ground(task, b[0], b[1]) + rng.uniform(0.1, 0.8)
        points = a + np.linspace(0, 1, 2000)[:, None] * (b - a)
        expected = all(z >= ground(task, x, y) for x, y, z in points)
        clear += expected
        differing += expected != line_is_clear(task, *a, *b)
    assert 30 < clear < 270
    assert differing <= 2  # a line may graze an edge between two points


def test_pixels_of_an_object_have_its_colour(draw, source_of):
    for mark, yellow in (("c", True), ("C", False)):
        task = draw(f"########\n#......#\n#......#\n#@.{mark}...#\n#......#\n#......#\n#......#\n########")
        sim = BatchSim(1, Environment(observation="pixels"), source_of(task))
        zero = np.zeros(1, np.int64)
        sim.assign(zero, zero.astype(np.uint64), np.ones(1, int), np.array([3], np.uint64))
        sim.reset(zero)
        look(sim, 0.0, 0.0)
        red, _, blue = sim.render(zero)[0, 0, 42, 48].astype(int)
        assert (red > 2 * blue) == yellow


def test_pixel_observations_are_what_render_returns(wild):
    frames = wild.step(np.array([[[2, 1, 2, 1, 0, 1], [1, 1, 4, 1, 0, 1]]], np.int8)).observation["pixels"]
    assert frames.shape == (1, 2, 72, 96, 3)
    assert np.array_equal(frames, wild.render(np.zeros(1, np.int64)))
    assert frames.std() > 10


def test_frames_of_a_batch_equal_those_of_singles(draw, source_of):
    task = draw(WILD)
    environment = Environment(observation="pixels", players=2)
    many = BatchSim(3, environment, source_of(task))
    worlds = np.arange(3)
    many.assign(worlds, np.zeros(3, np.uint64), np.ones(3, int), worlds.astype(np.uint64))
    many.reset(worlds)
    one = BatchSim(1, environment, source_of(task))
    one.assign(worlds[:1], np.zeros(1, np.uint64), np.ones(1, int), np.array([2], np.uint64))
    one.reset(worlds[:1])
    assert np.array_equal(many.timestep().observation["pixels"][2], one.timestep().observation["pixels"][0])


def test_the_top_view_shows_walls_objects_and_players_where_they_are(wild):
    picture = wild.top_view(0, 10).astype(int)
    assert picture.shape == (120, 120, 3)
    assert picture[5, 5, 0] > picture[5, 5, 2], "a corner of brick"
    red, green, blue = picture[65, 95]
    assert red > 200
    assert green > 150
    assert blue < 100, "the yellow cube at column 9 of row 6 from the top"


def test_idle_worlds_are_black(draw, source_of):
    sim = BatchSim(1, Environment(observation="pixels"), source_of(draw(WILD)))
    assert not sim.render(np.zeros(1, np.int64)).any()
    assert not sim.top_view(0).any()
