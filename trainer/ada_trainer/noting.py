"""What is noted while an unroll is collected: the simulator's side in NumPy, the network's in tensors."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ada_curriculum.types import Lease
from ada_sim.batch import TimeStep
from ada_sim.constants import ACTION_SIZES
from ada_trainer.networks.agent import AgentNetwork, AgentOutput


class History:
    """What the simulator said at each timestep, in arrays of NumPy that lead with [T, B]."""

    def __init__(self, T: int, worlds: int, seats: np.ndarray) -> None:
        """Note what the agents in these seats, int64 [B, agents a world], get."""
        self._seats = seats
        self.reward = np.zeros((T, *seats.shape), np.float32)
        self.trial_ended = np.full((T, worlds), -1, np.int16)
        self.episode_ended = np.zeros((T, worlds), bool)
        self.active = np.zeros((T, worlds), bool)
        self.learn = np.zeros((T, worlds), bool)
        self.ended: list[dict[int, Lease]] = [{} for _ in range(T)]
        self.dropped: list[list[int]] = [[] for _ in range(T)]

    def before(self, t: int, active: np.ndarray, learn: np.ndarray) -> None:
        """Note which worlds act at timestep t, and for whom."""
        self.active[t] = active
        self.learn[t] = learn

    def after(self, t: int, timestep: TimeStep) -> None:
        """Note what came of it."""
        self.reward[t] = np.take_along_axis(timestep.reward, self._seats, 1)
        self.trial_ended[t] = timestep.trial_ended
        self.episode_ended[t] = timestep.episode_ended

    def drop(self, t: int, worlds: list[int]) -> None:
        """Note that these worlds were lost with the step at t: nothing of their last episodes is learned from.

        The step counts for nothing, and no return flows across it.
        """
        self.dropped[t] = worlds
        for world in worlds:
            (ends,) = np.nonzero(self.episode_ended[:t, world])
            self.learn[ends[-1] + 1 if len(ends) else 0 : t + 1, world] = False
            self.active[t, world] = False
            self.episode_ended[t, world] = True


class Buffers:
    """Tensors of one unroll, [T, agents, ...], made once."""

    def __init__(self, T: int, observation: Mapping[str, Tensor], network: AgentNetwork, labels: bool) -> None:
        with torch.inference_mode(False):  # the learner differentiates through functions of them
            like = network.task_encoder.out.bias.detach()
            agents = len(next(iter(observation.values())))
            self.observation = {
                name: torch.zeros((T, *field.shape), dtype=field.dtype, device=like.device)
                for name, field in observation.items()
            }
            self.clear = torch.zeros((T, agents), dtype=torch.bool, device=like.device)
            self.actions = torch.zeros((T, agents, len(ACTION_SIZES)), dtype=torch.int8, device=like.device)
            self.log_prob = like.new_zeros((T, agents))
            self.reward = like.new_zeros((T, agents))
            self.value = like.new_zeros((T + 1, agents))
            self.continues = like.new_zeros((T, agents))
            self.learn = torch.zeros((T, agents), dtype=torch.bool, device=like.device)
            self.teacher = like.new_zeros((T if labels else 0, agents, sum(network.choices)))
            model = network.model
            self.roots = None if model is None else like.new_zeros((T + 1, agents, 2 * model.width))

    def note(self, t: int, output: AgentOutput) -> None:
        """Note value and model's state of a timestep, 0 to T."""
        self.value[t] = output.value
        if self.roots is not None and output.model_state is not None:
            self.roots[t] = output.model_state
