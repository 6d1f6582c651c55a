"""Policy gradient with clipped importance weights, and the advantages' scale (Hessel et al., 2021, 4.2 and 4.5)."""

from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-12  # of the scale


def policy_gradient_loss(
    log_prob: Tensor, behaviour_log_prob: Tensor, advantage: Tensor, clip: float | None = None
) -> Tensor:
    """Return -min(1, pi / mu) adv log pi, [...]: its gradient is that of equation 9 with weights clipped to [0, 1].

    adv = (G - v_prior) / scale. The weight is a number here, not a function of the policy. With `clip` it is 0 where
    pi / mu has already gone beyond 1 +- clip the way that adv points, as PPO has it and Hessel et al. have not: in
    further passes over a batch the weights alone never stop what is pushed up.
    """
    ratio = (log_prob.detach() - behaviour_log_prob).exp()
    weight = ratio.clamp(max=1.0)
    if clip is not None:
        weight = weight * torch.where(advantage > 0, ratio <= 1 + clip, ratio >= 1 - clip)
    return -weight * advantage * log_prob


@dataclass(frozen=True, slots=True)
class AdvantageScale:
    """Moving mean of (G - v_prior)^2, from which the scale of all advantages follows."""

    square: float = 0.0  # moving mean, drawn towards 0 at first
    weight: float = 0.0  # of what has been seen: 1 - decay^n; without the division by it the first scales are too small

    def seen(self, mean_square: float, decay: float) -> "AdvantageScale":
        """Return the scale after another batch."""
        return AdvantageScale(
            square=decay * self.square + (1 - decay) * mean_square, weight=decay * self.weight + (1 - decay)
        )

    @property
    def deviation(self) -> float:
        """Return what advantages are divided by."""
        return float((self.square / max(self.weight, EPSILON) + EPSILON) ** 0.5)
