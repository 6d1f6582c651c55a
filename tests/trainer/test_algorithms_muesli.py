"""Muesli's equations against slow, obvious versions in float64: loops over time, worlds, samples."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from ada_trainer.algorithms import cmpo, policies, two_hot
from ada_trainer.algorithms.fitness import action_model_errors, value_model_errors
from ada_trainer.algorithms.model_unroll import model_steps
from ada_trainer.algorithms.policy_gradient import AdvantageScale, policy_gradient_loss
from ada_trainer.algorithms.retrace import retrace

SIZES = (3, 2)
JOINT = list(itertools.product(*map(range, SIZES)))


def normal(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def logits(seed: int, *shape: int) -> tuple[Tensor, ...]:
    return tuple(normal(seed + index, *shape, size) for index, size in enumerate(SIZES))


def probabilities(of: np.ndarray) -> np.ndarray:
    weights = np.exp(of - of.max())
    return np.asarray(weights / weights.sum())


def slow_transform(x: float) -> float:
    return float(np.sign(x) * (np.sqrt(abs(x) + 1) - 1) + 1e-3 * x)


def test_the_value_transform_and_its_inverse_are_the_published_ones() -> None:
    values = torch.cat([torch.linspace(-5, 5, 41), torch.tensor([-4e4, -300.0, 300.0, 4e4])]).double()
    ours = two_hot.transform(values)
    for x, y in zip(values.tolist(), ours.tolist(), strict=True):
        assert y == pytest.approx(slow_transform(x))
        inverse = np.sign(y) * (((np.sqrt(1 + 4e-3 * (abs(y) + 1 + 1e-3)) - 1) / 2e-3) ** 2 - 1)
        assert two_hot.transform_back(torch.tensor(y, dtype=torch.float64)).item() == pytest.approx(inverse, abs=1e-9)
    torch.testing.assert_close(two_hot.transform_back(ours), values, rtol=1e-9, atol=1e-9)


def test_the_inverse_keeps_small_values_also_in_single_precision() -> None:
    small = torch.tensor([-1e-2, -1e-3, 0.0, 1e-4, 1e-3, 0.05])
    torch.testing.assert_close(two_hot.transform_back(two_hot.transform(small)), small, atol=1e-6, rtol=1e-5)


def slow_two_hot(x: float, bins: int, limit: float) -> np.ndarray:
    of_bins = np.linspace(-limit, limit, bins)
    y = min(max(slow_transform(x), -limit), limit)
    target = np.zeros(bins)
    above = min(int(np.searchsorted(of_bins, y, side="right")), bins - 1)
    share = (y - of_bins[above - 1]) / (of_bins[above] - of_bins[above - 1])
    target[above - 1], target[above] = 1 - share, share
    return target


@pytest.mark.parametrize(("bins", "limit"), [(601, 300.0), (21, 2.0)])
def test_the_cross_entropy_is_that_to_the_two_hot(bins: int, limit: float) -> None:
    values = [0.0, 0.3, -0.7, 1.0, 2.5, -8.0, 1e3, -1e9, 1e9]
    guess = normal(1, len(values), bins)
    ours = two_hot.cross_entropy(guess, torch.tensor(values).double(), limit)
    for row, x in enumerate(values):
        target = slow_two_hot(x, bins, limit)
        assert ours[row].item() == pytest.approx(-(target * np.log(probabilities(guess[row].numpy()))).sum())


def test_the_mean_of_a_two_hot_is_the_value_and_is_where_the_loss_is_least() -> None:
    values = torch.tensor([0.0, 0.31, -0.7, 4.0, 90.0, -250.0]).double()
    of_bins = two_hot.support(601, 300.0).double()
    exact = torch.from_numpy(np.stack([slow_two_hot(x, 601, 300.0) for x in values.tolist()]))
    torch.testing.assert_close(two_hot.mean((exact + 1e-30).log(), of_bins), values, rtol=1e-6, atol=1e-6)
    guess = (exact + 1e-30).log().requires_grad_()
    two_hot.cross_entropy(guess, values, 300.0).sum().backward()
    assert guess.grad is not None and guess.grad.abs().max() < 1e-9


def test_retrace_is_its_definition_summed_from_each_timestep() -> None:
    T, B, discount, decay = 7, 5, 0.9, 0.8
    reward, expected, q, log_ratio = normal(1, T, B), normal(2, T + 1, B), normal(3, T, B), normal(4, T, B) * 0.5
    continues = (normal(5, T, B) > -0.7).double()
    ours = retrace(reward, continues, expected, q, log_ratio, discount=discount, trace_decay=decay)
    for b in range(B):
        for t in range(T):
            # G_t = q_t + sum over s of discount^(s - t) c_(t+1) ... c_s (r_s + discount E[q](s+1) - q_s)
            total, factor = q[t, b].item(), 1.0
            for s in range(t, T):
                if s > t:
                    factor *= discount * continues[s - 1, b].item()
                    factor *= decay * min(1.0, float(np.exp(log_ratio[s, b].item())))
                following = expected[s + 1, b].item() * continues[s, b].item()
                total += factor * (reward[s, b].item() + discount * following - q[s, b].item())
            assert ours[t, b].item() == pytest.approx(total)


def test_without_traces_the_return_is_one_reward_and_the_next_expected_value() -> None:
    reward, expected, q = normal(1, 4, 2), normal(2, 5, 2), normal(3, 4, 2)
    continues = torch.ones(4, 2).double()
    ours = retrace(reward, continues, expected, q, torch.zeros(4, 2), discount=0.5, trace_decay=0.0)
    torch.testing.assert_close(ours, reward + 0.5 * expected[1:])


def test_sample_weights_and_choice_weights_are_equations_11_and_12() -> None:
    N, S = 5, 4
    advantage = normal(1, N, S) * 2
    rng = np.random.default_rng(2)
    actions = torch.from_numpy(np.stack([rng.integers(0, size, (N, S)) for size in SIZES], -1))
    student = logits(3, S)
    weights = cmpo.sample_weights(advantage, clip=1.0)
    target = cmpo.choice_weights(actions, weights, SIZES)
    ours = cmpo.cmpo_loss(target, student)
    for s in range(S):
        tilts = [float(np.exp(min(max(advantage[i, s].item(), -1.0), 1.0))) for i in range(N)]
        total = 0.0
        for i in range(N):
            z = (1 + sum(tilts[k] for k in range(N) if k != i)) / N
            log_probability = sum(
                np.log(probabilities(group[s].numpy())[actions[i, s, g]]) for g, group in enumerate(student)
            )
            total -= tilts[i] / z * log_probability / N
        assert ours[s].item() == pytest.approx(total)


def test_with_many_samples_the_target_is_the_exact_policy_of_equation_7() -> None:
    prior, q = tuple(group[0] for group in logits(1, 1)), normal(9, len(JOINT)) * 2
    exact = np.array([np.exp(np.clip(q[j].item(), -1, 1)) for j in range(len(JOINT))])
    for j, choice in enumerate(JOINT):
        exact[j] *= np.prod([probabilities(group.numpy())[c] for group, c in zip(prior, choice, strict=True)])
    exact /= exact.sum()
    many = 40_000
    expanded = tuple(group.expand(1, -1) for group in prior)
    drawn = cmpo.sample_prior([expanded], [1.0], many, torch.Generator().manual_seed(1))
    number = drawn[..., 0] * SIZES[1] + drawn[..., 1]
    target = cmpo.choice_weights(drawn, cmpo.sample_weights(q[number], 1.0), SIZES)[0]
    marginals = np.zeros(sum(SIZES))
    for j, choice in enumerate(JOINT):
        marginals[choice[0]] += exact[j]
        marginals[SIZES[0] + choice[1]] += exact[j]
    np.testing.assert_allclose(target.numpy(), marginals, atol=0.012)


def test_a_policy_target_stays_within_the_published_distance_of_the_prior() -> None:
    # Total variation of exact targets is at most tanh(c / 2), reached where two halves pull apart.
    tilt = torch.tensor([[9.0], [-9.0]])
    prior = torch.tensor([0.5, 0.5])
    target = prior * tilt[:, 0].clamp(-1, 1).exp()
    target = target / target.sum()
    assert (target - prior).abs().sum().item() / 2 == pytest.approx(np.tanh(0.5) / 1, abs=0.24)
    weights = cmpo.sample_weights(tilt, 1.0)[:, 0]
    assert (weights[0] / weights[1]).item() <= np.exp(2.0) * (1 + np.e) / (1 + 1 / np.e) + 1e-5


def test_the_prior_is_a_mixture_of_joint_policies() -> None:
    certain = (torch.tensor([[0.0, 50.0, 0.0]]), torch.tensor([[50.0, 0.0]]))
    other = (torch.tensor([[0.0, 0.0, 50.0]]), torch.tensor([[0.0, 50.0]]))
    drawn = cmpo.sample_prior([certain, other], [0.6, 0.1], 60_000, torch.Generator().manual_seed(3))[:, 0]
    number = (drawn[:, 0] * SIZES[1] + drawn[:, 1]).numpy()
    frequency = np.bincount(number, minlength=6) / len(number)
    uniform = 0.3 / 6
    expected = np.full(6, uniform)
    expected[1 * 2 + 0] += 0.6
    expected[2 * 2 + 1] += 0.1
    np.testing.assert_allclose(frequency, expected, atol=0.01)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_the_policy_gradients_gradient_is_the_clipped_weight_times_the_score(clip: float | None) -> None:
    S, reach = 24, clip or np.inf
    policy = tuple(group.requires_grad_() for group in logits(1, S))
    rng = np.random.default_rng(2)
    actions = torch.from_numpy(np.stack([rng.integers(0, size, S) for size in SIZES], -1))
    behaviour, advantage = normal(5, S) - 1.5, normal(6, S)
    policy_gradient_loss(policies.log_prob(policy, actions), behaviour, advantage, clip).sum().backward()
    seen = dict.fromkeys(itertools.product((True, False), ("below", "within", "above")), 0)
    for s in range(S):
        shares = [probabilities(group[s].detach().numpy()) for group in policy]
        pi = np.prod([share[actions[s, g]] for g, share in enumerate(shares)])
        ratio, wanted = float(pi / np.exp(behaviour[s].item())), advantage[s].item() > 0
        where = "below" if ratio < 0.5 else "above" if ratio > 1.5 else "within"
        seen[wanted, where] += 1
        gone_too_far = ratio > 1 + reach if wanted else ratio < 1 - reach
        weight = 0.0 if gone_too_far else min(1.0, ratio)
        for g, group in enumerate(policy):
            score = np.eye(SIZES[g])[actions[s, g]] - shares[g]
            assert group.grad is not None
            np.testing.assert_allclose(group.grad[s].numpy(), -weight * advantage[s].item() * score, atol=1e-12)
    assert all(seen.values()), "each sign of the advantage on each side of both ranges"


def test_the_scale_of_advantages_is_a_moving_mean_square_without_a_pull_to_zero() -> None:
    scale, squares, decay = AdvantageScale(), [4.0, 1.0, 9.0, 2.5], 0.9
    for n, square in enumerate(squares, 1):
        scale = scale.seen(square, decay)
        weights = [(1 - decay) * decay ** (n - 1 - i) for i in range(n)]
        mean = sum(w * s for w, s in zip(weights, squares, strict=False)) / (1 - decay**n)
        assert scale.deviation == pytest.approx(mean**0.5)
    assert AdvantageScale().seen(4.0, 0.99).deviation == pytest.approx(2.0), "the first batch counts in full"


def test_model_steps_know_what_is_within_the_unroll_and_what_is_beyond_the_episode() -> None:
    T, K = 6, 4
    continues = torch.tensor([[1.0, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 1], [1, 1, 1, 1, 1, 0]]).t()
    starts = torch.arange(T)
    steps = model_steps(starts, continues, K)
    for t, b, k in itertools.product(range(T), range(3), range(1, K + 1)):
        step = steps[k - 1]
        ends = [s for s in range(t, T) if continues[s, b] == 0]
        ended_before = bool(ends) and ends[0] < t + k - 1
        ended_by = bool(ends) and ends[0] <= t + k - 1
        assert step.before_end[t, b] == (not ended_before)
        assert step.after_end[t, b] == (not ended_by)
        assert step.reward_known[t, b] == (ended_before or t + k - 1 < T)
        assert step.value_known[t, b] == (ended_by or t + k < T)
        assert step.time[t] == min(t + k, T - 1) and step.reward_time[t] == min(t + k - 1, T - 1)


def test_the_models_measures_of_fitness_are_their_formulas() -> None:
    T, B = 4, 3
    value, predicted = normal(1, T + 1, B), normal(2, T, B)
    continues = (normal(3, T, B) > -0.5).double()
    errors = value_model_errors(value, predicted, continues)
    following, guessed = logits(4, T, B), logits(7, T, B)
    divergences = action_model_errors(following, guessed, continues)
    for t, b in itertools.product(range(T), range(B)):
        beyond = value[t + 1, b].item() if continues[t, b] else 0.0
        assert errors[t, b].item() == pytest.approx(abs(beyond - predicted[t, b].item()))
        total = 0.0
        for one, other in zip(following, guessed, strict=True):
            p, q = probabilities(one[t, b].numpy()), probabilities(other[t, b].numpy())
            m = (p + q) / 2
            total += ((p * np.log(p / m)).sum() + (q * np.log(q / m)).sum()) / 2
        assert divergences[t, b].item() == pytest.approx(total if continues[t, b] else 0.0)
