"""Tasks by number, from pool and templates; in words; and the command line that shows them."""

import json
from pathlib import Path

import numpy as np
import pytest

from ada_api.environment import Environment, IntRange, TaskPool, TaskTemplate
from ada_sim.tasks.cli import main
from ada_sim.tasks.metrics import METRICS
from ada_sim.tasks.source import HELD_OUT_BIT, TaskSource
from ada_sim.tasks.template import read_template
from ada_sim.tasks.words import describe

EXAMPLES = Path(__file__).parents[2] / "examples" / "templates"
ONE_TRY = (EXAMPLES / "one-try.task").read_text()
FIXED = "room 6x6\ntrial 4 s\nobject black cube at 1, 1\nplayer at 4, 4\ngoal near(player, black cube)\n"


def mixed(*templates: tuple[str, float, str], generated_weight: float = 1.0, **fields: object) -> Environment:
    parts = [TaskTemplate(name=name, weight=weight, text=text) for name, weight, text in templates]
    return Environment(templates=parts, generated_weight=generated_weight, **fields)


def test_sources_are_drawn_by_weight() -> None:
    source = TaskSource(mixed(("a", 2.0, ONE_TRY), ("b", 1.0, ONE_TRY)))
    rng = np.random.default_rng(0)
    names = [source.task(source.draw(rng, held_out=False)).name for _ in range(2000)]
    shares = {name: names.count(name) / len(names) for name in set(names)}
    assert shares == pytest.approx({"": 0.25, "a": 0.5, "b": 0.25}, abs=0.05)


def test_held_out_numbers_have_bit_63_set_and_fit_64_bits() -> None:
    source, rng = TaskSource(mixed(("a", 1.0, ONE_TRY))), np.random.default_rng(0)
    for held_out in (False, True):
        numbers = [source.draw(rng, held_out) for _ in range(200)]
        assert all(bool(number & HELD_OUT_BIT) == held_out for number in numbers)
        assert all(np.uint64(number) == number for number in numbers)


def test_a_task_is_the_same_after_the_cache_forgot_it() -> None:
    environment = mixed(("a", 1.0, ONE_TRY))
    source, rng = TaskSource(environment), np.random.default_rng(3)
    numbers = [source.draw(rng, held_out=bool(i % 2)) for i in range(20)]
    before = [source.task(number) for number in numbers]
    source._cache.clear()
    for number, task in zip(numbers, before, strict=True):
        again = source.task(np.uint64(number))
        assert again is not task
        assert (again.game, again.objects, again.spawns) == (task.game, task.objects, task.spawns)


def test_generated_weight_zero_draws_templates_only() -> None:
    source, rng = TaskSource(mixed(("a", 1.0, ONE_TRY), generated_weight=0)), np.random.default_rng(0)
    assert {source.task(source.draw(rng, held_out=True)).name for _ in range(50)} == {"a"}


def test_a_fixed_template_is_trained_on_but_never_held_out() -> None:
    source, rng = (
        TaskSource(mixed(("fixed", 1.0, FIXED), ("a", 1.0, ONE_TRY), generated_weight=0)),
        (np.random.default_rng(0)),
    )
    assert {source.task(source.draw(rng, held_out=False)).name for _ in range(50)} == {"fixed", "a"}
    assert {source.task(source.draw(rng, held_out=True)).name for _ in range(50)} == {"a"}


def test_nothing_to_hold_out_is_said_with_a_remedy() -> None:
    source = TaskSource(mixed(("fixed", 1.0, FIXED), generated_weight=0))
    with pytest.raises(ValueError, match=r"no held-out tasks.*\(fixed\).*add variables"):
        source.draw(np.random.default_rng(0), held_out=True)


def test_nothing_to_draw_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="generatedWeight is 0 and there are no templates"):
        TaskSource(Environment(generated_weight=0))


def test_a_template_for_another_number_of_players_is_refused() -> None:
    with pytest.raises(ValueError, match=r"template a is for 1 player\(s\), environment.players is 2"):
        TaskSource(mixed(("a", 1.0, ONE_TRY), players=2))


