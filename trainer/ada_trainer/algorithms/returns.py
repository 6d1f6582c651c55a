"""Advantages and temporal-difference errors over unrolls.

Legend: `value` has one row more than the others: its last row is the value of the observation after the unroll.
`continues` is 0 where an episode ended with the timestep (its future is worth nothing, and row t + 1 belongs to the
next episode), else 1. The return crosses trial boundaries: that is what makes later trials worth preparing.
Shapes: reward, continues [T, B]; value [T + 1, B].
"""

import torch
from torch import Tensor


def td_errors(reward: Tensor, value: Tensor, continues: Tensor, discount: float) -> Tensor:
    """Return r_t + discount * v_(t+1) - v_t, [T, B], where v_(t+1) is 0 beyond an episode's end."""
    return reward + discount * continues * value[1:] - value[:-1]


def generalised_advantages(
    reward: Tensor, value: Tensor, continues: Tensor, discount: float, trace_decay: float
) -> Tensor:
    """Return sum over i of (discount * trace_decay)^i times the error at t + i, [T, B] (Schulman et al., 2016)."""
    errors = td_errors(reward, value, continues, discount)
    advantages = torch.empty_like(errors)
    following = torch.zeros_like(errors[0])
    for t in range(len(errors) - 1, -1, -1):
        following = errors[t] + discount * trace_decay * continues[t] * following
        advantages[t] = following
    return advantages
