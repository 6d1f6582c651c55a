"""Probe tasks: as many as the paper has, each readable, and no worse than solvable as far as a search can tell."""

import pytest

from ada_sim.tasks.cli import main
from ada_sim.tasks.metrics import shortest_plan
from ada_sim.tasks.probes import probe, probe_names
from ada_sim.tasks.task import Tile
from ada_sim.tasks.walking import reachable

ALL = (*probe_names(1), *probe_names(2))


def test_there_are_as_many_as_in_the_paper() -> None:
    assert (len(probe_names(1)), len(probe_names(2))) == (30, 28)


@pytest.mark.parametrize("name", ALL)
def test_a_sequence_of_rules_leads_to_the_goal(name: str) -> None:
    assert shortest_plan(probe(name)) is not None


@pytest.mark.parametrize("name", ALL)
def test_some_player_gets_to_each_object_on_foot(name: str) -> None:
    task = probe(name)
    starts = [(int(x), int(y)) for x, y in task.spawns]
    grounds = [reachable(task.world.tiles, task.world.levels, *start) for start in starts]
    for thing in task.objects:
        place = (int(thing.x), int(thing.y))
        assert task.world.tiles[place] == Tile.FLOOR
        assert any(ground[place] for ground in grounds), f"nobody reaches the object at {place}"


@pytest.mark.parametrize("name", ["same-signature-three-steps", "same-signature-two-dead-ends"])
def test_same_signature_tasks_differ_in_their_hidden_rules_only(name: str) -> None:
    first, other = probe("same-signature-match-colours"), probe(name)
    assert (first.objects, first.spawns, first.game.goals) == (other.objects, other.spawns, other.game.goals)
    assert first.game.rules != other.game.rules
    assert all(len(task.game.hidings[0].rules) == len(task.game.rules) for task in (first, other))


@pytest.mark.parametrize(
    ("hidden", "visible"),
    [
        ("irreversible-production", "irreversible-production-visible"),
        ("small-workstation", "small-workstation-visible"),
        ("overcooked-ring", "overcooked-ring-visible"),
    ],
)
def test_visible_variants_are_the_same_task_with_nothing_hidden(hidden: str, visible: str) -> None:
    ours, theirs = probe(hidden), probe(visible)
    assert ours.game.rules == theirs.game.rules
    assert ours.game.hidings[0].rules
    assert not theirs.game.hidings[0].rules


def test_probes_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probes"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 58
    assert main(["probes", "dont-peek"]) == 0
    assert "Don't see any black sphere." in capsys.readouterr().out
    assert main(["probes", "no-such-probe"]) == 2
    assert "no-such-probe" in capsys.readouterr().err
