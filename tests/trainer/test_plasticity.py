"""Periodic resets and continual backprop: what is born again, when, what the optimiser forgets, and restarts."""

import copy
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from ada_api.stages import Algorithm, ContinualBackprop, Resets
from ada_trainer.learner import Learner
from ada_trainer.plasticity import UnitReplacement, Units, grown, least_useful, resets_due

_spec = importlib.util.spec_from_file_location("learner_parts", Path(__file__).with_name("learner_parts.py"))
assert _spec is not None and _spec.loader is not None
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)
T, B = parts.T, parts.B
HEADS = ("hidden.", "policy.", "value.", "model.policy_head.", "model.value_head.", "model.reward_head.")
PPO = Algorithm(minibatches=2, epochs=1, unroll=T, worlds=B)
OFTEN = ContinualBackprop(replacement_rate=0.05, maturity=2, utility_decay=0.9)


def born(algorithm: Algorithm) -> Learner:
    muesli = algorithm.muesli if algorithm.name == "muesli" else None
    return Learner(parts.network(muesli=muesli), algorithm, seed=4, rebuild=lambda: parts.network_anew(muesli))


def changed(algorithm: Algorithm, **options: object) -> Algorithm:
    return algorithm.model_copy(update=options)


@pytest.mark.parametrize(
    ("progress", "due"),
    [(0.0, 0), (0.19, 0), (0.2, 1), (0.59, 2), (0.8, 4), (1.0, 4)],
)
def test_four_resets_come_at_fifths_and_none_at_the_end(progress: float, due: int) -> None:
    assert resets_due(4, progress) == due


@pytest.mark.parametrize("algorithm", [PPO, parts.ALGORITHM], ids=["ppo", "muesli"])
@pytest.mark.parametrize("part", ["heads", "all"])
def test_a_reset_bears_its_part_again_and_the_optimiser_forgets_it(algorithm: Algorithm, part: str) -> None:
    ours = born(changed(algorithm, resets=Resets(times=1, part=part)))
    told = parts.batch(ours)
    ours.update(told, 0.0)
    before = copy.deepcopy(ours.state_dict())
    ours._reset_if_due(0.4)
    assert ours.resets == 0
    ours._reset_if_due(0.5)
    assert ours.resets == 1
    after = ours.state_dict()
    for name, parameter in ours.network.named_parameters():
        again = part == "all" or name.startswith(HEADS)
        assert (parameter not in ours.optimizer.state) == again, name
        key = "network" if ours.acting is ours.network else "learned"
        if not again:
            assert torch.equal(parameter, before[key][name]), name
    assert any(not torch.equal(after["network"][name], before["network"][name]) for name in before["network"])
    for one, other in zip(ours.network.parameters(), ours.acting.parameters(), strict=True):
        assert part != "all" or torch.equal(one, other), "the network that acts is born again with the learner's"
    ours._reset_if_due(0.9)
    assert ours.resets == 1, "once is once"
    assert not ours.update(told, 0.9).skipped


def test_resets_without_a_way_to_build_the_network_are_refused() -> None:
    with pytest.raises(ValueError, match="give rebuild="):
        Learner(parts.network(muesli=None), changed(PPO, resets=Resets(times=1)), seed=4)


def slow_replacement(
    utility: list[float], age: list[int], owed: float, activity: list[float], outgoing: list[float]
) -> tuple[list[int], list[float], list[int], float]:
    """Algorithm 1 of Dohare et al. (2024), a unit at a time."""
    for unit in range(len(utility)):
        age[unit] += 1
        utility[unit] = 0.9 * utility[unit] + 0.1 * activity[unit] * outgoing[unit]
    mature = [unit for unit in range(len(age)) if age[unit] > 2]
    owed += 0.05 * len(mature)
    replaced = []
    while owed >= 1 and mature:
        worst = min(mature, key=lambda unit: utility[unit] / (1 - 0.9 ** age[unit]))
        mature.remove(worst)
        replaced.append(worst)
        utility[worst], age[worst], owed = 0.0, 0, owed - 1
    return replaced, utility, age, owed


def test_units_are_replaced_as_the_algorithm_says() -> None:
    rng = np.random.default_rng(0)
    units = Units(torch.zeros(12, dtype=torch.float64), torch.zeros(12, dtype=torch.int64), 0.0)
    utility, age, owed, total = [0.0] * 12, [0] * 12, 0.0, 0
    for _ in range(60):
        activity, outgoing = rng.random(12), rng.random(12)
        units = grown(units, torch.tensor(activity), torch.tensor(outgoing), 0.9)
        chosen, units = least_useful(units, OFTEN)
        replaced, utility, age, owed = slow_replacement(utility, age, owed, activity.tolist(), outgoing.tolist())
        assert chosen.tolist() == replaced
        assert units.age.tolist() == age and units.owed == pytest.approx(owed)
        np.testing.assert_allclose(units.utility.numpy(), utility, rtol=1e-12)
        total += len(replaced)
    assert total > 10


