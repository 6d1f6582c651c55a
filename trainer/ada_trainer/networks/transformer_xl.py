"""Transformer-XL as memory: pre-LN, gated feed-forward, relative positions, cached keys and values.

AdA's actors keep the last M *inputs* of each attention layer and project them again at every timestep. Keys and values
are functions of those inputs, so they are kept instead: one projection a timestep in place of M + 1.

The cache is a ring of M + 1 slots a layer. `step` writes timestep p into slot p mod (M + 1) and attends to all slots,
itself included; nothing moves, because positions are relative and follow from the slots' ages:

    slot   0    1    2    3    4      M = 4, p = 7
    age    2    1    0    4    3      age = (p - slot) mod (M + 1)

Each slot carries the number of the episode that wrote it; attention stays within one episode.

Scores (Dai et al., 2019): (q + u) k_j + (q + v) W_R R_age, with sinusoids R and learned u, v, all over sqrt(H).
Gradients stop at the cache. Letters: T, B, M, L, D as elsewhere; N heads, H head width, S = M + 1 slots.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ada_trainer.networks.layers import linear
from ada_trainer.networks.presets import Sizes

OUTPUT_GAIN = 0.3  # of what a block adds to its input at birth
MASKED = -1e9


@dataclass(slots=True)
class TransformerState:
    """Cached keys and values. `step` writes into these tensors; keep a `clone` if you need them later."""

    keys: Tensor  # [L, B, N, S, H]
    values: Tensor  # [L, B, N, S, H]
    episodes: Tensor  # int64 [B, S]: the episode that wrote the slot, -1 for an empty one
    episode: Tensor  # int64 [B]: number of the present episode
    position: int  # timesteps seen: the next one is written to slot position mod S


class Block(nn.Module):
    """Attention, then a gated feed-forward; each adds to its input. Their matrices are 12 D^2 parameters, as AdA's."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = linear(width, 3 * width)
        self.attention_out = linear(width, width, OUTPUT_GAIN)
        self.from_age = nn.Linear(width, width, bias=False)  # W_R
        self.content_bias = nn.Parameter(torch.zeros(heads, 1, width // heads))  # u
        self.age_bias = nn.Parameter(torch.zeros(heads, 1, width // heads))  # v
        # Three matrices of D x 8/3 D are as large as the two of D x 4 D of an ungated feed-forward.
        hidden = round(8 * width / 3)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.gate_and_up = linear(width, 2 * hidden)
        self.down = linear(hidden, width, OUTPUT_GAIN)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of [B, T, D] as [B, N, T, H] each."""
        heads = self.query_key_value(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        return query, key, value

    def score_ages(self, query: Tensor, sinusoids: Tensor) -> Tensor:
        """Return (q + v) W_R R, [B, N, T, S], of queries [B, N, T, H] and sinusoids [S, D].

        Head by head over all queries at once: a product that broadcasts over B would copy W_R R for each.
        """
        B, _, T, _ = query.shape
        ages = len(sinusoids)
        age_keys = self.from_age(sinusoids).view(ages, self.heads, -1).permute(1, 2, 0)  # [N, H, S]
        rows = (query + self.age_bias).transpose(0, 1).flatten(1, 2)  # [N, B T, H]
        return torch.matmul(rows, age_keys).view(self.heads, B, T, ages).transpose(0, 1)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add what attention [B, N, T, H] found, then the feed-forward."""
        x = x + self.attention_out(attended.transpose(1, 2).flatten(2))
        gate, up = self.gate_and_up(self.feed_forward_norm(x)).chunk(2, -1)
        found: Tensor = self.down(functional.gelu(gate) * up)
        return x + found


class TransformerXl(nn.Module):
    """A stack of blocks over the last M timesteps of the episode."""

    sinusoids: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.slots = sizes.memory + 1
        self.head_width = sizes.width // sizes.heads
        self.scale = self.head_width**-0.5
        self.blocks = nn.ModuleList(Block(sizes.width, sizes.heads) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width)
        self.register_buffer("sinusoids", sinusoids_of(self.slots, sizes.width), persistent=False)

    def initial_state(self, batch: int) -> TransformerState:
        """Return an empty cache."""
        like = self.norm.weight
        shape = (self.sizes.layers, batch, self.sizes.heads, self.slots, self.head_width)
        return TransformerState(
            keys=like.new_zeros(shape),
            values=like.new_zeros(shape),
            episodes=torch.full((batch, self.slots), -1, device=like.device),
            episode=torch.zeros(batch, dtype=torch.int64, device=like.device),
            position=0,
        )

    def step(self, x_BD: Tensor, state: TransformerState, clear_B: Tensor) -> tuple[Tensor, TransformerState]:
        """One timestep. Writes into `state` and returns it with the next position."""
        slot = state.position % self.slots
        state.episode += clear_B
        state.episodes[:, slot] = state.episode
        other = state.episodes != state.episode[:, None]  # [B, S]
        mask = torch.zeros_like(other, dtype=x_BD.dtype).masked_fill_(other, MASKED)[:, None, None]
        ages = (slot - torch.arange(self.slots, device=x_BD.device)) % self.slots
        sinusoids = self.sinusoids[ages]
        x = x_BD[:, None]
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            query, key, value = block.project(x)  # [B, N, 1, H]
            state.keys[layer, :, :, slot] = key[:, :, 0]
            state.values[layer, :, :, slot] = value[:, :, 0]
            scores = torch.matmul(query + block.content_bias, state.keys[layer].transpose(-1, -2))
            scores += block.score_ages(query, sinusoids)
            weights = torch.softmax(scores.mul_(self.scale).add_(mask), -1)
            x = block.finish(x, torch.matmul(weights, state.values[layer]))
        return self.norm(x[:, 0]), replace(state, position=state.position + 1)

    def unroll(self, x_TBD: Tensor, state: TransformerState, clear_TB: Tensor) -> tuple[Tensor, TransformerState]:
        """T timesteps at once; leaves `state` as it is. Rows see the cache's newest M slots and the rows before."""
        T = len(x_TBD)
        M = self.sizes.memory
        oldest_first = (torch.arange(M, device=x_TBD.device) + state.position + 1) % self.slots
        episode = state.episode[:, None] + clear_TB.long().cumsum(0).t()  # [B, T]
        episodes = torch.cat([state.episodes[:, oldest_first], episode], 1)  # [B, M + T]
        mask = self._mask(episodes, episode, x_TBD.dtype)
        sinusoids = self.sinusoids.flip(0)  # age M first, as the columns of a row's band
        x = x_TBD.transpose(0, 1)
        keys, values = [], []
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            query, key, value = block.project(x)
            key = torch.cat([state.keys[layer][:, :, oldest_first], key], 2)
            value = torch.cat([state.values[layer][:, :, oldest_first], value], 2)
            scores = torch.matmul(query + block.content_bias, key.transpose(-1, -2))
            scores = scores + _shift_rows(block.score_ages(query, sinusoids), M + T)
            weights = torch.softmax(scores.mul_(self.scale).add_(mask), -1)
            x = block.finish(x, torch.matmul(weights, value))
            keys.append(_ring(key.detach(), M))
            values.append(_ring(value.detach(), M))
        after = TransformerState(
            keys=torch.stack(keys),
            values=torch.stack(values),
            episodes=functional.pad(episodes[:, T:], (0, 1), value=-1),
            episode=episode[:, -1],
            position=M,
        )
        return self.norm(x).transpose(0, 1), after

    def _mask(self, episodes: Tensor, episode: Tensor, dtype: torch.dtype) -> Tensor:
        """Return 0 where row t may see column j, else MASKED; [B, 1, T, M + T]. Columns: M cached, then T own."""
        T = episode.shape[1]
        columns = torch.arange(episodes.shape[1], device=episode.device)
        offset = columns - columns[:T, None]
        outside = (offset < 0) | (offset > self.sizes.memory)
        hidden = outside | (episodes[:, None, :] != episode[:, :, None])
        return torch.zeros(hidden.shape, dtype=dtype, device=episode.device).masked_fill_(hidden, MASKED)[:, None]

    @staticmethod
    def select(state: TransformerState, worlds: Tensor) -> TransformerState:
        """Return the state of these worlds."""
        return TransformerState(
            keys=state.keys[:, worlds],
            values=state.values[:, worlds],
            episodes=state.episodes[worlds],
            episode=state.episode[worlds],
            position=state.position,
        )

    @staticmethod
    def clone(state: TransformerState) -> TransformerState:
        """Return a copy that later steps leave alone."""
        return TransformerState(
            state.keys.clone(), state.values.clone(), state.episodes.clone(), state.episode.clone(), state.position
        )


def _shift_rows(by_age: Tensor, columns: int) -> Tensor:
    """Move row t of [..., T, S] to the right by t in a matrix of `columns` columns; zeros elsewhere.

    Rows are padded to one more than `columns`, so that reading them on with `columns` a row shifts each by one more:

        a0 a1 .  .  .        a0 a1 .  .
        b0 b1 .  .  .   ->   .  b0 b1 .         T = 3, S = 2, columns = 4
        c0 c1 .  .  .        .  .  c0 c1
    """
    T, S = by_age.shape[-2:]
    padded = functional.pad(by_age, (0, columns + 1 - S)).flatten(-2)
    return padded[..., : T * columns].view(*by_age.shape[:-2], T, columns)


def _ring(cache: Tensor, memory: int) -> Tensor:
    """Return the newest M of [B, N, M + T, H] and one free slot: a ring at position M."""
    return functional.pad(cache[:, :, -memory:], (0, 0, 0, 1))


def sinusoids_of(ages: int, width: int) -> Tensor:
    """Return R, [ages, D]: sines, then cosines, of wavelengths from 2 pi to 10,000 * 2 pi timesteps."""
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angle = torch.arange(ages)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], -1)[:, :width]
