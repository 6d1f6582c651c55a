"""The probe tasks in an evaluation: all of them, each under its own name, and the same again for the same seed."""

import numpy as np
import pytest

from ada_api.environment import Environment
from ada_sim.tasks.probes import probe, probe_names
from ada_sim.tasks.source import TaskSource, template_task
from ada_trainer.evaluation.policies import NoopPolicy, RandomPolicy
from ada_trainer.evaluation.probes import EPISODES, play_probes, probe_environment
from ada_trainer.evaluation.program import table
from ada_trainer.evaluation.result import AGENT, Evaluation


@pytest.mark.parametrize("players", [1, 2])
def test_the_tasks_are_the_probe_tasks_by_their_names(players: int) -> None:
    environment = probe_environment(Environment(observation="symbolic", players=players))
    source = TaskSource(environment)
    assert [template.name for template in environment.templates] == list(probe_names(players))
    for index, template in enumerate(environment.templates):
        played, drawn = source.task(template_task(index)), probe(template.name)
        assert (played.game, played.objects, played.spawns) == (drawn.game, drawn.objects, drawn.spawns)
        assert (played.world.tiles == drawn.world.tiles).all()


def test_every_probe_task_is_played_often_and_the_same_way_for_the_same_seed() -> None:
    environment = Environment(observation="symbolic")
    first, again = (play_probes(environment, [1], RandomPolicy, seed=3) for _ in range(2))
    assert set(first) == set(probe_names(1))
    for name, by_trials in first.items():
        assert by_trials[1].shape == (EPISODES,)
        assert ((by_trials[1] >= 0) & (by_trials[1] <= 1)).all()
        np.testing.assert_array_equal(by_trials[1], again[name][1])
    resting = play_probes(environment, [1], lambda _: NoopPolicy(), seed=3)
    assert any((first[name][1] > resting[name][1]).any() for name in first), "nobody moved"


def test_probe_scores_survive_the_store_and_stand_in_the_table() -> None:
    scores = {AGENT: {1: np.array([0.1, 0.2])}}
    before = Evaluation("student", 100, "sha256:0", (1, 2), scores, 1.5, {"push-up": {1: np.array([0.25, 0.75])}})
    after = Evaluation.from_json(before.to_json())
    assert after.probes["push-up"][1].tolist() == [0.25, 0.75]
    assert table(after).splitlines()[-1].split() == ["push-up", "0.500"]
