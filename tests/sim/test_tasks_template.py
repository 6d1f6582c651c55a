"""Tasks written as text: what can be said, what is drawn from it, and how mistakes are pointed out."""

import math
import random
from pathlib import Path

import pytest

from ada_sim.tasks.lexer import TemplateError
from ada_sim.tasks.task import PLAYER_1, PLAYER_2, Predicate, ProductionRule, Relation, Task, Tile
from ada_sim.tasks.template import NothingHeldOutError, TemplateTasks, read_template

EXAMPLES = Path(__file__).parents[2] / "examples" / "templates"
BLACK_CUBE, BLACK_SPHERE, YELLOW_CUBE = 3, 6, 5

MINIMAL = """\
room 6x6
trial 4 s
goal near(player, black cube)
"""


def example(name: str, key: int = 0) -> TemplateTasks:
    return read_template(name, (EXAMPLES / f"{name}.task").read_text(), key)


def layout_of(task: Task) -> tuple[tuple[float, float], ...]:
    points = (*task.spawns, *((thing.x, thing.y) for thing in task.objects))
    return tuple((round(x, 1), round(y, 1)) for x, y in points)


def test_one_try_says_what_its_text_says() -> None:
    task = example("one-try").task(7)
    x, y = (thing.type for thing in task.objects)
    goal = task.game.goals[0].second
    wrong = task.game.rules[1].spawns[1]
    assert len({x, y, goal, wrong}) == 4
    assert task.game.goals == (Predicate(Relation.NEAR, PLAYER_1, goal),)
    assert task.game.rules == (
        ProductionRule(Predicate(Relation.TOUCHING, PLAYER_1, x), (x, goal)),
        ProductionRule(Predicate(Relation.TOUCHING, PLAYER_1, y), (y, wrong)),
        ProductionRule(Predicate(Relation.SEE, wrong, x), ()),
    )
    assert task.game.hidings[0].rules == {0, 1, 2}
    assert task.trial_timesteps == 30
    assert task.name == "one-try"
    assert (task.world.tiles == Tile.FLOOR).sum() == 16


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.task")))
def test_every_example_draws_training_and_held_out_tasks(name: str) -> None:
    tasks = example(name)
    assert tasks.has_held_out
    for number in range(20):
        for held_out in (False, True):
            task = tasks.task(number, held_out)
            for i, j in ((int(x), int(y)) for x, y in layout_of(task)):
                assert task.world.tiles[i, j] == Tile.FLOOR


def test_the_same_number_always_means_the_same_task() -> None:
    first, second = example("one-try", key=5), example("one-try", key=5)
    second.task(123)
    for number in (0, 1, 2**47):
        for held_out in (False, True):
            ours, theirs = first.task(number, held_out), second.task(number, held_out)
            assert (ours.game, ours.objects, ours.spawns) == (theirs.game, theirs.objects, theirs.spawns)


def test_another_seed_draws_other_tasks() -> None:
    assert example("one-try", key=1).task(0).objects != example("one-try", key=2).task(0).objects


def test_no_held_out_game_or_layout_occurs_in_training() -> None:
    tasks = example("one-try")
    training = [tasks.task(number) for number in range(1500)]
    held_out = [tasks.task(number, held_out=True) for number in range(300)]
    assert not {(t.game.goals, t.game.rules) for t in training} & {(t.game.goals, t.game.rules) for t in held_out}
    assert not {layout_of(t) for t in training} & {layout_of(t) for t in held_out}
    assert len({t.game for t in held_out}) > 200


def test_a_small_choice_of_places_is_split_too() -> None:
    text = MINIMAL.replace("room 6x6", "world\n  #######\n  #abcde#\n  #fghij#\n  #######\n") + (
        "p, q: distinct places among a, b, c, d, e, f, g, h, i, j\nobject black cube at p\nplayer at q\n"
    )
    tasks = read_template("places", text)
    training = {layout_of(tasks.task(number)) for number in range(400)}
    held_out = {layout_of(tasks.task(number, held_out=True)) for number in range(200)}
    assert training.isdisjoint(held_out)
    assert len(training) + len(held_out) <= 90


def test_a_template_with_one_task_only_refuses_to_hold_it_out() -> None:
    text = MINIMAL + "object black cube at 1, 1\nplayer at 4, 4\n"
    tasks = read_template("fixed", text)
    assert not tasks.has_held_out
    assert tasks.task(0).objects == tasks.task(99).objects
    with pytest.raises(NothingHeldOutError, match=r"template fixed .*add variables"):
        tasks.task(0, held_out=True)


