"""What a timestep tells of a task's worth (AdA, "Auto-curriculum learning"); its mean over the last trial counts.

    td-error       | r + discount v_0(t+1) - v_0(t) |
    value-model    | v_0(t+1) - v_1(t) |                   v_1(t): the model's, one step after t, with the action taken
    action-model   JS( pi_0(t+1), pi_1(t) )                the same of the policy, summed over the action groups

Beyond an episode's end values are 0 and there is no policy. The TD error is `returns.td_errors`.
"""

from torch import Tensor

from ada_trainer.algorithms.policies import Logits, divergence


def value_model_errors(value: Tensor, predicted: Tensor, continues: Tensor) -> Tensor:
    """Return |v_0(t+1) - v_1(t)|, [T, B], of values [T + 1, B] and predictions [T, B]."""
    return (continues * value[1:] - predicted).abs()


def action_model_errors(following: Logits, predicted: Logits, continues: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence, [T, B], of the policies at t + 1 and those predicted at t, [T, B, A_g]."""
    mixture = tuple(
        ((one.softmax(-1) + other.softmax(-1)) / 2).log() for one, other in zip(following, predicted, strict=True)
    )
    total = divergence(following, mixture) + divergence(predicted, mixture)
    return continues * total.clamp(min=0) / 2
