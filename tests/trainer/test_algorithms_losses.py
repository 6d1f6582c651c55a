"""Returns and losses against slow, obvious versions in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ada_trainer.algorithms import policies
from ada_trainer.algorithms.ppo import PpoSettings, ppo_loss
from ada_trainer.algorithms.returns import generalised_advantages, td_errors
from ada_trainer.algorithms.schedule import learning_rate

SIZES = (3, 5)


def unroll(seed: int = 0, T: int = 9, B: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    reward, value = rng.random((T, B)), rng.normal(size=(T + 1, B))
    continues = (rng.random((T, B)) > 0.25).astype(float)
    return torch.from_numpy(reward), torch.from_numpy(value), torch.from_numpy(continues)


def slow_advantage(reward, value, continues, discount: float, decay: float, t: int, b: int) -> float:
    """The definition: all n-step errors from t to the end of the episode or of the unroll."""
    total = 0.0
    for i in range(t, len(reward)):
        beyond = value[i + 1, b] if continues[i, b] else 0.0
        total += (discount * decay) ** (i - t) * (reward[i, b] + discount * beyond - value[i, b])
        if not continues[i, b]:
            break
    return float(total)


def test_advantages_are_the_discounted_sum_of_errors_up_to_the_episodes_end() -> None:
    reward, value, continues = unroll()
    ours = generalised_advantages(reward, value, continues, 0.9, 0.8)
    for t in range(9):
        for b in range(4):
            assert ours[t, b].item() == pytest.approx(slow_advantage(reward, value, continues, 0.9, 0.8, t, b))


def test_with_a_trace_decay_of_one_the_advantage_is_the_return_less_the_value() -> None:
    reward = torch.tensor([[1.0], [2.0], [4.0]])
    value = torch.tensor([[10.0], [20.0], [30.0], [40.0]])
    on = generalised_advantages(reward, value, torch.ones(3, 1), 0.5, 1.0)
    assert on[0].item() == pytest.approx(1 + 0.5 * 2 + 0.25 * 4 + 0.125 * 40 - 10)
    over = generalised_advantages(reward, value, torch.tensor([[1.0], [0.0], [1.0]]), 0.5, 1.0)
    assert over[0].item() == pytest.approx(1 + 0.5 * 2 - 10)


def test_the_error_discounts_the_next_value_and_subtracts_the_present_one() -> None:
    reward, value = torch.tensor([[0.5], [0.25]]), torch.tensor([[1.0], [2.0], [3.0]])
    errors = td_errors(reward, value, torch.tensor([[1.0], [0.0]]), 0.9)
    assert errors[:, 0].tolist() == pytest.approx([0.5 + 0.9 * 2.0 - 1.0, 0.25 - 2.0])


def logits(seed: int, *shape: int) -> tuple[Tensor, ...]:
    rng = np.random.default_rng(seed)
    return tuple(torch.from_numpy(rng.normal(size=(*shape, size))) for size in SIZES)


def probabilities(group: np.ndarray) -> np.ndarray:
    weights = np.exp(group)
    return weights / weights.sum()


def test_log_probability_entropy_and_divergence_add_up_over_groups() -> None:
    student, teacher = logits(1, 6), logits(2, 6)
    actions = torch.tensor([[0, 4], [1, 3], [2, 2], [0, 1], [1, 0], [2, 4]])
    for row in range(6):
        mine = [probabilities(group[row].numpy()) for group in student]
        theirs = [probabilities(group[row].numpy()) for group in teacher]
        log_probability = sum(np.log(p[a]) for p, a in zip(mine, actions[row].tolist(), strict=True))
        entropy = -sum((p * np.log(p)).sum() for p in mine)
        divergence = sum((q * np.log(q / p)).sum() for p, q in zip(mine, theirs, strict=True))
        assert policies.log_prob(student, actions)[row].item() == pytest.approx(log_probability)
        assert policies.entropy(student)[row].item() == pytest.approx(entropy)
        assert policies.divergence(teacher, student)[row].item() == pytest.approx(divergence)


def test_draws_have_the_policys_frequencies() -> None:
    one = logits(5)
    many = tuple(group.expand(200_000, -1).float() for group in one)
    drawn = policies.sample(many, torch.Generator().manual_seed(1))
    for index, group in enumerate(one):
        frequency = np.bincount(drawn[:, index].numpy(), minlength=SIZES[index]) / len(drawn)
        np.testing.assert_allclose(frequency, probabilities(group.numpy()), atol=0.006)


def slow_loss(case: dict[str, Tensor], student, teacher, settings: PpoSettings) -> float:
    total = 0.0
    T, B = case["weight"].shape
    for t in range(T):
        for b in range(B):
            mine = [probabilities(group[t, b].numpy()) for group in student]
            theirs = [probabilities(group[t, b].numpy()) for group in teacher]
            log_probability = sum(np.log(p[a]) for p, a in zip(mine, case["actions"][t, b].tolist(), strict=True))
            ratio = np.exp(log_probability - case["behaviour_log_prob"][t, b].item())
            advantage = case["advantage"][t, b].item()
            bounded = min(max(ratio, 1 - settings.clip), 1 + settings.clip)
            term = -min(ratio * advantage, bounded * advantage)
            term += settings.value_weight * (case["value"][t, b].item() - case["target"][t, b].item()) ** 2
            term += settings.entropy_weight * sum((p * np.log(p)).sum() for p in mine)
            pairs = zip(mine, theirs, strict=True)
            term += settings.distillation_weight * sum((q * np.log(q / p)).sum() for p, q in pairs)
            total += case["weight"][t, b].item() * term
    return total


def test_the_loss_is_what_its_formula_says_timestep_by_timestep() -> None:
    rng = np.random.default_rng(7)
    T, B = 5, 3
    settings = PpoSettings(clip=0.2, value_weight=0.7, entropy_weight=0.3, distillation_weight=1.5)
    student, teacher = logits(3, T, B), logits(4, T, B)
    case = {name: torch.from_numpy(rng.normal(size=(T, B))) for name in ("value", "advantage", "target")}
    case["actions"] = torch.from_numpy(np.stack([rng.integers(0, size, (T, B)) for size in SIZES], -1))
    case["weight"] = torch.from_numpy((rng.random((T, B)) > 0.3) / 11.0)
    noise = torch.from_numpy(rng.normal(scale=0.4, size=(T, B)))
    case["behaviour_log_prob"] = policies.log_prob(student, case["actions"]) + noise
    inputs = {name: tensor for name, tensor in case.items() if name != "value"}
    terms = ppo_loss(student, case["value"], settings=settings, teacher=teacher, **inputs)
    assert 0 < terms.clipped < case["weight"].sum()
    assert terms.loss.item() == pytest.approx(slow_loss(case, student, teacher, settings))


@pytest.mark.parametrize(
    ("progress", "rate"),
    [
        pytest.param(0.0, 2e-3, id="whole-at-the-start"),
        pytest.param(0.5, 1e-3, id="half-in-the-middle"),
        pytest.param(0.95, 2e-4, id="held-at-its-last-share"),
        pytest.param(1.2, 2e-4, id="also-beyond-the-budget"),
    ],
)
def test_the_learning_rate_follows_progress(progress: float, rate: float) -> None:
    assert learning_rate(2e-3, 0.1, progress) == pytest.approx(rate)