def test_a_number_beyond_the_pool_is_refused() -> None:
    source = TaskSource(Environment(task_pool=TaskPool(worlds=2, games=3)))
    assert source.task(5).objects
    with pytest.raises(ValueError, match="task 6 is not in the pool of 2 worlds x 3 games"):
        source.task(6)
    with pytest.raises(ValueError, match="the experiment has 0"):
        source.task(1 << 62)


def test_trials_belong_to_the_number_and_cover_the_range() -> None:
    environment = Environment(trials=IntRange(min=2, max=6))
    ours, theirs = TaskSource(environment), TaskSource(environment)
    counts = [ours.trials(number) for number in range(3000)]
    assert counts == [theirs.trials(number) for number in range(3000)]
    assert np.bincount(counts)[2:].min() > 500
    assert set(counts) == {2, 3, 4, 5, 6}


def test_another_seed_is_another_pool() -> None:
    first, second = (TaskSource(Environment(task_pool=TaskPool(seed=seed))) for seed in (1, 2))
    assert first.task(7).game != second.task(7).game


WORDS = """\
room 6x6
trial 4 s
player 1 anywhere
player 2 anywhere
goal not near(black cube, yellow wall)
goal of player 2: hold(player 2, black cube)
rule touching(player 1, black cube) -> yellow wall, black sphere
hidden rule see(black cube, black sphere) -> nothing
rule not see(player 1, player 2) -> purple wall
rule near(player 2, black cube) -> nothing
hide black cube from player 2
hide predicate of rule 3 from player 2
"""


def test_goal_and_rules_become_sentences() -> None:
    words = describe(read_template("words", WORDS).task(0), player=0)
    assert words.goal == "See to it that no black cube is near any yellow wall."
    assert words.rules == (
        "When you touch a black cube, it becomes a yellow wall and a black sphere.",
        "[When a black cube is in view of a black sphere, both vanish.]",
        "When you don't see the other player, there appears a purple wall.",
        "When the other player is near a black cube, it vanishes.",
    )
    assert words.shown[1] == "There is a rule."
    assert words.hidden == (False, True, False, False)


def test_hidden_parts_are_marked_and_not_shown() -> None:
    words = describe(read_template("words", WORDS).task(0), player=1)
    assert words.goal == "Hold a black cube."
    assert (
        words.rules[0] == "When the other player touches a [black cube], it becomes a yellow wall and a black sphere."
    )
    assert words.shown[0] == "When the other player touches <object 1>, it becomes a yellow wall and a black sphere."
    assert words.rules[2] == "When the other player [doesn't see] you, there appears a purple wall."
    assert words.shown[2] == "When the other player <predicate 1> you, there appears a purple wall."
    assert words.hidden == (True, True, True, True)


def test_stats_prints_the_twelve_means(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "--count", "50", "--json"]) == 0
    means = json.loads(capsys.readouterr().out)["means"]
    assert tuple(means) == METRICS
    assert main(["stats", "--count", "5"]) == 0
    assert "AdA" in capsys.readouterr().out


def test_show_says_a_task_in_words_and_draws_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "12345"]) == 0
    shown = capsys.readouterr().out
    assert "Goal: " in shown
    assert "@ player 1" in shown
    assert shown.count("####") > 1


def test_show_writes_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "task.png"
    assert main(["show", "12345", "--png", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["show", "12345", "--png", str(tmp_path / "missing" / "task.png")]) == 2


def test_check_accepts_the_examples_and_points_at_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in EXAMPLES.glob("*.task"):
        assert main(["check", str(path)]) == 0
    wrong = tmp_path / "wrong.task"
    wrong.write_text("room 6x6\ntrial 4\n")
    assert main(["check", str(wrong)]) == 2
    assert "template wrong, line 2, column 8: expected `s` (seconds)" in capsys.readouterr().err
    wrong.write_text(FIXED.replace("black cube)", "yellow cube)"))
    assert main(["check", str(wrong)]) == 0
    assert "no sequence of rules" in capsys.readouterr().out


def test_an_experiment_that_cannot_be_read_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "--experiment", str(tmp_path / "missing.yaml")]) == 2
    assert "missing.yaml" in capsys.readouterr().err
