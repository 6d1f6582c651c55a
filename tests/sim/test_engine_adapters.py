"""Other libraries' own checks, on our task space behind their interfaces."""

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test

from ada_api.environment import Environment, IntRange
from ada_sim.adapters.gymnasium import TaskSpaceVectorEnv
from ada_sim.adapters.pettingzoo import TaskSpaceParallelEnv

SMALL = {"observation": "symbolic", "trials": IntRange(min=1, max=2), "trial_seconds": [1]}


def test_pettingzoo_accepts_the_parallel_environment() -> None:
    parallel_api_test(TaskSpaceParallelEnv(Environment(players=2, **SMALL)), num_cycles=40)


def test_the_parallel_environment_repeats_itself_from_a_seed() -> None:
    runs = []
    for _ in range(2):
        env = TaskSpaceParallelEnv(Environment(players=2, **SMALL))
        first, _ = env.reset(seed=5)
        second = env.step({"player_1": np.array([2, 1, 4, 1, 0, 1])})[0]
        runs.append((first, second))
    for once, again in zip(*runs, strict=True):
        for agent in ("player_1", "player_2"):
            assert all(np.array_equal(once[agent][name], again[agent][name]) for name in once[agent])


def test_gymnasium_spaces_hold_every_observation_and_episodes_follow_one_another() -> None:
    env = TaskSpaceVectorEnv(3, Environment(**SMALL))
    observation, _ = env.reset(seed=1)
    env.action_space.seed(1)
    ended = 0
    just_ended = np.zeros(3, bool)
    for _ in range(40):
        assert env.observation_space.contains(observation)
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        assert (observation["trial_start"][just_ended] == 1).all(), "an episode starts one step after the last ended"
        assert not reward[just_ended].any()
        assert not truncated.any()
        just_ended = terminated
        ended += int(terminated.sum())
    assert ended >= 3
    env.close()


def test_a_vector_environment_of_two_players_is_refused() -> None:
    with pytest.raises(ValueError, match=r"environment\.players is 2"):
        TaskSpaceVectorEnv(1, Environment(players=2, **SMALL))
