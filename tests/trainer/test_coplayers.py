"""Two players: one agent in both seats, or beside a random or a frozen co-player; who may teach or play with whom."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ada_api.environment import Environment
from ada_api.experiment import AdaExperiment
from ada_api.stages import AgentModel, Algorithm, CheckpointReference
from ada_curriculum.manifest import newest_whole
from ada_curriculum.types import Lease
from ada_sim.batch import BatchSim, TimeStep
from ada_sim.observation import specification
from ada_trainer.coplayers import CoPlayer, FrozenCoPlayer, RandomCoPlayer
from ada_trainer.evaluation.policies import BesidePolicy
from ada_trainer.exits import ConfigurationError
from ada_trainer.loop import Ending
from ada_trainer.networks.agent import AgentNetwork
from ada_trainer.rollout import Collected, Collector

_spec = importlib.util.spec_from_file_location("loop_parts", Path(__file__).with_name("loop_parts.py"))
assert _spec is not None and _spec.loader is not None
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)

SPACE = Environment(observation="symbolic", action_groups=["move", "turn"], players=2, trial_seconds=[1])
WORLDS, UNROLL = 5, 9


class Watched(BatchSim):
    """Remembers the actions of both players and what they were worth."""

    def __init__(self) -> None:
        super().__init__(WORLDS, SPACE)
        self.actions: list[np.ndarray] = []
        self.rewards: list[np.ndarray] = []

    def step(self, actions: np.ndarray) -> TimeStep:
        self.actions.append(actions.copy())
        timestep = super().step(actions)
        self.rewards.append(timestep.reward.copy())
        return timestep


def agent(seed: int = 0) -> AgentNetwork:
    torch.manual_seed(seed)
    return AgentNetwork(AgentModel(core="gru", width=32), specification(SPACE), SPACE.action_groups)


def collected(co_player: CoPlayer | None) -> tuple[Collected, np.ndarray, np.ndarray]:
    """Return a collection, and actions [T, B, 2, 6] and rewards [T, B, 2] as the simulator saw them."""
    worlds, lent = Watched(), iter(range(10_000))

    def lend(count: int) -> list[Lease]:
        return [Lease(str(n), n, 2, n, True, "agent") for n, _ in zip(lent, range(count), strict=False)]

    algorithm = Algorithm(unroll=UNROLL, worlds=WORLDS, reward_scale=1.0)
    collector = Collector(worlds, WORLDS, 2, agent(), algorithm, lend, seed=3, co_player=co_player)
    found = collector.collect()
    return found, np.stack(worlds.actions[-UNROLL:]), np.stack(worlds.rewards[-UNROLL:])


def test_in_self_play_one_agent_learns_in_both_seats() -> None:
    found, actions, rewards = collected(None)
    assert found.timesteps == 2 * WORLDS * UNROLL
    assert np.array_equal(found.batch.actions.numpy(), actions.reshape(UNROLL, 2 * WORLDS, 6))
    assert np.array_equal(found.batch.reward.numpy(), rewards.reshape(UNROLL, 2 * WORLDS))


def test_beside_a_co_player_the_agent_learns_from_its_own_seat_alone_which_alternates() -> None:
    own = agent()
    found, actions, rewards = collected(RandomCoPlayer(own.groups, own.rest.device))
    assert found.timesteps == WORLDS * UNROLL, "frames are the agent's timesteps"
    for world in range(WORLDS):
        seat = world % 2
        assert np.array_equal(found.batch.actions[:, world].numpy(), actions[:, world, seat])
        assert np.array_equal(found.batch.reward[:, world].numpy(), rewards[:, world, seat])
    others = np.stack([actions[:, world, 1 - world % 2] for world in range(WORLDS)], 1)
    assert {(int(a[0]), int(a[2])) for a in others.reshape(-1, 6)} == {(m, t) for m in range(3) for t in range(5)}
    assert (others[..., [1, 3, 4, 5]] == np.array([1, 1, 0, 1])).all(), "groups without control rest"


def test_a_frozen_co_player_plays_its_own_policy_with_its_own_memory() -> None:
    own, frozen = agent(), agent(1).requires_grad_(False)
    frozen.policy.bias[:3] = torch.tensor([0.0, 0.0, 50.0])
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    mate = FrozenCoPlayer(frozen)
    _, actions, _ = collected(mate)
    others = np.stack([actions[:, world, 1 - world % 2] for world in range(WORLDS)], 1)
    mine = np.stack([actions[:, world, world % 2] for world in range(WORLDS)], 1)
    assert (others[..., 0] == 2).all() and not (mine[..., 0] == 2).all()
    assert float(mate._state.memory.abs().sum()) > 0 and own.choices == frozen.choices
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())


def test_the_same_seed_gives_the_same_play_beside_a_co_player() -> None:
    own = agent()
    one, other = (collected(RandomCoPlayer(own.groups, own.rest.device)) for _ in range(2))
    assert np.array_equal(one[1], other[1])


def test_a_co_player_in_tasks_of_one_player_is_refused() -> None:
    own = agent()
    algorithm = Algorithm(unroll=UNROLL, worlds=WORLDS)
    with pytest.raises(ConfigurationError, match="set players to 2"):
        Collector(
            Watched(), WORLDS, 1, own, algorithm, lambda _: [], seed=3, co_player=RandomCoPlayer((0,), own.rest.device)
        )


def experiment(environment: dict[str, Any], stage: dict[str, Any]) -> AdaExperiment:
    document = parts.tiny_experiment(frames=80).model_dump(by_alias=True, mode="json", exclude_none=True)
    document["spec"]["environment"] |= environment
    document["spec"]["stages"][0] |= stage
    return AdaExperiment.model_validate(document)


def trained(directory: Path, environment: dict[str, Any], stage: dict[str, Any] | None = None) -> CheckpointReference:
    run = parts.Run(directory, experiment(environment, stage or {}))
    assert run.train()[0] is Ending.TRAINED
    found = newest_whole(run.store, "teacher")
    assert found is not None
    return CheckpointReference(uri=found.uri, digest=found.digest)


def test_a_stage_trains_beside_a_frozen_agent_of_an_earlier_run(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    pinned = trained(tmp_path / "first", {"players": 2})
    mate = {"kind": "frozen", "checkpoint": pinned.model_dump()}
    trained(tmp_path / "second", {"players": 2}, {"coPlayer": mate})
    trained(tmp_path / "third", {"players": 2}, {"coPlayer": {"kind": "random"}})


@pytest.mark.parametrize("role", ["teacher", "co-player"])
@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"observation": "pixels", "players": 2}, r"sees body|sees objects|sees pixels"),
        ({"actionGroups": ["move", "turn", "grip"], "players": 2}, r"controls \['grip', 'move', 'turn'\]"),
    ],
)
def test_one_that_sees_or_does_something_else_is_refused_before_anything_starts(
    tmp_path: Path, role: str, environment: dict[str, Any], words: str
) -> None:
    torch.set_num_threads(1)
    pinned = trained(tmp_path / "other", environment)
    mate = {"coPlayer": {"kind": "frozen", "checkpoint": pinned.model_dump()}}
    distillation = {"distillation": {"checkpoint": pinned.model_dump(), "frames": 40}}
    run = parts.Run(tmp_path / "ours", experiment({"players": 2}, mate if role == "co-player" else distillation))
    if role == "teacher":
        run.settings = parts.settings_of(run.settings.experiment, tmp_path / "ours", teacher=pinned)
    run.connect = lambda address, worlds: pytest.fail("a simulator was reached")
    with pytest.raises(ConfigurationError, match=f"the {role} ({words})"):
        run.start()
    assert not any(asked[0] in ("advance", "commit") for asked in run.curriculum.asked)


class Says:
    """Moves all its players as it was told to, and remembers how many it had."""

    def __init__(self, word: int) -> None:
        self.word, self.players, self.seen = word, 0, np.empty(0)

    def start(self, players: int) -> None:
        self.players = players

    def act(self, observation: dict[str, np.ndarray], clear: np.ndarray) -> np.ndarray:
        self.seen = observation["ranges"][:, 0]
        return np.full((len(clear), 6), self.word, np.int8)


def test_two_policies_play_beside_each_other_in_seats_that_alternate() -> None:
    first, second = Says(1), Says(2)
    both = BesidePolicy(first, second)
    both.start(6)
    actions = both.act({"ranges": np.arange(6.0)[:, None]}, np.zeros(6, bool))
    assert actions[:, 0].tolist() == [1, 2, 2, 1, 1, 2] and (first.players, second.players) == (3, 3)
    assert (first.seen.tolist(), second.seen.tolist()) == ([0, 3, 4], [1, 2, 5]), "each sees with its own eyes"
