"""Draws the two first-person pictures of docs/simulator.md, four times enlarged.

.venv/bin/python tests/sim/draw_frames.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

from ada_api.environment import Environment
from ada_sim.batch import BatchSim
from ada_sim.tasks.probes import probe
from ada_sim.tasks.task import Task
from ada_sim.tasks.template import read_template

IMAGES = Path(__file__).parents[2] / "docs" / "images"
TIMES = 4
SHAPES = """
world
  ############
  #..........#
  #.1111...#.#
  #.1AB1...#.#
  #.1111.....#
  #.1^11.....#
  #.....~....#
  #..........#
  #..........#
  #..........#
  #....P.....#
  ############

object yellow pyramid at A
object black sphere at B
object purple sphere at 2.6, 2.4
object purple cube at 3.4, 3.2
object yellow cube at 4.5, 4.4
object yellow sphere at 5.2, 2.6
object purple pyramid at 6.3, 4.6
object black cube at 6.7, 3.0
object purple wall at 7.2, 5.6
object black pyramid at 8.4, 3.9
player at P
goal near(player, yellow pyramid)
trial 10 s
"""


class OneTask:
    """A source of one task."""

    def __init__(self, task: Task) -> None:
        self.only = task

    def task(self, number: int) -> Task:
        """Return the task, whatever its number."""
        return self.only


def picture(task: Task, yaw: float, place: tuple[float, float]) -> np.ndarray:
    """Return what a player sees who stands at `place` and looks to `yaw`, uint8 [72, 96, 3]."""
    sim, first = BatchSim(1, Environment(observation="pixels", players=len(task.spawns)), OneTask(task)), np.array([0])
    sim.assign(first, first.astype(np.uint64), np.ones(1, np.int64), first.astype(np.uint64))
    sim.reset(first)
    state = sim.state()
    state["world.position"][0, 0, :2] = place
    state["world.yaw"][0, 0], state["world.cos_yaw"][0, 0], state["world.sin_yaw"][0, 0] = yaw, np.cos(yaw), np.sin(yaw)
    sim.load(state)
    return sim.render(first)[0, 0]


if __name__ == "__main__":
    for name, task, yaw, place in (
        ("frame-shapes", read_template("shapes", SHAPES).task(0), np.pi / 2, (5.5, 1.5)),
        ("frame-levels", probe("information-asymmetry"), 0.0, (8.5, 6.8)),
    ):
        frame = Image.fromarray(picture(task, yaw, place))
        frame.resize((frame.width * TIMES, frame.height * TIMES), Image.Resampling.NEAREST).save(IMAGES / f"{name}.png")
