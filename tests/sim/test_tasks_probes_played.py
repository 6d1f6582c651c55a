"""Every probe task, played in the real simulator: by parts that solve it, and by a wrong behaviour that fails.

Tasks for one player that the script which follows the shortest plan solves are not solved here again
(test_tasks_solved_by_script.py). A trial's yaw is drawn by the seed.
"""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ada_api.environment import Environment
from ada_sim.batch import BatchSim
from ada_sim.tasks.probes import probe, probe_names
from ada_sim.tasks.task import Task

_spec = importlib.util.spec_from_file_location("scripted_players", Path(__file__).with_name("scripted_players.py"))
assert _spec is not None
assert _spec.loader is not None
scripted = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scripted)

back, bring, drop, go, hold, lift = (
    scripted.back,
    scripted.bring,
    scripted.drop,
    scripted.go,
    scripted.hold,
    scripted.lift,
)
face, push, rest, spin, touch = scripted.face, scripted.push, scripted.rest, scripted.spin, scripted.touch
wait_for, wait_until_near = scripted.wait_for, scripted.wait_until_near

SEEDS = range(
    5 if os.environ.get("ADA_TEST_LONG") == "1" else 1
)  # of wrong behaviours; pushing goes wrong at some yaws
OUT = 2  # the choice of `reach` that stretches the arm
RESTS = [rest(1)]
WEST, RIDGE, EAST = (5.4, 3.5), (6.5, 3.5), (7.6, 3.5)  # of the barrier between two players, and where they stand at it

BLACKS = ["black cube", "black sphere", "black pyramid", "black wall"]
PUSHED = [go((5.0, 1.5)), push("black sphere", (9.5, 2.5), (8.5, 9.0), "yellow pyramid", within=0.8)]
ANNIHILATE = bring("yellow sphere", to="black sphere")
FORCED = (
    [
        lift("yellow sphere", (3.5, 2.5), (4.5, 2.5)),
        rest(20),
        lift("yellow sphere", (3.5, 2.5), (4.5, 2.5)),
    ],
    [
        wait_until_near("yellow sphere", (4.5, 2.5)),
        hold("yellow sphere"),
        back(3),
        bring("yellow sphere", to="black wall"),
        wait_until_near("yellow sphere", (4.5, 2.5)),
        hold("yellow sphere"),
        back(3),
        bring("yellow sphere", to="purple wall"),
        hold("purple cube"),
        hold("yellow pyramid"),
    ],
)
COOKED = (
    [bring("yellow sphere", to="black wall"), bring("yellow sphere", to="purple wall")],
    [wait_for("purple cube"), hold("purple cube"), hold("yellow pyramid")],
)
BURNT = ([*COOKED[0], hold("purple cube")], RESTS)
IRREVERSIBLE = (
    [bring("black cube", to="black pyramid"), go((5.5, 7.5)), wait_for("yellow pyramid"), go("yellow pyramid", 1)],
    [wait_for("purple cube"), bring("purple cube", to="yellow sphere")],
)
WASTED = (RESTS, [bring("black cube", to="yellow sphere")])
PARTS_TO_ONE = (
    [
        hold("black cube"),
        hold("black pyramid"),
        wait_for("purple pyramid"),
        bring("black pyramid", to="purple pyramid"),
    ],
    [hold("purple cube"), hold("purple pyramid"), go("player 1", 3)],
)
PARTS_SWAPPED = ([hold("purple cube")], [hold("black cube")])
PAIR = ([wait_for("yellow sphere"), hold("yellow sphere")], [bring("black cube", to="purple cube")])
WRONG_PAIR = ([rest(1)], [bring("black cube", to="yellow cube")])
MACHINES = (
    [wait_for("yellow cube"), bring("yellow cube", to="purple wall"), go("yellow pyramid", 1)],
    [bring("yellow sphere", to="black wall"), back(6)],
)
WRONG_MACHINE = ([bring("yellow sphere", to="purple wall")], [bring("yellow sphere", to="purple wall")])

