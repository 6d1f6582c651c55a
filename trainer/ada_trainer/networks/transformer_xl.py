"""Transformer-XL as memory: pre-LN, gated feed-forward, relative positions, cached keys and values.

AdA's actors keep the last M *inputs* of each attention layer and project them again at every timestep. Keys and values
are functions of those inputs, so they are kept instead: one projection a timestep in place of M + 1.

The cache is a ring of M + 1 slots a layer. `step` writes timestep p into slot p mod (M + 1) and attends to all slots,
itself included; nothing moves, because positions are relative and follow from the slots' ages:

    slot   0    1    2    3    4      M = 4, p = 7
    age    2    1    0    4    3      age = (p - slot) mod (M + 1)

Each slot carries the number of the episode that wrote it; attention stays within one episode. A `clone` begins with the
slot that is written next, so that an unroll from it finds the M others in one piece.

What follows from the parameters alone is worked out once for many steps (`ReadyBlock`): the keys of ages, W_R R, twice
over, so that any turn of the ring finds its own in one piece; and layers of the type that products are made in. With
`products` in bfloat16 the cache is of that type too, since acting is bound by how fast it is read; sums along the
layers, norms and what comes out stay float32.

Scores (Dai et al., 2019): (q + u) k_j + (q + v) W_R R_age, with sinusoids R and learned u, v, all over sqrt(H).
Gradients stop at the cache. Letters: T, B, M, L, D as elsewhere; N heads, H head width, S = M + 1 slots.
"""

import copy
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ada_trainer.networks.attention import attend, score_by_age
from ada_trainer.networks.captured_step import CapturedStep, capture
from ada_trainer.networks.layers import linear
from ada_trainer.networks.presets import Sizes

OUTPUT_GAIN = 0.3  # of what a block adds to its input at birth
MASKED = -1e9


@dataclass(frozen=True, slots=True)
class Layers:
    """The four products of a block."""

    query_key_value: nn.Linear
    attention_out: nn.Linear
    gate_and_up: nn.Linear
    down: nn.Linear

    def of_type(self, kind: torch.dtype) -> "Layers":
        """Return them, as copies if they are of another type."""
        if self.down.weight.dtype == kind:
            return self
        own = (self.query_key_value, self.attention_out, self.gate_and_up, self.down)
        return Layers(*(copy.deepcopy(layer).requires_grad_(False).to(kind) for layer in own))


@dataclass(frozen=True, slots=True)
class ReadyBlock:
    """A block's parameters as steps use them."""

    layers: Layers
    age_keys: Tensor  # [N, H, 2 S - 1]: column i is of age (S - 1 - i) mod S
    content_offset: Tensor  # [N, 1, H]: u over sqrt(H)
    age_offset: Tensor  # [N, 1, H]: v over sqrt(H)


@dataclass(slots=True)
class TransformerState:
    """Cached keys and values. `step` writes into these tensors; keep a `clone` if you need them later."""

    keys: Tensor  # [L, B, N, S, H]
    values: Tensor  # [L, B, N, S, H]
    episodes: Tensor  # int64 [B, S]: the episode that wrote the slot, -1 for an empty one
    episode: Tensor  # int64 [B]: number of the present episode
    position: int  # timesteps seen: the next one is written to slot position mod S
    ready: tuple[ReadyBlock, ...] | None = None  # None: to be worked out with the next step
    captured: CapturedStep | None = None  # the step over these tensors, where it is captured


