"""Retrace (Munos et al., 2016), from action values of the learned model, as Muesli uses it (Hessel et al., 2021, 4.3).

    G_t = r_t + discount [ v_(t+1) + c_(t+1) (G_(t+1) - q_(t+1)) ],    c = lambda min(1, pi / mu)

v_(t+1) is E_pi[q(s_(t+1), .)] and q_(t+1) is q of the action that was taken, both of the same model: with a value head
in place of E[q], any offset between the two adds up along the unroll. Beyond an episode's end the future is 0; beyond
the unroll it is v.
"""

import torch
from torch import Tensor


def retrace(
    reward: Tensor,
    continues: Tensor,
    expected_q: Tensor,
    q: Tensor,
    log_ratio: Tensor,
    *,
    discount: float,
    trace_decay: float,
) -> Tensor:
    """Return the returns G, [T, B].

    Args:
        reward: [T, B]; continues: [T, B], 0 where the episode ended with the timestep.
        expected_q: [T + 1, B], E_pi[q]; q: [T, B], of the actions taken.
        log_ratio: [T, B], log pi(a_t) - log mu(a_t) of the actions taken.
    """
    trace = trace_decay * log_ratio.exp().clamp(max=1.0)
    returns = torch.empty_like(reward)
    correction = torch.zeros_like(reward[0])  # c_(t+1) (G_(t+1) - q_(t+1)); nothing is known beyond the unroll
    for t in range(len(reward) - 1, -1, -1):
        returns[t] = reward[t] + discount * continues[t] * (expected_q[t + 1] + correction)
        correction = trace[t] * (returns[t] - q[t])
    return returns
