"""Proximal policy optimisation (Schulman et al., 2017), with a teacher's policy to imitate if there is one.

Every term is a sum over timesteps, each with a weight: 1 over the number of timesteps that count in the minibatch of
the whole group, 0 for those that don't. So the workers' gradients add up to the gradient of the group's mean.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ada_trainer.algorithms import policies
from ada_trainer.algorithms.policies import Logits


@dataclass(frozen=True, slots=True)
class PpoSettings:
    """Weights of the terms, and the clip range."""

    clip: float
    value_weight: float
    entropy_weight: float
    distillation_weight: float  # 0 without a teacher


@dataclass(frozen=True, slots=True)
class PpoTerms:
    """The loss and what it is made of; scalars, weighted sums."""

    loss: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    distillation: Tensor
    clipped: Tensor  # share of timesteps outside the clip range


def ppo_loss(
    logits: Logits,
    value: Tensor,
    *,
    actions: Tensor,
    behaviour_log_prob: Tensor,
    advantage: Tensor,
    target: Tensor,
    weight: Tensor,
    settings: PpoSettings,
    teacher: Logits | None = None,
) -> PpoTerms:
    """Return the loss of a minibatch.

    L = -min(rho A, clip(rho, 1 - c, 1 + c) A) + w_v (v - target)^2 - w_e H(pi) + w_d KL(teacher || pi)

    value, behaviour_log_prob, advantage, target, weight: [T, B]; actions [T, B, G] of the controlled groups.
    """
    ratio = (policies.log_prob(logits, actions) - behaviour_log_prob).exp()
    bounded = ratio.clamp(1 - settings.clip, 1 + settings.clip)
    policy = -(weight * torch.minimum(ratio * advantage, bounded * advantage)).sum()
    value_error = (weight * (value - target).square()).sum()
    entropy = (weight * policies.entropy(logits)).sum()
    loss = policy + settings.value_weight * value_error - settings.entropy_weight * entropy
    distillation = torch.zeros_like(loss)
    if teacher is not None:
        distillation = (weight * policies.divergence(teacher, logits)).sum()
        loss = loss + settings.distillation_weight * distillation
    with torch.no_grad():
        clipped = (weight * (ratio != bounded)).sum()
    return PpoTerms(loss, policy, value_error, entropy, distillation, clipped)


def normalised(advantage: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Return advantages of mean 0 and deviation 1 over the whole group's batch."""
    return (advantage - mean) / (deviation + 1e-6)