def test_things_anywhere_keep_apart_and_off_the_walls() -> None:
    text = MINIMAL + "objects 3 black sphere anywhere\nobject black cube anywhere\n"
    tasks = read_template("apart", text)
    for number in range(100):
        task = tasks.task(number)
        points = [*task.spawns, *((thing.x, thing.y) for thing in task.objects)]
        size = task.world.size
        assert all(1.6 <= part <= size - 1.6 for point in points for part in point)
        assert all(math.dist(a, b) >= 1.1 for a in points for b in points if a is not b)


def test_a_world_without_room_is_refused_with_a_remedy() -> None:
    with pytest.raises(ValueError, match=r"no room for 13 players and objects.*make the world larger"):
        read_template("crowd", MINIMAL.replace("6x6", "3x3") + "objects 12 black sphere anywhere\n")


WORLD = """\
world
  #########
  #..>11A##
  #..##^~##
  #B.....b#
  #########
trial 4 s
goal near(player, black cube)
"""


@pytest.mark.parametrize("place", ["6, 1", "99, 99"])
def test_a_point_that_is_not_on_floor_is_refused(place: str) -> None:
    with pytest.raises(ValueError, match=f"`at {place}` is not on floor"):
        read_template("outside", MINIMAL + f"object black cube at {place}\n")


def test_garbled_templates_are_refused_and_never_crash() -> None:
    rng = random.Random(0)
    text = (EXAMPLES / "find.task").read_text() + "hide G\nrule touching(player, D) -> G, D\n"
    refused = 0
    for _ in range(400):
        at, cut = rng.randrange(len(text)), rng.randrange(6)
        garbled = text[:at] + rng.choice([" G ", ",", "#", "(", " 3 ", "\n", "v", "é", "->"]) + text[at + cut :]
        try:
            read_template("garbled", garbled)
        except ValueError as error:
            assert str(error).startswith("template garbled")
            refused += 1
    assert 0 < refused < 400


def test_a_drawing_becomes_tiles_levels_and_places() -> None:
    drawing = read_template("drawn", WORLD).template.drawing
    tiles, levels = drawing.world.tiles, drawing.world.levels
    assert drawing.world.size == 9, "worlds are square: a shorter side is filled up with walls"
    assert (tiles[:, 5:] == Tile.WALL).all()
    assert tiles[:, 3].tolist() == [1, 0, 0, Tile.RAMP_EAST, 0, 0, 0, 1, 1]
    assert levels[1:7, 3].tolist() == [0, 0, 0, 1, 1, 1]
    assert levels[7, 3] == 1, "a wall is as high as the highest ground beside it"
    assert tiles[:, 2].tolist() == [1, 0, 0, 1, 1, Tile.RAMP_NORTH, Tile.PIT, 1, 1]
    assert drawing.places == {"A": ((6, 3),), "B": ((1, 1),), "b": ((7, 1),)}


def test_what_stands_anywhere_is_within_reach_of_the_player() -> None:
    text = WORLD + "player at b\nobject black cube anywhere\nobject black sphere at A, frozen\n"
    island = text.replace("#..>11A##", "#..#11A##").replace("##^~##", "####~##")
    for number in range(30):
        (cube, sphere), spawns = read_template("island", island).task(number).objects, (7.5, 1.5)
        assert cube.y < 4 and cube.x < 9 and (cube.x < 4 or cube.y < 2)
        assert (sphere.x, sphere.y, sphere.frozen) == (6.5, 3.5, True)
        assert read_template("island", island).task(number).spawns == (spawns,)


def test_different_type_expressions_never_mean_the_same_type() -> None:
    text = MINIMAL + "X, Y: distinct types among cube\nC: colour\nobject X anywhere\nobject C sphere anywhere\n"
    text += "rule near(player, Y) -> black sphere\n"
    tasks = read_template("distinct", text)
    for number in range(60):
        task = tasks.task(number)
        x, sphere = (thing.type for thing in task.objects)
        y = task.game.rules[0].condition.second
        assert {x, y} == {4, 5}, "black cube is named by the goal, so no variable means it"
        assert sphere in (7, 8)


def test_counts_and_durations_are_drawn_from_what_is_given() -> None:
    text = MINIMAL.replace("trial 4 s", "trial 4 or 10 s") + "n: number 1 to 3\n"
    text += "objects n black cube anywhere\nobjects n black sphere anywhere\n"
    tasks = read_template("counts", text)
    drawn = [tasks.task(number) for number in range(60)]
    assert {task.trial_timesteps for task in drawn} == {30, 75}
    counts = {tuple(sorted(thing.type for thing in task.objects)) for task in drawn}
    assert counts == {tuple([BLACK_CUBE] * n + [BLACK_SPHERE] * n) for n in (1, 2, 3)}