class Block(nn.Module):
    """Attention, then a gated feed-forward; each adds to its input. Their matrices are 12 D^2 parameters, as AdA's."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
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

    @property
    def layers(self) -> Layers:
        """The block's own layers."""
        return Layers(self.query_key_value, self.attention_out, self.gate_and_up, self.down)

    def ready(self, sinusoids: Tensor, kind: torch.dtype) -> ReadyBlock:
        """Return what steps need, of sinusoids [S, D], with products in this type."""
        age_keys = self.age_keys(sinusoids.flip(0))
        return ReadyBlock(
            layers=self.layers.of_type(kind),
            age_keys=torch.cat([age_keys, age_keys[..., :-1]], -1).to(kind),
            content_offset=(self.content_bias * self.scale).to(kind),
            age_offset=(self.age_bias * self.scale).to(kind),
        )

    def project(self, x: Tensor, layers: Layers) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries over sqrt(H), keys and values of [B, T, D] as [B, N, T, H] each."""
        projected = layers.query_key_value(self.attention_norm(x).to(layers.query_key_value.weight.dtype))
        query, key, value = projected.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return query * self.scale, key, value

    def age_keys(self, sinusoids: Tensor) -> Tensor:
        """Return W_R R, [N, H, S], of sinusoids [S, D]."""
        keys: Tensor = self.from_age(sinusoids)
        return keys.view(len(sinusoids), self.heads, -1).permute(1, 2, 0)

    def finish(self, x: Tensor, attended: Tensor, layers: Layers) -> Tensor:
        """Add what attention [B, N, T, H] found, then the feed-forward."""
        x = x + layers.attention_out(attended.transpose(1, 2).flatten(2))
        normed = self.feed_forward_norm(x).to(layers.gate_and_up.weight.dtype)
        gate, up = layers.gate_and_up(normed).chunk(2, -1)
        found: Tensor = layers.down(functional.gelu(gate) * up)
        return x + found


class TransformerXl(nn.Module):
    """A stack of blocks over the last M timesteps of the episode."""

    sinusoids: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.slots = sizes.memory + 1
        self.products: torch.dtype = torch.float32
        self.captures = False  # whether states that begin from now on have their step captured
        self.head_width = sizes.width // sizes.heads
        self.blocks = nn.ModuleList(Block(sizes.width, sizes.heads) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width)
        self.register_buffer("sinusoids", sinusoids_of(self.slots, sizes.width), persistent=False)

    def initial_state(self, batch: int) -> TransformerState:
        """Return an empty cache."""
        like = self.norm.weight
        shape = (self.sizes.layers, batch, self.sizes.heads, self.slots, self.head_width)
        state = TransformerState(
            keys=like.new_zeros(shape, dtype=self.products),
            values=like.new_zeros(shape, dtype=self.products),
            episodes=torch.full((batch, self.slots), -1, device=like.device),
            episode=torch.zeros(batch, dtype=torch.int64, device=like.device),
            position=0,
        )
        return capture(self, state) if self.captures else state

    def make_ready(self, state: TransformerState) -> TransformerState:
        """Return the state with what follows from the parameters worked out."""
        if state.ready is not None:
            return state
        return replace(state, ready=tuple(_block(block).ready(self.sinusoids, self.products) for block in self.blocks))

    def step(self, x_BD: Tensor, state: TransformerState, clear_B: Tensor) -> tuple[Tensor, TransformerState]:
        """One timestep. Writes into `state` and returns it with the next position."""
        ready = self.make_ready(state).ready
        assert ready is not None
        slot = state.position % self.slots
        if state.captured is None:
            out = self.advance(x_BD, state, clear_B, ready, slot)
        else:
            out = state.captured(x_BD, clear_B, slot, ready)
        return out, replace(state, position=state.position + 1, ready=ready)

    def advance(
        self, x_BD: Tensor, state: TransformerState, clear_B: Tensor, ready: tuple[ReadyBlock, ...], slot: int | Tensor
    ) -> Tensor:
        """Write one timestep into the state's slot, a number or int64 [1], and return what it finds, [B, D]."""
        state.episode += clear_B
        _put(state.episodes, 1, slot, state.episode)
        other = state.episodes != state.episode[:, None]  # [B, S]
        mask = torch.zeros_like(other, dtype=self.products).masked_fill_(other, MASKED)[:, None, None]
        x = x_BD[:, None]
        for block, own, keys, values in zip(self.blocks, ready, state.keys, state.values, strict=True):
            query, key, value = _block(block).project(x, own.layers)  # [B, N, 1, H]
            _put(keys, 2, slot, key[:, :, 0])
            _put(values, 2, slot, value[:, :, 0])
            scores = torch.matmul(query + own.content_offset, keys.transpose(-1, -2))
            scores += score_by_age(query + own.age_offset, self._of_ages(own.age_keys, slot))
            weights = torch.softmax(scores.add_(mask), -1)
            x = _block(block).finish(x, torch.matmul(weights, values), own.layers)
        out: Tensor = self.norm(x[:, 0])
        return out

    def _of_ages(self, age_keys: Tensor, slot: int | Tensor) -> Tensor:
        """Return the keys of the slots' ages, [N, H, S], of `ReadyBlock.age_keys`, when this slot is written."""
        of_first = self.slots - 1 - slot  # column of slot 0
        if isinstance(of_first, int):
            return age_keys[..., of_first : of_first + self.slots]
        return age_keys.index_select(-1, of_first + torch.arange(self.slots, device=age_keys.device))

    def unroll(self, x_TBD: Tensor, state: TransformerState, clear_TB: Tensor) -> Tensor:
        """T timesteps at once; leaves `state` as it is. Rows see the cache's newest M slots and the rows before."""
        episode = state.episode[:, None] + clear_TB.long().cumsum(0).t()  # [B, T]
        episodes = torch.cat([self._oldest_first(state.episodes, 1, state.position), episode], 1)  # [B, M + T]
        mask = self._mask(episodes, episode, x_TBD.dtype)
        sinusoids = self.sinusoids.flip(0)  # age M first, as the columns of a row's band
        x = x_TBD.transpose(0, 1)
        with torch.autocast(x.device.type, self.products, enabled=self.products != torch.float32):
            for layer, block in enumerate(map(_block, self.blocks)):
                query, key, value = block.project(x, block.layers)
                attended = attend(
                    query,
                    key,
                    value,
                    block.age_keys(sinusoids),
                    block.content_bias * block.scale,
                    block.age_bias * block.scale,
                    self._oldest_first(state.keys[layer], 2, state.position),
                    self._oldest_first(state.values[layer], 2, state.position),
                    mask,
                )
                x = block.finish(x, attended, block.layers)
        out: Tensor = self.norm(x)
        return out.transpose(0, 1)

    def _oldest_first(self, ring: Tensor, dim: int, position: int) -> Tensor:
        """Return the newest M of a ring's M + 1 slots, without the one that is written next."""
        slot = position % self.slots
        return (ring if slot == 0 else ring.roll(-slot, dim)).narrow(dim, 1, self.sizes.memory)

    def _mask(self, episodes: Tensor, episode: Tensor, dtype: torch.dtype) -> Tensor:
        """Return 0 where row t may see column j, else MASKED; [B, 1, T, M + T]. Columns: M cached, then T own."""
        T = episode.shape[1]
        columns = torch.arange(episodes.shape[1], device=episode.device)
        offset = columns - columns[:T, None]
        outside = (offset < 0) | (offset > self.sizes.memory)
        hidden = outside | (episodes[:, None, :] != episode[:, :, None])
        return torch.zeros(hidden.shape, dtype=dtype, device=episode.device).masked_fill_(hidden, MASKED)[:, None]

    @staticmethod
    def renew(state: TransformerState) -> TransformerState:
        """Return the state for parameters that have changed."""
        return replace(state, ready=None)

    @staticmethod
    def select(state: TransformerState, worlds: Tensor) -> TransformerState:
        """Return the state of these worlds."""
        return replace(
            state,
            captured=None,
            keys=state.keys.index_select(1, worlds),
            values=state.values.index_select(1, worlds),
            episodes=state.episodes[worlds],
            episode=state.episode[worlds],
        )

    def clone(self, state: TransformerState) -> TransformerState:
        """Return a copy that later steps leave alone, its ring turned to where it is written next."""
        turn = -(state.position % self.slots)
        return replace(
            state,
            captured=None,
            keys=state.keys.roll(turn, 3),
            values=state.values.roll(turn, 3),
            episodes=state.episodes.roll(turn, 1),
            episode=state.episode.clone(),
            position=0,
        )


def _put(ring: Tensor, dim: int, slot: int | Tensor, value: Tensor) -> None:
    """Write a value into a slot of this axis; one that lies on a device, int64 [1], is not waited for."""
    if isinstance(slot, int):
        ring.select(dim, slot).copy_(value)
    else:
        ring.index_copy_(dim, slot, value.unsqueeze(dim))


def _block(module: nn.Module) -> Block:
    assert isinstance(module, Block)
    return module


def sinusoids_of(ages: int, width: int) -> Tensor:
    """Return R, [ages, D]: sines, then cosines, of wavelengths from 2 pi to 10,000 * 2 pi timesteps."""
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angle = torch.arange(ages)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], -1)[:, :width]
