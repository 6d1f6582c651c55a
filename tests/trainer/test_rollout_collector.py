"""Collecting: leases become results, and what was noted is what the learner sees again."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ada_api.environment import Environment
from ada_api.stages import AgentModel, Algorithm
from ada_curriculum.types import Lease
from ada_sim.batch import TimeStep
from ada_sim.constants import ACTION_REST
from ada_sim.observation import specification
from ada_trainer.networks.agent import AgentNetwork
from ada_trainer.rollout import Collected, Collector

SPACE = Environment(observation="symbolic", action_groups=["move", "turn"])
TRIAL_TIMESTEPS = 3
WORLDS, UNROLL = 5, 14


class CountingWorlds:
    """Worlds without physics: trials of three timesteps, each worth the task's number in hundredths."""

    def __init__(self, worlds: int, players: int = 1) -> None:
        self.shape = (worlds, players)
        self.waiting: dict[int, tuple[int, int]] = {}
        self.running: dict[int, tuple[int, int]] = {}
        self.clock = np.zeros(worlds, np.int64)
        self.rng = np.random.default_rng(0)
        self.actions: list[np.ndarray] = []
        self.tasks: list[list[int | None]] = []

    def assign(self, worlds: np.ndarray, tasks: np.ndarray, trials: np.ndarray, seeds: np.ndarray) -> None:
        for world, task, k in zip(worlds, tasks, trials, strict=True):
            assert int(world) not in self.waiting, "assigned twice"
            self.waiting[int(world)] = (int(task), int(k))

    def step(self, actions: np.ndarray) -> TimeStep:
        worlds, players = self.shape
        assert actions.shape == (worlds, players, 6) and actions.dtype == np.int8
        self.actions.append(actions.copy())
        self.tasks.append([self.running[world][0] if world in self.running else None for world in range(worlds)])
        reward = np.zeros(self.shape, np.float32)
        trial_ended = np.full(worlds, -1, np.int16)
        ended, started = np.zeros(worlds, bool), np.zeros(worlds, bool)
        for world in range(worlds):
            if world in self.running:
                task, trials = self.running[world]
                reward[world] = task / 100
                self.clock[world] += 1
                trial, rest = divmod(int(self.clock[world]), TRIAL_TIMESTEPS)
                if rest == 0:
                    trial_ended[world] = trial - 1
                    ended[world] = trial == trials
            if ended[world] or world not in self.running:
                self.running.pop(world, None)
                if world in self.waiting:
                    self.running[world] = self.waiting.pop(world)
                    self.clock[world] = 0
                    started[world] = True
        active = np.array([world in self.running for world in range(worlds)])
        return TimeStep(self.observation(), reward, trial_ended, ended, started, active)

    def observation(self) -> dict[str, np.ndarray]:
        seen = {}
        for field in specification(SPACE):
            values = self.rng.random((*self.shape, *field.shape)) * (1 if field.dtype.kind == "f" else 3)
            if field.per_episode:
                for world, (task, _) in self.running.items():
                    values[world] = 1 + task % 3
            seen[field.name] = values.astype(field.dtype)
        return seen


class Lender:
    """Numbers leases; task n is worth n hundredths, k and flags follow from it."""

    def __init__(self, limit: int = 10_000, change: Callable[[int], dict[str, object]] = lambda number: {}) -> None:
        self.given: dict[str, Lease] = {}
        self.asked: list[int] = []
        self._limit, self._change = limit, change

    def __call__(self, count: int) -> list[Lease]:
        self.asked.append(count)
        leases = []
        for _ in range(min(count, self._limit - len(self.given))):
            number = len(self.given)
            fields = {"trials": 1 + number % 3, "learn": True, "policy": "agent", **self._change(number)}
            lease = Lease(id=f"lease-{number}", task=number, seed=number, **fields)
            self.given[lease.id] = lease
            leases.append(lease)
        return leases


def network(core: str = "gru", seed: int = 1) -> AgentNetwork:
    torch.manual_seed(seed)
    built = AgentNetwork(AgentModel(core=core), specification(SPACE), SPACE.action_groups)
    with torch.no_grad():
        built.policy.weight.mul_(100)
    return built


def collector(lender: Lender, core: str = "gru", players: int = 1, **options: Any) -> tuple[Collector, CountingWorlds]:
    worlds = CountingWorlds(WORLDS, players)
    algorithm = Algorithm(unroll=UNROLL, worlds=WORLDS, discount=0.9, reward_scale=0.5)
    agent = network(core)
    return Collector(worlds, WORLDS, players, agent, algorithm, lender, seed=3, **options), worlds


def copied(collected: Collected) -> dict[str, torch.Tensor]:
    names = ("clear", "actions", "log_prob", "reward", "value", "continues", "learn")
    return {name: getattr(collected.batch, name).clone() for name in names}


