"""Clipped maximum a posteriori policy optimisation (Hessel et al., 2021, section 4.1, equations 7 and 11 to 14).

    pi_CMPO(a|s) = pi_prior(a|s) exp(clip(adv(s, a), -c, c)) / z(s)                                    (7)

N joint actions are drawn from the prior, and KL(pi_CMPO || pi) is estimated, but for a constant, by

    -1/N sum_i [ exp(clip(adv_i)) / z_i ] log pi(a_i),    z_i = (1 + sum over k != i of exp(clip(adv_k))) / N  (11, 12)

The policy is a product of softmaxes over groups, so log pi(a_i) is a sum over groups, and all that the loss needs to
know of N samples is the weight that falls on each choice of each group: [..., sum of A_g] in place of [N, ..., G].
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ada_trainer.algorithms import policies
from ada_trainer.algorithms.policies import Logits


def sample_prior(
    components: Sequence[Logits], shares: Sequence[float], samples: int, generator: torch.Generator
) -> Tensor:
    """Draw joint actions from a mixture of policies and the uniform one; int64 [N, ..., G].

    AdA's prior is the present estimate of the policy mixed with the behaviour policy and the uniform one (methods,
    footnote). The mixture is of joint policies: each draw picks one component for all groups.

    Args:
        components: logits of the policies; shares: of each in the mixture. What they lack of 1 is uniform.
    """
    (first, *_) = components
    shape = (samples, *first[0].shape[:-1])
    pick = torch.rand(shape, generator=generator, device=first[0].device)
    mixed, reached = [torch.zeros_like(group).expand(*shape, -1).clone() for group in first], 0.0
    for logits, share in zip(components, shares, strict=True):
        chosen = (pick >= reached) & (pick < reached + share)
        mixed = [
            torch.where(chosen[..., None], group.expand(*shape, -1), rest)
            for group, rest in zip(logits, mixed, strict=True)
        ]
        reached += share
    return policies.sample(tuple(mixed), generator)


def sample_weights(advantage: Tensor, clip: float) -> Tensor:
    """Return the weight of each of N samples, [N, ...], of advantages [N, ...]: equations 11 and 12."""
    tilt = advantage.clamp(-clip, clip).exp()
    return tilt / (1 + tilt.sum(0) - tilt)


def choice_weights(actions: Tensor, weights: Tensor, choices: Sequence[int]) -> Tensor:
    """Return the weight of each choice of each group, [..., sum of A_g]; samples [N, ..., G], weights [N, ...]."""
    parts = []
    for group, size in enumerate(choices):
        chosen = functional.one_hot(actions[..., group].long(), size)
        parts.append((chosen * weights[..., None]).sum(0))
    return torch.cat(parts, -1)


def cmpo_loss(target: Tensor, logits: Logits) -> Tensor:
    """Return the sampled KL(pi_CMPO || pi) but for a constant, [...]; target [..., sum of A_g]."""
    log_probabilities = torch.cat([group.log_softmax(-1) for group in logits], -1)
    return -(target * log_probabilities).sum(-1)
