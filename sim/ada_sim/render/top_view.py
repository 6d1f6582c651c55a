"""A world from above, north up, for people: terrain by height, objects by shape and colour, players with their gaze."""

import math

import numpy as np

from ada_sim.constants import FIRST_OBJECT, HALF, LEVEL_HEIGHT_M, PLAYER_RADIUS_M, VIEW_ANGLE
from ada_sim.render.palette import (
    FLOOR_RGB,
    LEVEL_BRIGHTER,
    OBJECT_RGB,
    PIT_RGB,
    PLAYER_RGB,
    RAMP_RGB,
    VISOR_RGB,
    WALL_RGB,
)
from ada_sim.tasks.task import Tile

RISES_TOWARDS = {Tile.RAMP_NORTH: (0, 1), Tile.RAMP_EAST: (1, 0), Tile.RAMP_SOUTH: (0, -1), Tile.RAMP_WEST: (-1, 0)}
SPHERE, PYRAMID = 2, 3
HELD_RGB = np.array([255, 255, 255], np.float64)
FROZEN_RGB = np.array([90, 220, 240], np.float64)


def top_view(world: np.void, task: np.void, pixels_per_tile: int = 24) -> np.ndarray:
    """Return uint8 [size * pixels_per_tile, size * pixels_per_tile, 3]; row 0 is the north edge.

    Args:
        world, task: one record each of the batch's state.
    """
    size = int(task["size"])
    centres = (np.arange(size * pixels_per_tile) + 0.5) / pixels_per_tile
    x, y = np.meshgrid(centres, centres, indexing="ij")
    picture = _terrain(task, x, y)
    for p in range(int(task["players"])):
        _shade_view(picture, world, p, x, y)
    height = world["position"][:, 2]
    for k in sorted(range(int(world["used"])), key=lambda k: height[k]):  # what is higher covers what is lower
        if k >= FIRST_OBJECT and world["kind"][k] >= 0:
            _draw_object(picture, world, k, x, y, 1.0 / pixels_per_tile)
    for p in range(int(task["players"])):
        _draw_player(picture, world, p, x, y)
    north_up: np.ndarray = np.ascontiguousarray(picture.astype(np.uint8).transpose(1, 0, 2)[::-1])
    return north_up


def _terrain(task: np.void, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    i, j = x.astype(int), y.astype(int)
    tile, level = task["tile"][i, j], task["top"][i, j] / LEVEL_HEIGHT_M
    picture = FLOOR_RGB + LEVEL_BRIGHTER * level[..., None] * 1.5
    picture[tile == Tile.WALL] = WALL_RGB
    picture[tile == Tile.PIT] = PIT_RGB
    for ramp, (dx, dy) in RISES_TOWARDS.items():
        here = tile == ramp
        up = dx * (x - i - 0.5) + dy * (y - j - 0.5) + 0.5
        stripes = 0.8 + 0.2 * ((up * 4).astype(int) % 2) + 0.15 * up
        picture[here] = (RAMP_RGB * stripes[..., None])[here]
    edge = np.minimum(x - i, y - j) < 0.04
    picture[edge] *= 0.9
    clipped: np.ndarray = np.clip(picture, 0, 255)
    return clipped


def _shade_view(picture: np.ndarray, world: np.void, p: int, x: np.ndarray, y: np.ndarray) -> None:
    """Brighten the sector that the player looks at, 3 m deep."""
    dx, dy = x - world["position"][p, 0], y - world["position"][p, 1]
    ahead = dx * math.cos(world["yaw"][p]) + dy * math.sin(world["yaw"][p])
    distance = np.hypot(dx, dy)
    seen = (distance < 3) & (ahead > distance * math.cos(VIEW_ANGLE / 2))
    picture[seen] = np.clip(picture[seen] * 1.15 + 8, 0, 255)


def _draw_object(picture: np.ndarray, world: np.void, k: int, x: np.ndarray, y: np.ndarray, pixel_m: float) -> None:
    shape, colour = divmod(int(world["kind"][k]), 3)
    dx, dy = np.abs(x - world["position"][k, 0]), y - world["position"][k, 1]
    half_x, half_y = HALF[shape, :2]

    def inside(grow: float) -> np.ndarray:
        covered: np.ndarray = (dx <= half_x + grow) & (np.abs(dy) <= half_y + grow)
        if shape == SPHERE:
            covered = np.hypot(dx, dy) <= half_x + grow
        elif shape == PYRAMID:  # a triangle: pyramids would look like cubes from above
            covered &= dx <= (half_y + grow - dy) / 2
        return covered

    if k in world["held"]:
        picture[inside(2.5 * pixel_m)] = HELD_RGB
    elif world["frozen"][k]:
        picture[inside(2.5 * pixel_m)] = FROZEN_RGB
    else:
        picture[inside(1.2 * pixel_m)] *= 0.55
    picture[inside(0.0)] = OBJECT_RGB[colour]


def _draw_player(picture: np.ndarray, world: np.void, p: int, x: np.ndarray, y: np.ndarray) -> None:
    dx, dy = x - world["position"][p, 0], y - world["position"][p, 1]
    cos, sin = math.cos(world["yaw"][p]), math.sin(world["yaw"][p])
    ahead, left = dx * cos + dy * sin, np.abs(dy * cos - dx * sin)
    body = np.hypot(dx, dy) <= PLAYER_RADIUS_M
    picture[body] = PLAYER_RGB[p]
    picture[(ahead >= 0) & (ahead <= PLAYER_RADIUS_M + 0.2) & (left <= (PLAYER_RADIUS_M + 0.2 - ahead) / 2.5)] = (
        VISOR_RGB
    )