def test_hiding_can_differ_between_players() -> None:
    text = (
        MINIMAL
        + """\
player 1 anywhere
player 2 anywhere
goal of player 2: not see(player 2, yellow cube)
rule touching(player 1, yellow cube) -> black cube
rule hold(player 2, black cube) -> nothing
hide rule 1 from player 1
hide predicate of rule 2 from player 2
hide yellow cube from player 2
"""
    )
    game = read_template("pair", text).task(0).game
    assert game.goals[1] == Predicate(Relation.SEE, PLAYER_2, YELLOW_CUBE, negated=True)
    first, second = game.hidings
    assert (first.rules, first.objects, first.predicates) == ({0}, (), ())
    assert (second.rules, second.objects, second.predicates) == (frozenset(), (YELLOW_CUBE,), (1,))


MISTAKES = {
    "an-unknown-statement-lists-those-there-are": ("colour black", 4, 1, "expected a statement (apart, goal"),
    "an-unknown-type-names-the-variables": (
        "X: type\nobject Z anywhere",
        5,
        8,
        "expected an object type such as `black cube`, one of the variables X, found `Z`",
    ),
    "a-missing-bracket-is-pointed-at": (
        "rule touching(player, black cube -> nothing",
        4,
        34,
        "expected `)` after the second argument, found `->`",
    ),
    "a-missing-arrow-is-pointed-at": ("rule near(player, black cube)", 4, 30, "expected `->`"),
    "an-unknown-relation-lists-all": ("rule on(player, black cube) -> nothing", 4, 6, "touching, near, hold, see"),
    "an-unknown-place-lists-those-drawn": ("object black cube at Q", 4, 22, "no place `Q` is drawn or declared"),
    "a-rule-makes-at-most-four-objects": (
        "rule near(player, black cube) -> black wall, black wall, black wall, black wall, black wall",
        4,
        82,
        "at most 4 objects",
    ),
    "only-players-hold": ("rule hold(black cube, black wall) -> nothing", 4, 11, "only players hold"),
    "a-player-must-have-a-place": ("rule near(player 2, black cube) -> nothing", 4, 11, "add `player 2 anywhere`"),
    "a-hidden-rule-must-exist": ("hide rule 1", 4, 11, "there is no rule 1; the template has 0"),
    "text-after-the-end-is-refused": ("object black cube anywhere twice", 4, 28, "expected the end of the line"),
    "a-strange-character-is-refused": ("object black cube @ 3", 4, 19, "found `@`"),
    "a-second-world-is-refused": ("room 5x5", 4, 1, "has a world already"),
    "a-variable-is-declared-once": ("X: type\nX: type", 5, 1, "`X` already means something"),
    "too-many-distinct-colours": ("A, B, C, D: distinct colours", 4, 22, "4 distinct colours can't be drawn from 3"),
}


@pytest.mark.parametrize(("text", "line", "column", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_pointed_at(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        read_template("mistake", MINIMAL + text + "\n")
    error = caught.value
    assert (error.line, error.column) == (line, column), str(error)
    assert message in str(error)
    shown, caret = str(error).splitlines()[1:]
    assert shown.strip() == text.splitlines()[-1]
    assert caret.index("^") == 3 + column


BAD_DRAWINGS = {
    "an-open-edge": ("  ####\n  #...\n  ####", 2, 6, "the outer edge must be wall"),
    "an-unknown-character": ("  ####\n  #?.#\n  ####", 2, 4, "expected one of"),
    "a-ramp-to-nowhere": ("  #####\n  #.>.#\n  #####", 2, 5, "rises from level 0; expected floor of level 1"),
    "a-ramp-without-foot": ("  #####\n  ##>1#\n  #####", 2, 5, "a ramp needs floor"),
    "a-place-between-levels": ("  #####\n  #.A1#\n  #####", 2, 5, "levels 0 and 1; expected one level"),
    "ramps-in-a-circle": ("  ######\n  #>v###\n  #^<###\n  ######", 2, 4, "a ramp needs floor"),
}


@pytest.mark.parametrize(("drawing", "line", "column", "message"), BAD_DRAWINGS.values(), ids=BAD_DRAWINGS.keys())
def test_a_mistake_in_a_drawing_is_pointed_at(drawing: str, line: int, column: int, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        read_template("mistake", f"world\n{drawing}\ntrial 4 s\ngoal near(player, black cube)\n")
    assert (caught.value.line - 1, caught.value.column) == (line, column), str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("statement", ["room 6x6", "trial 4 s", "goal near(player, black cube)"])
def test_what_every_template_needs_is_asked_for(statement: str) -> None:
    with pytest.raises(TemplateError, match=r"expected (a world|a goal|the length of a trial)"):
        read_template("short", MINIMAL.replace(statement, ""))
