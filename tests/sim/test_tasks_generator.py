"""The generated pool: solvable, like AdA's in twelve figures, rebuilt from numbers, split from the held-out pool."""

import dataclasses

import numpy as np
import pytest

from ada_api.environment import Environment, GameRanges, IntRange, TaskPool, WorldRanges
from ada_sim.tasks.counting import distinct_games, distinct_tasks, distinct_worlds
from ada_sim.tasks.generator import GeneratedTask, Generator
from ada_sim.tasks.metrics import METRICS, PAPER_MEANS, metrics_of, productive_rules, shortest_plan
from ada_sim.tasks.numbers import numbers_of
from ada_sim.tasks.source import TaskSource
from ada_sim.tasks.task import (
    MAX_RULES,
    NUM_OBJECT_TYPES,
    PLAYER_1,
    PLAYER_2,
    Hiding,
    Predicate,
    Relation,
    Task,
    Tile,
)
from ada_sim.tasks.template import read_template

STEPS = ((0, 1, Tile.RAMP_NORTH), (1, 0, Tile.RAMP_EAST), (0, -1, Tile.RAMP_SOUTH), (-1, 0, Tile.RAMP_WEST))
OPPOSITE = {
    Tile.RAMP_NORTH: Tile.RAMP_SOUTH,
    Tile.RAMP_SOUTH: Tile.RAMP_NORTH,
    Tile.RAMP_EAST: Tile.RAMP_WEST,
    Tile.RAMP_WEST: Tile.RAMP_EAST,
}


def drawn(environment: Environment, count: int, seed: int = 0, held_out: bool = False) -> list[GeneratedTask]:
    generator = Generator(environment)
    pool = environment.task_pool.worlds * environment.task_pool.games
    return [generator.draw(int(n), held_out) for n in np.random.default_rng(seed).integers(pool, size=count)]


def edge_height(task: Task, i: int, j: int, towards: Tile) -> float:
    """Slow and obvious: how high, in levels, the ground of a tile is at the middle of one of its edges."""
    tile, level = Tile(task.world.tiles[i, j]), float(task.world.levels[i, j])
    if tile == Tile.FLOOR or tile == OPPOSITE.get(towards):
        return level
    return level + 1 if tile == towards else level + 0.5


def walkable(task: Task, start: tuple[int, int]) -> set[tuple[int, int]]:
    """Slow and obvious: follow every step that doesn't climb an edge."""
    seen, left = {start}, [start]
    while left:
        i, j = left.pop()
        for di, dj, towards in STEPS:
            to = (i + di, j + dj)
            if to in seen or task.world.tiles[to] in (Tile.WALL, Tile.PIT):
                continue
            if edge_height(task, i, j, towards) >= edge_height(task, *to, OPPOSITE[towards]):
                seen.add(to)
                left.append(to)
    return seen


def tile_of(point: tuple[float, float]) -> tuple[int, int]:
    return int(point[0]), int(point[1])


def fingerprint(task: Task) -> tuple[object, ...]:
    return (
        task.world.tiles.tobytes(),
        task.world.levels.tobytes(),
        task.game,
        task.objects,
        task.spawns,
        task.trial_timesteps,
    )


@pytest.mark.parametrize("players", [1, 2])
def test_every_player_reaches_every_object_and_every_other_player_on_foot(players: int) -> None:
    for generated in drawn(Environment(players=players), 150):
        task = generated.task
        places = {tile_of(point) for point in (*task.spawns, *((thing.x, thing.y) for thing in task.objects))}
        assert len(task.spawns) == players
        assert all(task.world.tiles[place] == Tile.FLOOR for place in places)
        for place in places:
            assert places <= walkable(task, place)


def test_the_plan_leads_to_the_goal_rule_by_rule() -> None:
    for generated in drawn(Environment(), 500):
        game = generated.task.game
        present = [thing.type for thing in generated.task.objects]
        for index in generated.plan:
            for entity in (game.rules[index].condition.first, game.rules[index].condition.second):
                if entity < PLAYER_1:
                    present.remove(entity)
            present += game.rules[index].spawns
        goal = game.goals[0]
        assert all(entity in present or entity >= PLAYER_1 for entity in (goal.first, goal.second))


