"""A task as the engine's record: what players are shown is the encoding, and what can't be held is named."""

from dataclasses import replace

import numpy as np
import pytest

from ada_api.environment import Environment
from ada_sim.engine.loading import listed, load
from ada_sim.engine.types import TASK
from ada_sim.tasks.encoding import encode
from ada_sim.tasks.source import TaskSource
from ada_sim.tasks.task import Hiding, InitialObject, Predicate, ProductionRule, Relation

CUBE, PLAYER_2 = 3, 13


def task_row(task, players):
    """Return the task as one record [1]."""
    record = np.zeros(1, TASK)
    load(record, np.zeros(1, np.int64), [listed(task, players)])
    return record


@pytest.fixture
def task():
    return TaskSource(Environment()).task(5)


@pytest.mark.parametrize("players", [1, 2])
def test_players_are_shown_what_the_encoding_says(players):
    source = TaskSource(Environment(players=players))
    rng, hidden = np.random.default_rng(0), [0, 0, 0]
    for _ in range(200):
        task = source.task(source.draw(rng, held_out=False))
        row = task_row(task, players)[0]
        for player in range(players):
            goal, rules = encode(task, player)
            assert np.array_equal(row["shown_goal"][player], goal)
            assert np.array_equal(row["shown_rules"][player], rules)
            hiding = task.game.hidings[player]
            hidden = np.add(hidden, [len(hiding.rules), len(hiding.objects), len(hiding.predicates)])
    assert min(hidden) > 50, "each kind of hiding was seen"


def test_a_rule_that_is_hidden_twice_is_hidden_as_a_whole(task):
    hiding = Hiding(rules=frozenset({0}), predicates=(1, 0))
    task = replace(task, game=replace(task.game, hidings=(hiding,)))
    assert np.array_equal(task_row(task, 1)["shown_rules"][0, 0], encode(task, 0)[1])


def test_the_record_holds_what_the_task_holds(task):
    row = task_row(task, 1)[0]
    assert row["num_objects"] == len(task.objects)
    for n, item in enumerate(task.objects):
        assert (row["kind"][n], row["frozen"][n], *row["place"][n]) == (item.type, item.frozen, item.x, item.y)
    assert row["num_rules"] == len(task.game.rules)
    for r, rule in enumerate(task.game.rules):
        condition, spawns = rule.condition, [*rule.spawns, -1, -1, -1, -1][:4]
        fields = (condition.relation, condition.first, condition.second, condition.negated, *spawns)
        assert tuple(row["rule"][r]) == fields
    goal = task.game.goals[0]
    assert tuple(row["goal"][0]) == (goal.relation, goal.first, goal.second, goal.negated)
    assert tuple(row["spawn"][0]) == task.spawns[0]
    assert row["trial_timesteps"] == task.trial_timesteps


