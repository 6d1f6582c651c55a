"""One update: what counts, what workers agree on, and that a restart changes nothing."""

import copy
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ada_api.environment import Environment
from ada_api.stages import AgentModel, Algorithm
from ada_sim.observation import specification
from ada_trainer.learner import Batch, Learner
from ada_trainer.networks.agent import AgentNetwork

_spec = importlib.util.spec_from_file_location("learner_parts", Path(__file__).with_name("learner_parts.py"))
assert _spec is not None and _spec.loader is not None
_parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_parts)
together = _parts.together
SPACE = Environment(observation="symbolic", action_groups=["move", "turn"])
ALGORITHM = Algorithm(minibatches=2, epochs=2, unroll=6, worlds=8)


def learner(algorithm: Algorithm = ALGORITHM, core: str = "gru", **options: float) -> Learner:
    torch.manual_seed(1)
    network = AgentNetwork(AgentModel(core=core), specification(SPACE), SPACE.action_groups)
    return Learner(network, algorithm, seed=4, **options)


def batch(network: AgentNetwork, seed: int = 0, T: int = 6, B: int = 8, teacher: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    observation = {}
    for field in specification(SPACE):
        values = uniform(T, B, *field.shape)
        if field.dtype.kind != "f":
            values = (values * 3).to(torch.int8)
        if field.per_episode:
            values = values[:1].expand_as(values).clone()
        observation[field.name] = values
    with torch.no_grad():
        clear = torch.zeros(T, B, dtype=torch.bool)
        clear[0] = True
        output = network.unroll(observation, network.initial_state(B), clear)
        actions = network.sample(output, generator)
        return Batch(
            observation=observation,
            clear=clear,
            actions=actions,
            log_prob=network.log_prob(output, actions),
            reward=uniform(T, B) * 0.1,
            value=torch.cat([output.value, uniform(1, B)]),
            continues=(uniform(T, B) > 0.1).float(),
            learn=torch.ones(T, B, dtype=torch.bool),
            state=network.initial_state(B),
            teacher=uniform(T, B, sum(network.choices)) * 3 if teacher else None,
        )


def worlds_of(whole: Batch, network: AgentNetwork, worlds: Tensor) -> Batch:
    fields = ("clear", "actions", "log_prob", "reward", "value", "continues", "learn")
    return replace(
        whole,
        observation={name: field[:, worlds] for name, field in whole.observation.items()},
        state=network.select(whole.state, worlds),
        **{name: getattr(whole, name)[:, worlds] for name in fields},
    )


def parameters(of: Learner) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in of.network.parameters()])


def test_timesteps_that_may_not_be_learned_from_contribute_nothing() -> None:
    one, other = learner(), learner()
    told = batch(one.network)
    told.learn[:, 2:5] = False
    spoiled = copy.deepcopy(told)
    spoiled.reward[:, 2:5] = 1e6
    spoiled.value[:, 2:5] = -1e6
    report = one.update(told, 0.0)
    other.update(spoiled, 0.0)
    assert report.learned_timesteps == 6 * 5
    torch.testing.assert_close(parameters(one), parameters(other), atol=0, rtol=0)


def test_a_batch_without_anything_to_learn_from_changes_no_parameter() -> None:
    ours = learner()
    before, nothing = parameters(ours).clone(), batch(ours.network)
    nothing.learn[:] = False
    report = ours.update(nothing, 0.0)
    assert (report.learned_timesteps, report.skipped, ours.updates) == (0, False, 1)
    assert torch.equal(parameters(ours), before)


@pytest.mark.parametrize("core", ["gru", "transformer-xl"])
def test_updates_then_a_restart_then_updates_are_the_same_bit_for_bit(core: str) -> None:
    whole, first = learner(core=core), learner(core=core)
    batches = [batch(whole.network, seed) for seed in range(4)]
    for index, each in enumerate(batches):
        whole.update(each, index / 4)
    for index in (0, 1):
        first.update(batches[index], index / 4)
    kept = copy.deepcopy(first.state_dict())
    torch.manual_seed(99)
    second = learner(core=core)
    second.load_state_dict(kept)
    for index in (2, 3):
        second.update(batches[index], index / 4)
    assert torch.equal(parameters(whole), parameters(second))
    assert second.updates == 4


