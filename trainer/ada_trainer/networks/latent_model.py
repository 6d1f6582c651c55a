"""Muesli's model: an LSTM that starts from what the memory knows and is driven by actions (AdA, appendix C).

    root:  state_0 = (hidden, cell), each by a network of one hidden layer from the memory's output
    step:  state_(k+1) = LSTM(state_k, action a_(t+k))
    heads: policy, value and reward of any state, each by a network of one hidden layer

The policy with which the agent acts and its value are those of the root, so they too pass through the LSTM's state.
States are hidden and cell side by side, [..., 2 W]; they and all logits stay float32 where the products are made in
bfloat16. Actions are the controlled groups', [..., G], and enter as the sum of one column of weights for each group's
choice: a one-hot through the LSTM's input matrix.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ada_api.stages import Muesli
from ada_trainer.algorithms import two_hot
from ada_trainer.algorithms.policies import Logits
from ada_trainer.networks.layers import RELU_GAIN, linear

HEAD_GAIN = 0.01  # nearly uniform at birth
FORGET_BIAS = 1.0  # of the LSTM at birth: the state is kept


class Head(nn.Module):
    """One hidden layer, then logits."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.hidden = linear(width, width, RELU_GAIN)
        self.out = linear(width, outputs, HEAD_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(functional.relu(self.hidden(x)))
        return out


class LatentModel(nn.Module):
    """States of width W, and what is read from them."""

    support: Tensor
    group_starts: Tensor

    def __init__(self, inputs: int, width: int, choices: Sequence[int], settings: Muesli) -> None:
        """Build the model over `inputs` features for groups of `choices`."""
        super().__init__()
        self.width = width
        self.products: torch.dtype = torch.float32
        self.choices = tuple(choices)
        self.value_range = settings.value_range
        self.root_hidden = linear(inputs, 2 * width, RELU_GAIN)
        self.root_out = nn.ModuleList(linear(width, width) for _ in range(2))
        self.from_state = linear(width, 4 * width)  # gates: input, forget, candidate, output
        self.from_action = nn.Parameter(torch.randn(sum(choices), 4 * width) * width**-0.5)
        self.policy_head = Head(width, sum(choices))
        self.value_head = Head(width, settings.bins)
        self.reward_head = Head(width, settings.bins)
        self.register_buffer("support", two_hot.support(settings.bins, settings.value_range), persistent=False)
        starts = torch.tensor([0, *self.choices[:-1]]).cumsum(0)
        self.register_buffer("group_starts", starts, persistent=False)
        if not self.from_state.bias.is_meta:
            self.from_state.bias.data[width : 2 * width] = FORGET_BIAS
            for head in (self.value_head, self.reward_head):
                # Born as 0, not as the mean of 601 bins: what is wrong at first adds up along a return. Logits fall by
                # the slope for each unit of the transformed scale: the steeper, the longer until values leave 0.
                head.out.bias.data = -settings.birth_slope * self.support.abs()

    def root(self, x: Tensor) -> Tensor:
        """Return the state that the model starts from, [..., 2 W], of features [..., F]."""
        with self._mixed(x):
            parts = functional.relu(self.root_hidden(x)).chunk(2, -1)
            hidden, cell = (out(part) for out, part in zip(self.root_out, parts, strict=True))
        return torch.cat([torch.tanh(hidden), cell], -1).to(x.dtype)

    def step(self, state: Tensor, actions: Tensor) -> Tensor:
        """Return the state after these actions, int [..., G]; leading axes broadcast."""
        W = self.width
        hidden, cell = state[..., :W], state[..., W:]
        rows = functional.embedding(actions.long() + self.group_starts, self.from_action).sum(-2)
        with self._mixed(hidden):
            gates = self.from_state(hidden) + rows
        sigmoids = torch.sigmoid(gates)
        candidate = torch.tanh(gates[..., 2 * W : 3 * W])
        cell = sigmoids[..., W : 2 * W] * cell + sigmoids[..., :W] * candidate
        return torch.cat([sigmoids[..., 3 * W :] * torch.tanh(cell), cell], -1)

    def _logits(self, head: Head, state: Tensor) -> Tensor:
        with self._mixed(state):
            out: Tensor = head(state[..., : self.width])
        return out.to(state.dtype)

    def _mixed(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, self.products, enabled=self.products != torch.float32)

    def policy(self, state: Tensor) -> Logits:
        """Return the logits of each group, [..., A_g]."""
        return torch.split_with_sizes(self._logits(self.policy_head, state), self.choices, -1)

    def value_logits(self, state: Tensor) -> Tensor:
        """Return the value's logits over bins, [..., V]."""
        return self._logits(self.value_head, state)

    def reward_logits(self, state: Tensor) -> Tensor:
        """Return the logits of the reward on the way into the state, [..., V]."""
        return self._logits(self.reward_head, state)

    def value(self, state: Tensor) -> Tensor:
        """Return the value, [...]."""
        return two_hot.mean(self.value_logits(state), self.support)

    def reward(self, state: Tensor) -> Tensor:
        """Return the reward on the way into the state, [...]."""
        return two_hot.mean(self.reward_logits(state), self.support)