def test_no_shorter_plan_than_the_chain_unless_the_goal_is_negated() -> None:
    for generated in drawn(Environment(), 500):
        plan = shortest_plan(generated.task)
        assert plan is not None
        expected = () if generated.task.game.goals[0].negated else generated.plan
        assert len(plan) == len(expected)


def test_dead_ends_make_only_objects_that_nothing_productive_takes() -> None:
    for generated in drawn(Environment(), 500):
        game = generated.task.game
        assert productive_rules(game) == set(generated.plan)


def test_nothing_stands_near_anything_else_when_a_trial_begins() -> None:
    for generated in drawn(Environment(), 100):
        points = [*generated.task.spawns, *((thing.x, thing.y) for thing in generated.task.objects)]
        for index, (x, y) in enumerate(points):
            assert all(max(abs(x - a), abs(y - b)) >= 2 for a, b in points[:index])


def test_the_means_agree_with_the_paper() -> None:
    source, rng = TaskSource(Environment()), np.random.default_rng(0)
    figures = [source.metrics(source.draw(rng, held_out=False)) for _ in range(3000)]
    for name in METRICS:
        mean = np.mean([task[name] for task in figures])
        assert abs(mean - PAPER_MEANS[name]) < 0.25, f"{name}: {mean:.2f}, AdA {PAPER_MEANS[name]:.2f}"


def test_held_out_tasks_have_the_same_means() -> None:
    source, rng = TaskSource(Environment()), np.random.default_rng(1)
    figures = [source.metrics(source.draw(rng, held_out=True)) for _ in range(1500)]
    for name in METRICS:
        mean = np.mean([task[name] for task in figures])
        assert abs(mean - PAPER_MEANS[name]) < 0.35, f"{name}: {mean:.2f}, AdA {PAPER_MEANS[name]:.2f}"


def test_a_number_means_the_same_task_whatever_was_drawn_before() -> None:
    first, second = Generator(Environment()), Generator(Environment())
    numbers = [0, 1, 24_999_999_999, 123_456_789]
    ours = [fingerprint(first.task(number)) for number in numbers]
    theirs = [fingerprint(second.task(number)) for number in reversed(numbers)]
    assert ours == theirs[::-1]


def test_tasks_of_one_world_share_it_and_tasks_of_one_game_share_rules() -> None:
    environment = Environment(task_pool=TaskPool(worlds=10, games=100))
    generator = Generator(environment)
    a, b, c = (generator.task(number) for number in (307, 342, 807))
    assert a.world.tiles.tobytes() == b.world.tiles.tobytes()
    assert a.game != b.game
    assert a.game == c.game
    assert a.world.tiles.tobytes() != c.world.tiles.tobytes()


def test_no_held_out_world_or_game_occurs_in_training() -> None:
    # Tiny worlds with tiny games, so that both sides would meet if nothing kept them apart.
    environment = Environment(
        world=WorldRanges(size=IntRange(min=6, max=6), levels=IntRange(min=1, max=1)),
        game=GameRanges(
            rules=IntRange(min=0, max=0), distractors=IntRange(min=0, max=0), dead_ends=IntRange(min=0, max=0)
        ),
    )
    training, held_out = (drawn(environment, 1500, held_out=side) for side in (False, True))
    goals = [{each.task.game.goals for each in side} for side in (training, held_out)]
    worlds = [{each.task.world.tiles.tobytes() for each in side} for side in (training, held_out)]
    assert goals[0].isdisjoint(goals[1])
    assert worlds[0].isdisjoint(worlds[1])
    assert min(len(side) for side in (*goals, *worlds)) > 5


def test_the_ranges_of_the_experiment_are_kept() -> None:
    environment = Environment(
        world=WorldRanges(size=IntRange(min=10, max=12), levels=IntRange(min=2, max=3), wall_density=0.3),
        game=GameRanges(
            rules=IntRange(min=8, max=8),
            distractors=IntRange(min=3, max=4),
            dead_ends=IntRange(min=5, max=8),
            hiding_probability=0.0,
        ),
        trial_seconds=[20],
    )
    for generated in drawn(environment, 100):
        task = generated.task
        assert 10 <= task.world.size <= 12
        assert task.world.levels.max() <= 2
        assert len(generated.plan) == 8
        assert len(task.game.rules) <= MAX_RULES
        assert task.trial_timesteps == 150
        assert task.game.hidings == (Hiding(),)
        kinds = {e for rule in task.game.rules for e in (rule.condition.first, rule.condition.second, *rule.spawns)}
        assert all(kind < NUM_OBJECT_TYPES or kind == PLAYER_1 for kind in kinds)


