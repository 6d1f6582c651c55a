"""A gated recurrent unit as memory, with a backward pass by hand.

`gru_sequence` runs the recurrence over [T, B] with clears in mid-sequence. Autograd alone would build a dozen nodes a
timestep; the function below saves four arrays, computes the local derivatives of all timesteps at once on the way
back, and takes the weight gradient as one matrix product.

    r, z = sigmoid(x_rz + W_rz h + b_rz)      reset and keep gates
    n    = tanh(x_n + r * (W_n h + b_n))
    h'   = n + z * (h - n)                    h is 0 where the memory is cleared before the timestep

Letters: T timesteps, B worlds, D width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ada_trainer.networks.layers import linear

LONGEST_TIME_CONSTANT = 100  # timesteps, of keep gates at birth


class _GruSequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TBG: Tensor, h_BD: Tensor, keep_TB1: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        T, B, gates = x_TBG.shape
        D = gates // 3
        before = x_TBG.new_empty(T, B, D)  # the memory that each timestep starts from
        reset_keep = x_TBG.new_empty(T, B, 2 * D)
        recurrent = x_TBG.new_empty(T, B, D)  # W_n h + b_n
        candidate = x_TBG.new_empty(T, B, D)
        after = x_TBG.new_empty(T, B, D)
        transposed = weight.t()
        for t in range(T):
            torch.mul(h_BD, keep_TB1[t], out=before[t])
            gate = torch.addmm(bias, before[t], transposed)
            torch.add(x_TBG[t, :, : 2 * D], gate[:, : 2 * D], out=reset_keep[t]).sigmoid_()
            recurrent[t] = gate[:, 2 * D :]
            torch.addcmul(x_TBG[t, :, 2 * D :], reset_keep[t, :, :D], recurrent[t], out=candidate[t]).tanh_()
            torch.lerp(candidate[t], before[t], reset_keep[t, :, D:], out=after[t])
            h_BD = after[t]
        ctx.save_for_backward(before, reset_keep, recurrent, candidate, keep_TB1, weight)
        return after

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (d_after,) = gradients
        before, reset_keep, recurrent, candidate, keep_TB1, weight = ctx.saved_tensors
        T, B, D = before.shape
        reset, keep_gate = reset_keep[..., :D], reset_keep[..., D:]
        per_candidate = (1 - keep_gate) * (1 - candidate * candidate)
        per_keep = (before - candidate) * keep_gate * (1 - keep_gate)
        per_reset = recurrent * reset * (1 - reset)
        d_x = before.new_empty(T, B, 3 * D)  # of x_r, x_z, x_n
        d_gate = before.new_empty(T, B, 3 * D)  # of W h + b
        d_h = before.new_zeros(B, D)
        for t in range(T - 1, -1, -1):
            d_h = d_h + d_after[t]
            d_n = torch.mul(d_h, per_candidate[t], out=d_x[t, :, 2 * D :])
            torch.mul(d_n, per_reset[t], out=d_gate[t, :, :D])
            torch.mul(d_h, per_keep[t], out=d_gate[t, :, D : 2 * D])
            torch.mul(d_n, reset[t], out=d_gate[t, :, 2 * D :])
            d_h = torch.addmm(d_h * keep_gate[t], d_gate[t], weight).mul_(keep_TB1[t])
        d_x[..., : 2 * D] = d_gate[..., : 2 * D]
        flat = d_gate.flatten(0, 1)
        return d_x, d_h, None, flat.t() @ before.flatten(0, 1), flat.sum(0)


def gru_sequence(x_TBG: Tensor, h_BD: Tensor, keep_TB: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the memory after every timestep, [T, B, D].

    x_TBG: inputs of the gates, [T, B, 3 D] in the order reset, keep, candidate. keep_TB: 0 where the memory is cleared
    before the timestep, else 1. weight [3 D, D] and bias [3 D] act on the memory.
    """
    result: Tensor = _GruSequence.apply(x_TBG, h_BD, keep_TB[..., None], weight, bias)
    return result


class Gru(nn.Module):
    """One layer of gated recurrent units. The state is the memory itself, [B, D]."""

    def __init__(self, width: int, inputs: int | None = None) -> None:
        """Build it for inputs of its own width, or of `inputs`."""
        super().__init__()
        self.width = width
        self.from_input = linear(inputs or width, 3 * width)
        self.from_memory = linear(width, 3 * width)
        if not self.from_memory.bias.is_meta:
            # Chrono initialisation (Tallec and Ollivier, 2018): units that forget after 2 to 100 timesteps.
            spread = torch.rand(width) * LONGEST_TIME_CONSTANT
            self.from_memory.bias.data[width : 2 * width] = torch.log1p(spread)

    def initial_state(self, batch: int) -> Tensor:
        """Return the empty memory."""
        return self.from_memory.bias.new_zeros(batch, self.width)

    def step(self, x_BD: Tensor, state: Tensor, clear_B: Tensor) -> tuple[Tensor, Tensor]:
        """One timestep; the new state is the output."""
        D = self.width
        before = state * (~clear_B)[:, None]
        gate = torch.addmm(self.from_memory.bias, before, self.from_memory.weight.t())
        x = self.from_input(x_BD)
        reset_keep = torch.sigmoid(x[:, : 2 * D] + gate[:, : 2 * D])
        candidate = torch.tanh(torch.addcmul(x[:, 2 * D :], reset_keep[:, :D], gate[:, 2 * D :]))
        after = torch.lerp(candidate, before, reset_keep[:, D:])
        return after, after

    def unroll(self, x_TBD: Tensor, state: Tensor, clear_TB: Tensor) -> Tensor:
        """T timesteps; the outputs are the states."""
        keep = (~clear_TB).to(x_TBD.dtype)
        return gru_sequence(self.from_input(x_TBD), state, keep, self.from_memory.weight, self.from_memory.bias)

    @staticmethod
    def select(state: Tensor, worlds: Tensor) -> Tensor:
        """Return the state of these worlds."""
        return state[worlds]

    @staticmethod
    def clone(state: Tensor) -> Tensor:
        """Return a copy that later steps leave alone."""
        return state.clone()
