"""What collecting hands to learning."""

from dataclasses import dataclass

from torch import Tensor

from ada_trainer.networks.agent import AgentState


@dataclass(frozen=True, slots=True)
class Batch:
    """Unrolls of T timesteps of B agents, and what acting noted about them."""

    observation: dict[str, Tensor]  # [T, B, ...]
    clear: Tensor  # bool [T, B]: the memory is emptied before the timestep
    actions: Tensor  # int8 [T, B, 6]
    log_prob: Tensor  # [T, B], of the actions when they were drawn
    reward: Tensor  # [T, B], times `algorithm.reward_scale`
    value: Tensor  # [T + 1, B], when acting; the last row after the unroll
    continues: Tensor  # [T, B]: 0 where the episode ended with the timestep
    learn: Tensor  # bool [T, B]: the learner may use the timestep
    state: AgentState  # before the first timestep
    teacher: Tensor | None = None  # [T, B, sum of A_g]: the teacher's logits
    roots: Tensor | None = None  # [T + 1, B, 2 W]: where the acting network's model starts from, if it has one