SOLVED_BY = {
    "antimatter": ([ANNIHILATE] * 3,),
    "antimatter-creation": ([ANNIHILATE, ANNIHILATE, bring("purple cube", to="purple pyramid"), ANNIHILATE],),
    "dont-act": (RESTS,),
    "dont-peek": ([face((5.5, 0.0))],),
    "push-dont-lift": (PUSHED,),
    "push-dont-lift-distractors": (PUSHED,),
    "same-signature-destroy-to-protect": (
        [bring("black cube", to="purple sphere"), hold("black sphere"), go("yellow pyramid", 1)],
    ),
    "spacer-tool": ([hold("purple wall"), go((10.5, 2.0)), bring("purple wall", to=(10.5, 10))],),
    "antimatter-for-two": ([ANNIHILATE] * 3, [ANNIHILATE] * 3),
    "antimatter-for-two-creation": (
        [ANNIHILATE, wait_for("yellow sphere"), ANNIHILATE],
        [bring("purple cube", to="purple pyramid"), ANNIHILATE],
    ),
    "antimatter-for-two-copies": (
        [wait_for("yellow sphere", 3), ANNIHILATE, ANNIHILATE, ANNIHILATE],
        [hold("yellow sphere"), drop(), back(3), hold("yellow sphere"), drop(), back(8)],
    ),
    "combine-outputs": (
        [bring("black cube", to="black sphere"), lift("black pyramid", WEST, RIDGE)],
        [
            bring("purple cube", to="purple sphere"),
            wait_until_near("black pyramid", RIDGE),
            lift("purple pyramid", EAST, RIDGE),
        ],
    ),
    "coordinated-exchange": (
        [
            lift("black cube", WEST, RIDGE),
            wait_until_near("black sphere", (6.5, 4.5)),
            hold("black sphere"),
            bring("yellow sphere", to="yellow pyramid"),
        ],
        [
            wait_until_near("black cube", RIDGE),
            hold("black cube"),
            lift("black sphere", (7.6, 4.5), (6.5, 4.5)),
            back(4),
        ],
    ),
    "coordinated-production": PARTS_TO_ONE,
    "coordinated-production-dead-ends": PARTS_TO_ONE,
    "crafting-pyramid-for-two": (
        [
            bring("black cube", to="black cube"),
            bring("black sphere", to="black sphere"),
            bring("purple cube", to="purple sphere"),
            wait_for("yellow sphere"),
            bring("yellow cube", to="yellow sphere"),
            hold("yellow pyramid"),
        ],
        [
            bring("black pyramid", to="black pyramid"),
            bring("black wall", to="black wall"),
            bring("purple pyramid", to="purple wall"),
        ],
    ),
    "information-asymmetry": (
        [wait_for("yellow pyramid"), go("yellow pyramid", 1)],
        [bring("black cube", to="purple cube")],
    ),
    "information-asymmetry-repetition": (
        [bring("black cube", to="purple cube"), hold("yellow pyramid")],
        [go((11.5, 3.5)), bring("purple cube", to=(9.5, 10)), drop(), go((13, 4))],
    ),
    "irreversible-production-for-two": IRREVERSIBLE,
    "irreversible-production-for-two-visible": IRREVERSIBLE,
    "kickball": (
        [push("yellow sphere", (8.5, 2.5))],
        [go((8.5, 1.5)), push("yellow sphere", (8.5, 8.5), "black wall")],
    ),
    "lemon-eater": ([wait_for("purple pyramid"), go("purple pyramid")], [bring("yellow sphere", to="player 1")]),
    "lemon-eater-careful": ([go((1.5, 6.5))], [go((2.5, 2.5)), go((1.5, 2.7)), push("yellow sphere", "player 1")]),
    "lemon-eater-with-maker": ([wait_for("yellow sphere"), touch("yellow sphere")], [hold("black cube"), rest(200)]),
    "overcooked-cramped-room": COOKED,
    "overcooked-cramped-room-visible": COOKED,
    "overcooked-forced-coordination": FORCED,
    "overcooked-forced-coordination-visible": FORCED,
    "overcooked-ring": COOKED,
    "overcooked-ring-visible": COOKED,
    "pass-over-the-wall": (
        [lift("yellow cube", WEST, RIDGE)],
        [
            wait_until_near("yellow cube", RIDGE),
            hold("yellow cube"),
            back(4),
            bring("yellow cube", to="purple pyramid"),
        ],
    ),
    "pass-over-the-wall-repeatedly": (
        [
            lift("yellow cube", WEST, RIDGE),
            back(4),
            wait_until_near("yellow sphere", RIDGE),
            hold("yellow sphere"),
            back(4),
            bring("yellow sphere", to="black pyramid"),
            lift("purple sphere", WEST, RIDGE),
        ],
        [
            wait_until_near("yellow cube", RIDGE),
            hold("yellow cube"),
            back(4),
            bring("yellow cube", to="black cube"),
            lift("yellow sphere", EAST, RIDGE),
            back(2),
            wait_until_near("purple sphere", RIDGE),
            hold("purple sphere"),
        ],
    ),
    "two-machines": MACHINES,
    "two-machines-asymmetry": MACHINES,
    "wrong-pair-disappears-for-two": PAIR,
    "wrong-pair-disappears-for-two-partial-hiding": PAIR,
}