@pytest.mark.parametrize("players", [1, 2])
def test_every_lease_that_ended_becomes_one_result_with_its_trials_returns(players: int) -> None:
    lender = Lender(change=lambda number: {"policy": "noop" if number % 4 == 1 else "agent"})
    ours, _ = collector(lender, players=players)
    results = [result for _ in range(6) for result in ours.collect().results]
    assert len(results) > 40
    assert len({result.lease for result in results}) == len(results)
    for result in results:
        lease = lender.given[result.lease]
        assert result.returns == pytest.approx([lease.task / 100] * lease.trials)
        assert result.timesteps == lease.trials * TRIAL_TIMESTEPS
    first = sorted(int(result.lease.removeprefix("lease-")) for result in results)[:30]
    assert first == list(range(30)), "no lease is lost"


@pytest.mark.parametrize("core", ["gru", "transformer-xl"])
def test_the_learner_sees_the_values_and_probabilities_that_acting_noted(core: str) -> None:
    ours, _ = collector(Lender(), core)
    agent = network(core)
    for _ in range(3):
        batch = ours.collect().batch
        with torch.no_grad():
            output = agent.unroll(batch.observation, batch.state, batch.clear)
        torch.testing.assert_close(output.value, batch.value[:-1], atol=1e-5, rtol=0)
        torch.testing.assert_close(agent.log_prob(output, batch.actions), batch.log_prob, atol=1e-5, rtol=0)


def test_the_last_row_of_values_is_the_first_of_the_next_unroll() -> None:
    ours, _ = collector(Lender())
    last = ours.collect().batch.value[-1].clone()
    torch.testing.assert_close(ours.collect().batch.value[0], last, atol=1e-6, rtol=0)


def test_memories_are_cleared_where_episodes_start_and_values_end_where_they_end() -> None:
    ours, _ = collector(Lender())
    noted = copied(ours.collect())
    assert noted["clear"][0].all()
    torch.testing.assert_close(noted["clear"][1:], noted["continues"][:-1] == 0)
    assert 0 < (noted["continues"] == 0).sum() < noted["continues"].numel() / 2


def test_what_may_not_be_learned_from_is_masked_and_noop_leases_rest() -> None:
    def change(number: int) -> dict[str, object]:
        return {"learn": number % 3 != 0, "policy": "noop" if number % 5 == 0 else "agent"}

    ours, worlds = collector(Lender(change=change))
    learn = ours.collect().batch.learn
    rested = 0
    for t in range(UNROLL):
        for world, task in enumerate(worlds.tasks[1 + t]):  # the step before the first unroll starts the worlds
            assert task is not None
            assert learn[t, world].item() == (task % 3 != 0 and task % 5 != 0)
            if task % 5 == 0:
                assert worlds.actions[1 + t][world, 0].tolist() == list(ACTION_REST)
                rested += 1
    assert rested > 0


def test_fitness_is_the_mean_absolute_error_of_the_last_trial_and_expects_nothing_beyond_its_end() -> None:
    ours, worlds = collector(Lender())
    collected = ours.collect()
    noted = copied(collected)
    checked = 0
    for result in collected.results:
        task = int(result.lease.removeprefix("lease-"))
        steps = [t for t in range(UNROLL) for world in range(WORLDS) if worlds.tasks[1 + t][world] == task]
        world = next(world for world in range(WORLDS) if worlds.tasks[1 + steps[0]][world] == task)
        errors = []
        for t in steps[-TRIAL_TIMESTEPS:]:
            following = 0.0 if t == steps[-1] else 0.9 * noted["value"][t + 1, world].item()
            errors.append(abs(0.5 * task / 100 + following - noted["value"][t, world].item()))
        assert result.fitness == pytest.approx(np.mean(errors), abs=1e-6)
        checked += 1
    assert checked > 5


def test_the_teacher_labels_the_students_own_observations_with_its_own_memory() -> None:
    teacher = network("transformer-xl", seed=8)
    ours, _ = collector(Lender(), teacher=teacher)
    state = teacher.initial_state(WORLDS)
    for _ in range(2):
        batch = ours.collect().batch
        with torch.no_grad():
            for t, clear in enumerate(batch.clear):
                seen = {name: field[t] for name, field in batch.observation.items()}
                expected, state = teacher.step(seen, state, clear)
                assert batch.teacher is not None
                torch.testing.assert_close(batch.teacher[t], torch.cat(expected.logits, -1), atol=1e-5, rtol=0)
    ours.stop_labelling()
    assert ours.collect().batch.teacher is None


def test_the_generators_state_decides_which_actions_are_drawn() -> None:
    one, _ = collector(Lender())
    kept = one.state_dict()["generator"].clone()
    first = one.collect().batch.actions.clone()
    again, _ = collector(Lender())
    again.load_state_dict({"generator": kept})
    assert torch.equal(again.collect().batch.actions, first)
    other, _ = collector(Lender())
    other.load_state_dict({"generator": torch.Generator().manual_seed(77).get_state()})
    assert not torch.equal(other.collect().batch.actions, first)


