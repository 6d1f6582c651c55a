"""Simulators in processes of their own, a core each, as an experiment's simulators run."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection

from ada_sim.batch import BatchSim
from benchmarks.timing import rate_of
from benchmarks.worlds import Worlds, crowded_tasks, environment, random_actions, replay


@contextmanager
def simulators(worlds: int, places: Sequence[int], tasks: int) -> Iterator[Callable[[float], float]]:
    """Start a simulator on each of these cores, with an equal share of the worlds.

    Yields:
        What steps them all, side by side, for so many seconds and returns the steps a second of all worlds together.
    """
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        ends = list[Connection]()
        for place in places:
            ours, theirs = context.Pipe()
            arguments = (theirs, worlds // len(places), place, tasks)
            process = context.Process(target=play, args=arguments, daemon=True)
            process.start()
            stack.callback(process.join)
            stack.enter_context(ours)  # closed first: the end of the pipe ends the process
            theirs.close()
            ends.append(ours)
        for end in ends:
            end.recv()

        def together(seconds: float) -> float:
            for end in ends:
                end.send(seconds)
            return sum(end.recv() for end in ends)

        yield together


def play(asked: Connection, worlds: int, place: int, tasks: int) -> None:
    """Step worlds with random players on one core, for as many seconds as asked, until the pipe ends."""
    os.sched_setaffinity(0, {place})
    batch = Worlds(BatchSim(worlds, environment(), crowded_tasks(tasks), threads=1), seed=place)
    step = replay(batch, random_actions(worlds, 16))
    step()
    asked.send("ready")
    try:
        while True:
            asked.send(rate_of(step, 16 * worlds, asked.recv()))
    except EOFError:
        return