COLOURS_MIXED = ([bring("black cube", to="purple cube")],)
FAILED_BY = {
    "antimatter": ([ANNIHILATE] * 2,),
    "antimatter-creation": ([ANNIHILATE] * 2,),
    "crafting-pyramid": ([bring(name, to=name) for name in BLACKS],),
    "crafting-tree": ([bring("black cube", to="purple sphere")],),
    "crafting-tree-hidden-shortcut": (
        [bring("black cube", to="black sphere"), bring("black pyramid", to="purple sphere")],
    ),
    "dont-act": ([touch("yellow pyramid")],),
    "dont-peek": ([spin(300)],),
    "find-the-cube": ([go("black cube", 0.9)],),
    "find-the-cube-teaser": ([go((6.5, 6.5)), rest(1)],),
    "hold-up-high": ([go("yellow cube", 0.9)],),
    "irreversible-production": ([bring("black cube", to="yellow sphere")],),
    "irreversible-production-visible": ([bring("black cube", to="yellow sphere")],),
    "object-permanence-black": ([go("purple cube", 0.9)],),
    "object-permanence-yellow": ([go("purple cube", 0.9)],),
    "protect-the-egg": ([bring("black sphere", to="purple pyramid", reach=OUT)],),
    "push-dont-lift": ([bring("black sphere", to="yellow pyramid")],),
    "push-dont-lift-distractors": ([bring("black sphere", to="yellow pyramid")],),
    "pyramid-in-a-haystack": ([bring("purple sphere", to="purple cube"), hold("purple pyramid")],),
    "same-signature-destroy-to-protect": ([hold("black sphere")],),
    "same-signature-match-colours": COLOURS_MIXED,
    "same-signature-three-steps": ([bring("black cube", to="black sphere")],),
    "same-signature-two-dead-ends": COLOURS_MIXED,
    "small-workstation": ([bring("purple sphere", to="black sphere")],),
    "small-workstation-visible": ([bring("purple sphere", to="black sphere")],),
    "spacer-tool": ([push("black cube", (10.5, 8.5))],),
    "three-spheres-jumbled": ([touch("black sphere")],),
    "transform-to-transport": ([hold("black pyramid")],),
    "two-doors": ([go("black cube", 0.9)],),
    "wrong-pair-disappears": ([bring("black cube", to="yellow cube")],),
    "wrong-pair-disappears-partial-hiding": ([bring("black cube", to="yellow cube")],),
    "antimatter-for-two": ([ANNIHILATE], [ANNIHILATE]),
    "antimatter-for-two-creation": ([ANNIHILATE], [ANNIHILATE]),
    "antimatter-for-two-copies": ([ANNIHILATE], RESTS),
    "combine-outputs": ([bring("black cube", to="black sphere"), lift("black pyramid", WEST, RIDGE)], RESTS),
    "coordinated-exchange": ([hold("black cube")], [hold("black sphere")]),
    "coordinated-production": PARTS_SWAPPED,
    "coordinated-production-dead-ends": PARTS_SWAPPED,
    "crafting-pyramid-for-two": (
        [bring(name, to=name) for name in BLACKS[:2]],
        [bring(name, to=name) for name in BLACKS[2:]],
    ),
    "information-asymmetry": ([bring("black cube", to="yellow cube")], RESTS),
    "information-asymmetry-repetition": (RESTS, [bring("black cube", to="purple cube"), touch("yellow pyramid")]),
    "irreversible-production-for-two": WASTED,
    "irreversible-production-for-two-visible": WASTED,
    "kickball": (RESTS, [bring("yellow sphere", to="black wall")]),
    "lemon-eater": (RESTS, [touch("yellow sphere")]),
    "lemon-eater-careful": (RESTS, [bring("yellow sphere", to="player 1")]),
    "lemon-eater-with-maker": ([bring("black cube", to="player 2")], RESTS),
    "overcooked-cramped-room": BURNT,
    "overcooked-cramped-room-visible": BURNT,
    "overcooked-forced-coordination": ([bring("yellow sphere", to="black wall")], RESTS),
    "overcooked-forced-coordination-visible": ([bring("yellow sphere", to="black wall")], RESTS),
    "overcooked-ring": BURNT,
    "overcooked-ring-visible": BURNT,
    "pass-over-the-wall": ([bring("yellow cube", to="purple pyramid")], RESTS),
    "pass-over-the-wall-repeatedly": ([bring("yellow cube", to="black cube")], RESTS),
    "two-machines": WRONG_MACHINE,
    "two-machines-asymmetry": WRONG_MACHINE,
    "wrong-pair-disappears-for-two": WRONG_PAIR,
    "wrong-pair-disappears-for-two-partial-hiding": WRONG_PAIR,
}