@pytest.mark.parametrize("spoil", ["reward", "observation"])
def test_a_loss_that_is_not_finite_skips_the_update_and_counts_it(spoil: str) -> None:
    ours = learner()
    before, poison = parameters(ours).clone(), batch(ours.network)
    if spoil == "reward":
        poison.reward[3, 1] = float("nan")
    else:
        poison.observation["ranges"][2] = float("inf")
    report = ours.update(poison, 0.0)
    assert report.skipped and ours.skipped_updates == 1
    assert torch.equal(parameters(ours), before)
    assert not ours.update(batch(ours.network, 1), 0.0).skipped
    assert ours.skipped_updates == 1


def test_two_workers_learn_what_one_worker_learns_from_all_worlds() -> None:
    once = Algorithm(minibatches=1, epochs=1, unroll=6, worlds=8)
    alone, pair = learner(once), [learner(once), learner(once)]
    whole = batch(alone.network)
    whole.learn[:, :3] = False  # the workers' counts differ
    parts = [worlds_of(whole, alone.network, torch.arange(start, start + 4)) for start in (0, 4)]
    report = alone.update(whole, 0.0)
    reports = together(pair, parts)
    assert reports[0] == reports[1]
    assert reports[0].loss == pytest.approx(report.loss, abs=1e-5)
    assert torch.equal(parameters(pair[0]), parameters(pair[1]))
    torch.testing.assert_close(parameters(pair[0]), parameters(alone), atol=2e-6, rtol=0)


def test_all_workers_skip_when_one_of_them_has_a_loss_that_is_not_finite() -> None:
    pair = [learner(), learner()]
    before = parameters(pair[0]).clone()
    parts = [batch(pair[0].network, 0), batch(pair[0].network, 1)]
    parts[1].reward[0, 0] = float("inf")
    assert [report.skipped for report in together(pair, parts)] == [True, True]
    for each in pair:
        assert torch.equal(parameters(each), before)


def test_a_worker_with_fewer_worlds_than_minibatches_takes_part_in_all_of_them() -> None:
    four = Algorithm(minibatches=4, epochs=1, unroll=6, worlds=9)
    pair = [learner(four), learner(four)]
    parts = [batch(pair[0].network, 0), batch(pair[0].network, 1, B=1)]
    together(pair, parts)
    assert torch.equal(parameters(pair[0]), parameters(pair[1]))


def test_imitation_moves_the_policy_towards_the_teachers() -> None:
    ours = learner(ALGORITHM, distillation_weight=1.0, distillation_l2=1e-5)
    taught = batch(ours.network, teacher=True)
    taught.reward[:] = 0
    divergences = [ours.update(taught, 0.0).distillation_loss for _ in range(30)]
    assert divergences[-1] < 0.7 * divergences[0]


def test_extra_l2_pulls_parameters_to_zero_only_while_there_is_a_teacher() -> None:
    plain = learner(ALGORITHM, distillation_weight=1e-12, distillation_l2=0.0)
    pulled = learner(ALGORITHM, distillation_weight=1e-12, distillation_l2=1.0)
    taught = batch(plain.network, teacher=True)
    alone = replace(taught, teacher=None)
    plain.update(alone, 0.0)
    pulled.update(alone, 0.0)
    assert torch.equal(parameters(plain), parameters(pulled))
    plain.update(taught, 0.0)
    pulled.update(taught, 0.0)
    assert parameters(pulled).norm() < parameters(plain).norm()


def test_learning_lowers_the_loss_on_one_and_the_same_batch() -> None:
    ours = learner()
    same = batch(ours.network)
    losses = [ours.update(same, 0.0).value_loss for _ in range(12)]
    assert losses[-1] < 0.5 * losses[0]


def test_muesli_needs_a_network_with_a_model() -> None:
    with pytest.raises(ValueError, match="muesli needs a network with a model"):
        learner(Algorithm(name="muesli"))