def rule(first=0, second=1, spawns=()):
    return ProductionRule(Predicate(Relation.NEAR, first, second), spawns)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"rules": (rule(), rule(first=99))},
            r"game.rules\[1\].condition: argument 99 is neither an object type nor one of 1 players",
            id="a-rule-on-nothing",
        ),
        pytest.param(
            {"rules": (rule(second=PLAYER_2),)},
            r"game.rules\[0\].condition: argument 13 is neither",
            id="a-rule-on-a-player-who-is-not-there",
        ),
        pytest.param(
            {"rules": (rule(first=-1),)}, r"game.rules\[0\].condition: argument -1 is neither", id="a-negative-type"
        ),
        pytest.param(
            {"rules": (rule(second=1 << 70),)}, r"game.rules\[0\].condition: argument \d+ is", id="a-huge-number"
        ),
        pytest.param(
            {"rules": (rule(), rule(spawns=(0, 12)))},
            r"game.rules\[1\].spawns is \(0, 12\), must be at most 4 object types",
            id="a-spawn-of-no-type",
        ),
        pytest.param({"rules": (rule(spawns=(0,) * 5),)}, r"game.rules\[0\].spawns is", id="five-spawns"),
        pytest.param({"rules": (rule(spawns=(0,) * 300),)}, r"game.rules\[0\].spawns is", id="hundreds-of-spawns"),
        pytest.param({"rules": (rule(spawns=(-1,)),)}, r"game.rules\[0\].spawns is \(-1,\)", id="a-negative-spawn"),
        pytest.param({"rules": (rule(),) * 17}, "game.rules is 17, must be 0 to 16", id="too-many-rules"),
        pytest.param(
            {"goals": (Predicate(Relation.SEE, 12, 14),)}, r"game.goals\[0\]: argument 14 is", id="a-goal-on-nothing"
        ),
        pytest.param({"goals": ()}, "game.goals is 0, must be 1 to 2", id="no-goal"),
        pytest.param({"objects": (InitialObject(12, 3.5, 3.5),)}, r"objects\[0\].type is 12", id="an-unknown-type"),
        pytest.param(
            {"objects": (InitialObject(CUBE, 0.5, 3.5),)},
            r"objects\[0\] at \(0.5, 3.5\) is not inside the border walls of a world of size \d+",
            id="an-object-outside",
        ),
        pytest.param(
            {"objects": (InitialObject(CUBE, float("nan"), 3.5),)}, "is not inside the border walls", id="nowhere"
        ),
        pytest.param({"spawns": ((-3.0, 2.0),)}, r"spawns\[0\] at \(-3.0, 2.0\) is not inside", id="a-spawn-outside"),
        pytest.param({"spawns": ((2.5, 2.5),)}, r"spawns\[0\] at \(2.5, 2.5\) is inside a wall", id="a-walled-spawn"),
        pytest.param({"trial_timesteps": 0}, "trial_timesteps is 0, must be 1 to 10000", id="no-time"),
    ],
)
def test_what_the_simulator_cannot_hold_is_named(task, change, message):
    tiles = task.world.tiles.copy()
    tiles[2, 2] = 1
    game = {name: change[name] for name in ("rules", "goals") if name in change}
    rest = {name: value for name, value in change.items() if name not in game}
    wrong = replace(task, world=replace(task.world, tiles=tiles), game=replace(task.game, **game), **rest)
    with pytest.raises(ValueError, match=message):
        task_row(wrong, 1)


def test_an_object_inside_a_wall_is_named(task):
    tiles = task.world.tiles.copy()
    tiles[3, 3] = 1
    wrong = replace(
        task, world=replace(task.world, tiles=tiles), objects=(*task.objects, InitialObject(CUBE, 3.5, 3.5))
    )
    with pytest.raises(ValueError, match=r"objects\[\d+\] at \(3.5, 3.5\) is inside a wall"):
        task_row(wrong, 1)


def test_of_several_tasks_the_wrong_one_is_named_and_no_record_has_changed(task):
    records = np.zeros(3, TASK)
    load(records, np.array([2]), [listed(task, 1)])
    before = records.tobytes()
    named = replace(task, name="mine", game=replace(task.game, rules=(rule(first=99),)))
    with pytest.raises(ValueError, match=r"task 'mine': game.rules\[0\].condition: argument 99"):
        load(records, np.array([0, 2]), [listed(task, 1), listed(named, 1)])
    assert records.tobytes() == before


def test_a_record_keeps_nothing_of_the_task_before():
    source, rng = TaskSource(Environment()), np.random.default_rng(1)
    tasks = [listed(source.task(source.draw(rng, held_out=False)), 1) for _ in range(20)]
    records, places = np.zeros(1, TASK), np.zeros(1, np.int64)
    for one in tasks:
        load(records, places, [one])
        assert records.tobytes() == task_row(one.task, 1).tobytes()


def test_several_tasks_are_loaded_as_one_by_one():
    source, rng = TaskSource(Environment(players=2)), np.random.default_rng(2)
    tasks = [listed(source.task(source.draw(rng, held_out=False)), 2) for _ in range(20)]
    records, places = np.zeros(30, TASK), rng.permutation(30)[:20]
    load(records, places, tasks)
    for place, one in zip(places, tasks, strict=True):
        assert records[place].tobytes() == task_row(one.task, 2)[0].tobytes()
    assert not records["present"][np.setdiff1d(np.arange(30), places)].any()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("tiles", 7, r"world.tiles\[3, 4\] is 7, must be 0 to 6"),
        ("levels", -1, r"world.levels\[3, 4\] is -1, must be 0 to 127"),
    ],
)
def test_a_tile_that_is_none_and_a_level_below_the_ground_are_named(task, field, value, message):
    changed = getattr(task.world, field).copy()
    changed[3, 4] = value
    with pytest.raises(ValueError, match=message):
        task_row(replace(task, world=replace(task.world, **{field: changed})), 1)