# The goal holds when a trial begins: what counts is for how long.
KEEP = {"dont-act", "dont-peek"}


class OneTask:
    """A source of one task."""

    def __init__(self, task: Task) -> None:
        self.only = task

    def task(self, number: int) -> Task:
        """Return the task, whatever its number."""
        return self.only


def play_trial(task: Task, parts: Sequence[Sequence[object]], seed: int = 0, until_goal: bool = True) -> np.ndarray:
    """Play one trial; returns the share of each timestep that player 1 spent in the goal, float [timesteps].

    Ends with the first timestep in the goal if `until_goal`.
    """
    sim = BatchSim(1, Environment(observation="symbolic", players=len(task.spawns)), OneTask(task))
    first = np.zeros(1, np.int64)
    sim.assign(first, np.zeros(1, np.uint64), np.ones(1, np.int64), np.full(1, seed, np.uint64))
    sim.reset(first)
    players = [scripted.Player(task, sim, number, part) for number, part in enumerate(parts)]
    rewards = []
    for _ in range(task.trial_timesteps):
        actions = np.stack([player.act() for player in players])
        rewards.append(float(sim.step(actions[None]).reward[0, 0]))
        if until_goal and rewards[-1] > 0:
            break
    return np.array(rewards)


@pytest.mark.parametrize("name", sorted(set(SOLVED_BY) - KEEP))
def test_the_parts_lead_to_the_goal(name: str) -> None:
    assert play_trial(probe(name), SOLVED_BY[name]).any()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", sorted(set(FAILED_BY) - KEEP))
def test_a_wrong_behaviour_never_gets_to_the_goal(name: str, seed: int) -> None:
    assert not play_trial(probe(name), FAILED_BY[name], seed).any()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", sorted(KEEP))
def test_a_goal_that_holds_from_the_start_is_kept_or_lost(name: str, seed: int) -> None:
    kept, lost = (
        play_trial(probe(name), parts[name], seed, until_goal=False).mean() for parts in (SOLVED_BY, FAILED_BY)
    )
    assert kept > 0.8
    assert lost < 0.6


def test_no_probe_task_is_left_out() -> None:
    assert set(FAILED_BY) == {*probe_names(1), *probe_names(2)}
    assert set(probe_names(2)) <= set(SOLVED_BY)
