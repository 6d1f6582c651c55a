"""Which timestep a step of the unrolled model is about, and whether it counts.

From timestep t the model is driven by the actions that were taken: after k steps it is about t + k, and the reward
between is r_(t+k-1). An episode may end on the way: beyond its end rewards and values are 0, and there is no policy to
predict. The unroll may end on the way: nothing is known beyond it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ModelStep:
    """The targets of one step of the model from S starts; all [S, B]."""

    time: Tensor  # int64 [S]: t + k, the row of the policy's and value's targets, held within the unroll
    reward_time: Tensor  # int64 [S]: t + k - 1, held within the unroll
    before_end: Tensor  # 1 where the episode had not ended before r_(t+k-1), else the reward is 0
    reward_known: Tensor  # 1 where r_(t+k-1) is within the unroll, or beyond the episode's end
    after_end: Tensor  # 1 where the episode goes on at t + k, else the value is 0 and the policy has no target
    value_known: Tensor  # 1 where t + k is within the unroll, or beyond the episode's end


def model_steps(starts: Tensor, continues: Tensor, steps: int) -> list[ModelStep]:
    """Return the targets of steps 1 to K from `starts`, int64 [S]; continues [T, B]."""
    T = len(continues)
    alive = torch.ones_like(continues[starts])
    one = torch.ones_like(alive)
    result = []
    for k in range(1, steps + 1):
        before_end = alive
        alive = alive * continues[(starts + k - 1).clamp(max=T - 1)]
        reward_seen = (starts + k - 1 < T).to(alive)[:, None].expand_as(alive)
        value_seen = (starts + k < T).to(alive)[:, None].expand_as(alive)
        result.append(
            ModelStep(
                time=(starts + k).clamp(max=T - 1),
                reward_time=(starts + k - 1).clamp(max=T - 1),
                before_end=before_end,
                reward_known=torch.where(before_end > 0, reward_seen, one),
                after_end=alive,
                value_known=torch.where(alive > 0, value_seen, one),
            )
        )
    return result