def test_frozen_objects_are_never_what_must_be_held_or_both_of_what_must_meet() -> None:
    environment = Environment(game=GameRanges(frozen_probability=0.7))
    some_frozen = 0
    for generated in drawn(environment, 200):
        task = generated.task
        frozen = {thing.type for thing in task.objects if thing.frozen}
        some_frozen += bool(frozen)
        for condition in (*task.game.goals, *(task.game.rules[index].condition for index in generated.plan)):
            assert not (condition.relation == Relation.HOLD and condition.second in frozen)
            assert not {condition.first, condition.second} <= frozen
    assert some_frozen > 100


def test_two_players_share_the_goal_but_not_what_is_hidden() -> None:
    tasks = [generated.task for generated in drawn(Environment(players=2), 200)]
    assert all(task.game.goals[0] == task.game.goals[1] for task in tasks)
    assert sum(task.game.hidings[0] != task.game.hidings[1] for task in tasks) > 100
    named = {rule.condition.first for task in tasks for rule in task.game.rules}
    assert {PLAYER_1, PLAYER_2} <= named


def test_metrics_of_a_task_drawn_by_hand() -> None:
    text = """\
room 6x6
trial 4 s
object black cube anywhere
object black sphere anywhere
objects 2 yellow wall anywhere
goal near(player, yellow pyramid)
rule touching(player, black cube) -> purple cube
rule hold(player, purple cube) -> yellow pyramid
hidden rule touching(black cube, black sphere) -> black wall
rule near(black sphere, purple sphere) -> nothing
hide purple cube
"""
    figures = metrics_of(read_template("hand", text).task(0), trials=3)
    expected = (4, 3, 2, 2, 2, 1, 4, 2, 1, 1, 0, 1)
    assert figures == dict(zip(METRICS, map(float, expected), strict=True))


def test_a_goal_nobody_can_reach_has_no_plan() -> None:
    text = "room 6x6\ntrial 4 s\ngoal near(player, black cube)\nrule near(player, black wall) -> black cube\n"
    task = read_template("lost", text).task(0)
    assert shortest_plan(task) is None
    assert task.game.goals[0] == Predicate(Relation.NEAR, PLAYER_1, 3)


def test_there_are_more_distinct_tasks_than_the_paper_counts() -> None:
    assert distinct_tasks(Environment()) > 10**40


def test_the_count_is_the_number_of_games_where_that_can_be_enumerated() -> None:
    environment = Environment(
        world=WorldRanges(size=IntRange(min=6, max=6), levels=IntRange(min=1, max=1), wall_density=0.4),
        game=GameRanges(
            rules=IntRange(min=0, max=0),
            distractors=IntRange(min=0, max=0),
            dead_ends=IntRange(min=0, max=0),
            hiding_probability=0,
        ),
    )
    assert distinct_worlds(environment) == 2**4, "walls on any of the four spots (1, 1), (1, 3), (3, 1), (3, 3)"
    tasks = [each.task for side in (False, True) for each in drawn(environment, 2500, held_out=side)]
    with_player = {task.game.goals for task in tasks if task.game.goals[0].first == PLAYER_1}
    assert len(with_player) == distinct_games(environment) == 4 * 2 * 12


def test_worlds_too_small_for_their_games_are_refused() -> None:
    crowded = Environment(
        world=WorldRanges(size=IntRange(min=6, max=6), levels=IntRange(min=1, max=2), wall_density=0.1),
        game=GameRanges(rules=IntRange(min=3, max=3)),
    )
    generator = Generator(crowded)
    with pytest.raises(ValueError, match="has room for what its game needs: allow larger worlds"):
        for number in range(20):
            generator.task(number)


@pytest.mark.parametrize("players", [1, 2])
def test_a_generated_task_brings_the_numbers_that_its_objects_hold(players):
    source, rng = TaskSource(Environment(players=players)), np.random.default_rng(3)
    for _ in range(300):
        task = source.task(source.draw(rng, held_out=False))
        assert task.numbers == numbers_of(task, players)
    assert dataclasses.replace(task, name="another").numbers is None