@pytest.mark.parametrize("algorithm", [PPO, parts.ALGORITHM], ids=["ppo", "muesli"])
def test_a_replaced_unit_says_nothing_at_first_and_no_other_is_touched(algorithm: Algorithm) -> None:
    ours = born(changed(algorithm, continual_backprop=OFTEN))
    ours.update(parts.batch(ours), 0.0)
    replacement = ours._replacement
    assert isinstance(replacement, UnitReplacement)
    for name, hidden in ours.network.hidden_layers().items():
        before = copy.deepcopy((hidden.layer.weight, hidden.layer.bias, hidden.outgoing[0].weight))
        units, others = torch.tensor([3, 5]), [unit for unit in range(len(hidden.layer.bias)) if unit not in (3, 5)]
        replacement._replace(hidden, units, torch.Generator().manual_seed(1))
        assert (hidden.layer.weight[units] != before[0][units]).all() and (hidden.layer.bias[units] == 0).all(), name
        for layer in hidden.outgoing:
            assert (layer.weight[:, units] == 0).all()
            assert (ours.optimizer.state[layer.weight]["exp_avg_sq"][:, units] == 0).all()
        assert (ours.optimizer.state[hidden.layer.weight]["exp_avg"][units] == 0).all()
        assert torch.equal(hidden.layer.weight[others], before[0][others])
        assert torch.equal(hidden.outgoing[0].weight[:, others], before[2][:, others])
        assert (ours.optimizer.state[hidden.layer.weight]["exp_avg_sq"][others] != 0).any()


def test_a_units_activity_is_its_mean_over_what_was_learned_from_not_over_acting() -> None:
    ours = born(changed(PPO, continual_backprop=OFTEN))
    told, replacement, agent = parts.batch(ours), ours._replacement, ours.network
    replacement.forget_activity()
    with torch.inference_mode():
        agent.unroll(told.observation, told.state, told.clear)
    assert not any(float(activity.abs().sum()) for activity in replacement._activity.values())
    agent.unroll(told.observation, told.state, told.clear)
    with torch.no_grad():
        features = agent.unroll_memory(told.observation, told.state, told.clear)
        expected = [
            np.mean([max(0.0, float(row[unit])) for row in agent.hidden(features).flatten(0, 1)]) for unit in (0, 7)
        ]
    noted = replacement._activity["heads"]
    assert noted[-1] == T * B
    assert [float(noted[unit] / noted[-1]) for unit in (0, 7)] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"resets": Resets(times=3)}, {"resets": Resets(times=3, part="all")}, {"continual_backprop": OFTEN}],
    ids=["heads", "all", "continual-backprop"],
)
@pytest.mark.parametrize("algorithm", [PPO, parts.ALGORITHM], ids=["ppo", "muesli"])
def test_updates_a_restart_and_updates_are_the_same_bit_for_bit(algorithm: Algorithm, options: dict) -> None:
    whole, first, second = (born(changed(algorithm, **options)) for _ in range(3))
    batches = [parts.batch(whole, seed) for seed in range(6)]
    for index, each in enumerate(batches):
        whole.update(each, index / 6)
    for index in range(3):
        first.update(batches[index], index / 6)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for index in range(3, 6):
        second.update(batches[index], index / 6)
    assert torch.equal(parts.parameters(whole.network), parts.parameters(second.network))
    assert torch.equal(parts.parameters(whole.acting), parts.parameters(second.acting))
    assert second.resets == whole.resets == (3 if "resets" in options else 0)
    if "resets" not in options:
        plain = born(algorithm)
        for index, each in enumerate(batches):
            plain.update(each, index / 6)
        assert not torch.equal(parts.parameters(plain.network), parts.parameters(whole.network)), "units were replaced"


def test_two_workers_replace_the_same_units() -> None:
    pair = [born(changed(PPO, continual_backprop=OFTEN)) for _ in range(2)]
    batches = [parts.batch(pair[0], seed) for seed in (0, 1)]
    for _ in range(4):
        parts.together(pair, batches)
    assert torch.equal(parts.parameters(pair[0].network), parts.parameters(pair[1].network))
    assert int(pair[0]._replacement.units["heads"].age.min()) < 8, "some units are younger than the network"
