"""Generated tasks and probe tasks, solved in the simulator by the scripted player that follows the shortest plan."""

import numpy as np
import pytest

from ada_api.environment import Environment
from ada_sim.batch import BatchSim
from ada_sim.scripted.planner import Planner
from ada_sim.tasks.generator import Generator
from ada_sim.tasks.probes import probe, probe_names
from ada_sim.tasks.task import Task

# What takes pushing, or a plan that the search over rules doesn't see; test_tasks_probes_played.py has parts for them.
NOT_BY_SCRIPT = {"antimatter", "antimatter-creation", "push-dont-lift", "push-dont-lift-distractors"}
NOT_BY_SCRIPT |= {"spacer-tool", "same-signature-destroy-to-protect", "transform-to-transport"}


class OneTask:
    """A source of one task."""

    def __init__(self, task: Task) -> None:
        self.only = task

    def task(self, number: int) -> Task:
        return self.only


def timesteps_to_goal(task: Task, detour: tuple[int, ...] = ()) -> int | None:
    """Return after how many timesteps of a trial the script is in the goal, or None if it never is."""
    sim = BatchSim(1, Environment(observation="symbolic"), OneTask(task))
    first = np.zeros(1, np.int64)
    sim.assign(first, np.zeros(1, np.uint64), np.ones(1, np.int64), np.zeros(1, np.uint64))
    sim.reset(first)
    script = Planner(task, sim.world(0), detour)
    for timestep in range(task.trial_timesteps):
        if sim.step(script.act()[None, None]).reward[0, 0] > 0:
            return timestep
    return None


def test_the_script_solves_most_generated_tasks() -> None:
    generator = Generator(Environment(trial_seconds=[40]))
    tasks = [generator.task(7919 * number + 11) for number in range(60)]
    tasks = [task for task in tasks if not task.game.goals[0].negated][:30]
    unsolved = [index for index, task in enumerate(tasks) if timesteps_to_goal(task) is None]
    assert len(unsolved) <= 6, f"of 30 tasks not solved: {unsolved}"


@pytest.mark.parametrize("name", sorted(set(probe_names(1)) - NOT_BY_SCRIPT))
def test_the_script_solves_the_probe_task(name: str) -> None:
    task = probe(name)
    assert timesteps_to_goal(task) is not None


def test_transform_to_transport_is_solved_by_both_conversions() -> None:
    task = probe("transform-to-transport")
    assert timesteps_to_goal(task, detour=(0, 1)) is not None


def test_the_script_refuses_a_task_for_two() -> None:
    task = probe("kickball")
    sim = BatchSim(1, Environment(observation="symbolic", players=2), OneTask(task))
    with pytest.raises(ValueError, match="has 2 players"):
        Planner(task, sim.world(0))
