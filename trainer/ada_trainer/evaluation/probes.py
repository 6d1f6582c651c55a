"""The probe tasks, one by one: hand-drawn, never trained on, each known by its name (AdA, appendix F)."""

from collections.abc import Callable, Sequence

import numpy as np

from ada_api.environment import Environment, TaskTemplate
from ada_sim.tasks.probes import probe_names, probe_text
from ada_sim.tasks.source import TaskSource, template_task
from ada_trainer.evaluation.episodes import Policy, play

EPISODES = 16  # a probe task and number of trials; they differ in where players look at first


def probe_environment(environment: Environment) -> Environment:
    """Return the environment with the probe tasks for its number of players, and no others."""
    names = probe_names(environment.players)
    templates = [TaskTemplate(name=name, text=probe_text(name), weight=1.0) for name in names]
    return environment.model_copy(update={"templates": templates, "generated_weight": 0.0})


def play_probes(
    environment: Environment, trials: Sequence[int], make_policy: Callable[[int], Policy], seed: int
) -> dict[str, dict[int, np.ndarray]]:
    """Return last-trial scores, float64 [EPISODES], by probe task and number of trials.

    Args:
        environment: the experiment's; the probe tasks take the place of its tasks.
        trials: numbers of trials of an episode.
        make_policy: returns the policy to play with, for a seed.
        seed: of the episodes.
    """
    probes = probe_environment(environment)
    source = TaskSource(probes)
    names = [template.name for template in probes.templates]
    tasks = np.repeat(np.array([template_task(index) for index in range(len(names))], np.uint64), EPISODES)
    scores: dict[str, dict[int, np.ndarray]] = {name: {} for name in names}
    for k in sorted(set(trials)):
        last = play(probes, source, tasks, k, make_policy(seed + k), seed=seed * 64 + k)[:, -1]
        for name, some in zip(names, last.reshape(len(names), EPISODES), strict=True):
            scores[name][k] = some
    return scores
