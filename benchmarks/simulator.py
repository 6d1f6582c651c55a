"""The simulator beside XLand-MiniGrid, MiniWorld and ViZDoom, and against its own limits."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ada_api.environment import Environment
from ada_sim.batch import BatchSim
from ada_sim.tasks.generator import Generator
from benchmarks.peer import compare, note, peer_or_none
from benchmarks.row import Row, cost_row, rate_row
from benchmarks.simulator_processes import simulators
from benchmarks.timing import Effort, by_turns, cores, pinned, rate_of, seconds_of
from benchmarks.two_cores import loops
from benchmarks.worlds import (
    Chosen,
    Worlds,
    busy_play,
    crowded_tasks,
    environment,
    moved_share,
    random_actions,
    replay,
    resting,
)

WORLDS, PIXEL_WORLDS = 1024, 64
UNROLL = 64  # timesteps of XLand-MiniGrid in one call
LIMIT_BYTES, LIMIT_START_S = 64_000, 3.0
EPISODE_S, ENDLESS_S = 13, 120  # 98 timesteps, so that 1% of the worlds end with each; 900, so that none does
FIRST_STEP = """
import numpy as np
from ada_api.environment import Environment
from ada_sim.batch import BatchSim
from ada_sim.constants import ACTION_REST
from ada_sim.tasks.source import TaskSource
environment = Environment(observation="symbolic")
source = TaskSource(environment)
sim = BatchSim(1, environment, source)
sim.assign(np.zeros(1, np.int64), np.array([source.draw(np.random.default_rng(0), False)], np.uint64),
           np.ones(1, np.int64), np.zeros(1, np.uint64))