def test_worlds_idle_without_leases_and_the_lender_is_not_asked_again_at_every_timestep() -> None:
    lender = Lender(limit=7)
    ours, _ = collector(lender)
    collected = [ours.collect() for _ in range(3)]
    assert sum(each.timesteps for each in collected) == sum(k * TRIAL_TIMESTEPS for k in (1, 2, 3, 1, 2, 3, 1))
    assert not collected[-1].batch.learn.any()
    assert len(lender.asked) <= 8
    assert sum(len(each.results) for each in collected) == 7


def test_scores_by_trial_are_those_of_the_agents_episodes_that_ended() -> None:
    ours, _ = collector(Lender(change=lambda number: {"policy": "noop" if number % 2 else "agent"}))
    collected = ours.collect()
    played = [result for result in collected.results if int(result.lease.removeprefix("lease-")) % 2 == 0]
    for trial in range(3):
        shares = [result.returns[trial] for result in played if len(result.returns) > trial]
        assert collected.trial_counts[trial] == len(shares)
        assert collected.trial_scores[trial] == pytest.approx(sum(shares))


class LosingWorlds(CountingWorlds):
    """Loses some worlds at one step, as a simulator does that dies: they are idle and know nothing any more."""

    def __init__(self, worlds: int, lost: list[int], at: int) -> None:
        super().__init__(worlds)
        self.lost, self.at, self.renewed_now = lost, at, False
        self.dropped: set[int] = set()  # tasks

    def renewed(self) -> list[int]:
        return self.lost if self.renewed_now else []

    def step(self, actions: np.ndarray) -> TimeStep:
        self.renewed_now = len(self.actions) == self.at
        if not self.renewed_now:
            return super().step(actions)
        for world in self.lost:
            self.dropped.add(self.running.pop(world)[0])
            self.waiting.pop(world, None)
        held = {world: self.waiting.pop(world) for world in list(self.waiting)}
        answer = super().step(actions)
        self.waiting |= held
        return answer


def test_lost_worlds_drop_their_episodes_alone_and_go_on_with_others() -> None:
    lender, lost, at = Lender(), [1, 3], 8
    worlds = LosingWorlds(WORLDS, lost, at)
    algorithm = Algorithm(unroll=UNROLL, worlds=WORLDS, discount=0.9, reward_scale=0.5)
    ours = Collector(worlds, WORLDS, 1, network(), algorithm, lender, seed=3, renewed=worlds.renewed)
    first = ours.collect()
    learn, continues, step = first.batch.learn, first.batch.continues, at - 1  # the first step only starts the worlds
    for world in lost:
        assert not learn[step, world] and not continues[step, world]
        began = max((t for t in range(step) if first.batch.clear[t, world]), default=0)
        assert not learn[began : step + 1, world].any(), "nothing of the lost episode is learned from"
        assert learn[step + 2 :, world].any(), "the world goes on with another"
    for world in set(range(WORLDS)) - set(lost):
        assert learn[:, world].all()
    results = [*first.results, *(result for _ in range(5) for result in ours.collect().results)]
    for result in results:
        lease = lender.given[result.lease]
        assert result.returns == pytest.approx([lease.task / 100] * lease.trials)
        assert result.timesteps == lease.trials * TRIAL_TIMESTEPS
    reported = {int(result.lease.removeprefix("lease-")) for result in results}
    assert set(range(20)) - reported == worlds.dropped, "what was assigned and had not begun is played after all"


def test_acting_by_captured_steps_collects_what_plain_steps_collect() -> None:
    collected = []
    for captures in (False, True):
        agent = network("transformer-xl")
        if captures:
            agent.capture_steps()
        algorithm = Algorithm(unroll=UNROLL, worlds=WORLDS)
        collecting = Collector(CountingWorlds(WORLDS), WORLDS, 1, agent, algorithm, Lender(), seed=3)
        batches = []
        for _ in range(6):  # more than once around the ring
            batches.append(collecting.collect().batch)
            with torch.no_grad():  # an update: the parameters change where they lie
                for parameter in agent.parameters():
                    parameter.mul_(1.01)
        collected.append(batches)
    for plain, captured in zip(*collected, strict=True):
        assert torch.equal(plain.actions, captured.actions)
        assert torch.equal(plain.value, captured.value)
        assert torch.equal(plain.state.memory.keys, captured.state.memory.keys)


def test_only_a_transformer_xl_has_its_steps_captured() -> None:
    for core, captured in (("gru", False), ("gru-attention", False), ("transformer-xl", True)):
        agent = network(core)
        agent.capture_steps()
        assert (getattr(agent.initial_state(2).memory, "captured", None) is not None) == captured
