"""Play every held-out task for k trials and note what each trial was worth."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from ada_api.environment import Environment
from ada_sim.batch import BatchSim
from ada_sim.tasks.source import TaskSource

Clear = np.ndarray  # bool [N]: empty the memory before this timestep
Observation = dict[str, np.ndarray]


class Policy(Protocol):
    """Chooses actions for N players at once and keeps whatever memory it has."""

    def start(self, players: int) -> None:
        """Begin with empty memories for `players` players."""

    def act(self, observation: Observation, clear: Clear) -> np.ndarray:
        """Return int8 [N, 6] actions for observations that lead with [N]."""


def draw_tasks(source: TaskSource, count: int, seed: int) -> np.ndarray:
    """Draw `count` distinct held-out tasks; uint64 [count]. The same seed draws the same tasks."""
    rng = np.random.default_rng(np.random.Philox(key=seed))
    chosen: dict[int, None] = {}
    for _ in range(100 * count):
        chosen[source.draw(rng, held_out=True)] = None
        if len(chosen) == count:
            return np.array(list(chosen), dtype=np.uint64)
    raise ValueError(
        f"the experiment has only {len(chosen)} distinct held-out tasks in {100 * count} draws, "
        f"but evaluation.tasks asks for {count}: ask for fewer, or widen the templates or the pool"
    )


def play(
    environment: Environment,
    source: TaskSource,
    tasks: np.ndarray,
    trials: int,
    policy: Policy,
    *,
    seed: int,
    clear_every_trial: bool = False,
    watch: Callable[[BatchSim], None] | None = None,
) -> np.ndarray:
    """Play an episode of `trials` trials of each task; return float64 [tasks, trials], share of the trial in the goal.

    With two players, both are played by the policy and the mean of their shares counts (the tasks are cooperative).
    `clear_every_trial` empties the memory at each trial: what is left is skill without adaptation.
    `watch` is called with the simulator on every timestep before the action.
    """
    worlds = np.arange(len(tasks))
    sim = BatchSim(len(tasks), environment, source)
    seeds = np.random.default_rng(np.random.Philox(key=seed)).integers(0, 2**63, len(tasks), dtype=np.uint64)
    sim.assign(worlds, tasks, np.full(len(tasks), trials, np.int64), seeds)
    sim.reset(worlds)
    step = sim.timestep()
    players = step.reward.shape[1]
    policy.start(len(tasks) * players)
    duration = np.array([source.task(int(task)).trial_timesteps for task in tasks], np.float64)
    shares = np.zeros((len(tasks), trials))
    trial = np.zeros(len(tasks), np.int64)
    active = np.ones(len(tasks), bool)
    clear = np.ones(len(tasks), bool)
    while active.any():
        if watch is not None:
            watch(sim)
        actions = policy.act(_flatten(step.observation), np.repeat(clear, players))
        step = sim.step(actions.reshape(len(tasks), players, -1))
        shares[worlds[active], trial[active]] += step.reward.mean(axis=1)[active]
        ended = step.trial_ended >= 0
        clear = ended & clear_every_trial
        trial = np.minimum(trial + ended, trials - 1)
        active &= ~step.episode_ended
    return shares / duration[:, None]


def _flatten(observation: Observation) -> Observation:
    return {name: field.reshape(-1, *field.shape[2:]) for name, field in observation.items()}