sim.reset(np.zeros(1, np.int64))
assert sim.step(np.array(ACTION_REST, np.int8)[None, None]).active.all()
"""


def rows(effort: Effort) -> Iterator[Row]:
    """Measure steps, pictures, tasks, and what a world costs."""
    worlds = 32 if effort.small else WORLDS
    tasks = crowded_tasks(2 if effort.small else 128)
    with pinned(1, effort):
        yield from symbolic_rows(effort, worlds, tasks)
    yield from two_cores_rows(effort, worlds, tasks)
    with pinned(1, effort):
        yield from pixel_rows(effort)
        yield reset_row(effort, worlds)
        yield memory_row(worlds, tasks)
        yield start_row(effort)


def symbolic_rows(effort: Effort, worlds: int, tasks: Chosen) -> Iterator[Row]:
    """Compare steps of random and of busy players, and tasks made, with XLand-MiniGrid on one core."""
    at_random = Worlds(BatchSim(worlds, environment(), tasks))
    step = replay(at_random, random_actions(worlds, 16))
    before = at_random.sim.state()
    busy = Worlds(BatchSim(worlds, environment(), tasks))
    play = busy_play(busy, 16 if effort.small else 150)
    generator, numbers = Generator(Environment()), np.random.default_rng(0)
    pool = Environment().task_pool

    def random_rate() -> float:
        return rate_of(step, 16 * worlds, effort.seconds)

    def busy_rate() -> float:
        busy.sim.load(play.state)
        return play.actions.shape[0] * worlds / seconds_of(replay(busy, play.actions))

    def make_tasks() -> None:
        for number in numbers.integers(pool.worlds * pool.games, size=100).tolist():
            generator.draw(number)

    def task_rate() -> float:
        return rate_of(make_tasks, 100, effort.seconds)

    what = f"symbolic steps/s, {worlds:,} worlds, 12 objects, 12 rules, 1 core"
    peer_name = "XLand-MiniGrid R4-13x13, rulesets of its medium settings"
    with peer_or_none(effort, "xland.py", str(worlds), str(effort.seconds), str(UNROLL)) as peer:
        ours, theirs = compare(random_rate, peer, "step", effort)
        yield rate_row("simulator", f"{what}, random players", ours, theirs, peer_name, 15)
        ours, theirs = compare(busy_rate, peer, "step", effort)
        yield rate_row("simulator", f"{what}, busy players", ours, theirs, peer_name, 5)
        ours, theirs = compare(task_rate, peer, "generate", effort)
        name = "XLand-MiniGrid's rules and goals, drawn as its medium generator does (no certificate)"
        yield rate_row("simulator", "tasks/s with world and certificate, 1 core", ours, theirs, name, 20)
        if peer is not None:
            note(f"XLand-MiniGrid's rulesets have up to {peer.measure('rules'):.0f} rules, ours 12 each")
    moved = moved_share(at_random.sim, before)
    note(
        f"random players: reward {at_random.reward:.0f} in all, objects moved or changed in {moved:.0%} of the worlds; "
        f"busy players hold an object in {play.held_share:.0%} of the timesteps, {play.moving:.1f} objects move"
    )
    if not effort.small and (at_random.reward == 0 or moved < 0.5 or play.held_share < 0.2):
        raise RuntimeError("the worlds that were measured stand still")


def two_cores_rows(effort: Effort, worlds: int, tasks: Chosen) -> Iterator[Row]:
    """Compare two simulators, and two threads of one, with one, beside loops that show what two cores can give."""
    if len(cores()) < 2:
        note("steps on two cores: this machine has one")
        return
    with (
        simulators(worlds, cores()[:1], len(tasks.tasks)) as alone,
        simulators(worlds, cores()[:2], len(tasks.tasks)) as both,
    ):
        two, one = by_turns([partial(both, effort.seconds), partial(alone, effort.seconds)], effort.repeats)
    what = f"symbolic steps/s, {worlds:,} worlds, 2 cores"
    yield rate_row("simulator", f"{what}, two simulators", two, one, "the same in one, on 1 core", 1.8)
    with pinned(2, effort):
        batches = [Worlds(BatchSim(worlds, environment(), tasks, threads=count)) for count in (1, 2)]
        steps = [replay(batch, random_actions(worlds, 16)) for batch in batches]
        for step in steps:
            step()
        limits = loops()
        measures = [partial(rate_of, step, 16 * worlds, effort.seconds) for step in steps]
        measures += [partial(loop.rate, threads, effort.seconds) for loop in limits for threads in (1, 2)]
        one, two, *rates = by_turns(measures, effort.repeats)
        for batch in batches:
            batch.sim.close()
    yield rate_row("simulator", f"{what}, two threads of one simulator", two, one, "the same with one thread")
    for loop, single, double in zip(limits, rates[::2], rates[1::2], strict=True):
        what = f"{loop.what}/s, 2 cores: what this machine gives to threads that share nothing"
        yield rate_row("simulator", what, double, single, "the same on 1 core")


def pixel_rows(effort: Effort) -> Iterator[Row]:
    """Compare steps with pictures of 96 x 72 with MiniWorld's and with ViZDoom's smallest."""
    count = 4 if effort.small else PIXEL_WORLDS
    worlds = Worlds(BatchSim(count, Environment(observation="pixels")))
    step = replay(worlds, random_actions(count, 4))
    step()
    picture = worlds.sim.timestep().observation["pixels"]
    if picture.std(axis=(2, 3, 4)).min() == 0:
        raise RuntimeError("a picture that was measured is blank")
    what = "first-person RGB 96x72 steps/s, 1 core"
    for script, name, bar in (
        ("miniworld_steps.py", "MiniWorld FourRooms 96x72", 15.0),
        ("vizdoom_steps.py", "ViZDoom my_way_home 160x120, its smallest picture", 1.5),
    ):
        with peer_or_none(effort, script, str(effort.seconds)) as peer:
            ours, theirs = compare(lambda: rate_of(step, 4 * count, effort.seconds), peer, "step", effort)
        yield rate_row("simulator", what, ours, theirs, name, bar)


def reset_row(effort: Effort, worlds: int) -> Row:
    """Compare steps in which 1% of the worlds begin a new episode with steps in which none does."""
    count = 2 if effort.small else 128
    ending = Worlds(BatchSim(worlds, environment([EPISODE_S]), crowded_tasks(count, [EPISODE_S])))
    ending.spread(10 if effort.small else 98)
    endless = Worlds(BatchSim(worlds, environment([ENDLESS_S]), crowded_tasks(count, [ENDLESS_S])))
    actions = random_actions(worlds, 98)
    with_ends, without = replay(ending, actions), replay(endless, actions)
    state = endless.sim.state()

    def endless_seconds() -> float:
        endless.sim.load(state)
        return seconds_of(without) / len(actions)

    ours, plain = by_turns([lambda: seconds_of(with_ends) / len(actions), endless_seconds], effort.repeats)
    return cost_row(
        "simulator", "seconds of a step with 1% of the worlds ended", ours, plain, "a step without any", 1 / 1.5
    )


def memory_row(worlds: int, tasks: Chosen) -> Row:
    """Compare the resident memory that a world takes with its limit."""
    before = resident_bytes()
    batch = Worlds(BatchSim(4 * worlds, environment(), tasks))
    batch.step(resting(4 * worlds))
    used = max(1.0, (resident_bytes() - before) / (4 * worlds))
    return cost_row("simulator", "resident bytes a world, symbolic", used, LIMIT_BYTES, "limit", 1)


def resident_bytes() -> int:
    """Return this process's resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def start_row(effort: Effort) -> Row:
    """Compare the time of a new process from its start through its first step with the limit; the cache is warm."""

    def first_step() -> None:
        subprocess.run([sys.executable, "-c", FIRST_STEP], check=True)

    if not effort.small:
        first_step()
    seconds = by_turns([partial(seconds_of, first_step)], effort.repeats)[0]
    return cost_row("simulator", "seconds of import and first step, warm cache", seconds, LIMIT_START_S, "limit", 1)
