"""`python -m ada_sim compile`: compile every kernel once, so that no program waits for it later.

What is compiled is kept under the user's cache folder, or in NUMBA_CACHE_DIR (`ada_sim.engine`).
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np

from ada_api.environment import Environment
from ada_sim.batch import BatchSim
from ada_sim.constants import ACTION_REST
from ada_sim.tasks.source import TaskSource


def main(arguments: Sequence[str]) -> int:
    """Compile, or load what was compiled before; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ada_sim compile", description=__doc__)
    parser.parse_args(arguments)
    start = time.monotonic()
    exercise_kernels()
    print(f"compiled in {time.monotonic() - start:.0f} s")
    return 0


def exercise_kernels() -> None:
    """Generate a task, play a timestep of it, look at it: once through every kernel."""
    environment = Environment()  # pixels, which contain all that the symbolic observation needs but its own encoder
    symbolic = environment.model_copy(update={"observation": "symbolic"})
    for one in (environment, symbolic):
        source = TaskSource(one)
        number = source.draw(np.random.default_rng(0), held_out=False)
        source.metrics(number)
        sim = BatchSim(1, one, source)
        world = np.zeros(1, np.int64)
        sim.assign(world, np.array([number], np.uint64), np.ones(1, np.int64), np.zeros(1, np.uint64))
        sim.reset(world)
        sim.step(np.array([[ACTION_REST]], np.int8))
        sim.render(world)
