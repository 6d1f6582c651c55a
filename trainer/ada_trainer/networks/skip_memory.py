"""The memory of AdA's many-shot runs: a GRU encodes every timestep, attention sees every 4th of them (appendix D).

The blocks are those of `transformer_xl`. A timestep attends to itself and to the M newest timesteps of the episode
before it whose number in the episode is a multiple of the stride, so that M entries reach M times the stride back:

    stride 4, M = 2, timestep 10:   0 1 2 3 [4] 5 6 7 [8] 9 [10]

Keys and values are kept as a ring of M entries, oldest first; relative positions are in timesteps. Each entry carries
the number of the episode that wrote it. Letters as in `transformer_xl`; C columns of a row's scores.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ada_trainer.networks.attention import score_by_age
from ada_trainer.networks.gru import Gru
from ada_trainer.networks.presets import Sizes
from ada_trainer.networks.transformer_xl import MASKED, Block, sinusoids_of


@dataclass(slots=True)
class SkipState:
    """`step` makes new tensors for what it changes."""

    encoded: Tensor  # [B, D]: the GRU's memory
    keys: Tensor  # [L, B, N, M, H], oldest first
    values: Tensor  # [L, B, N, M, H]
    episodes: Tensor  # int64 [B, M]: the episode that wrote the entry, -1 for an empty one
    episode: Tensor  # int64 [B]: number of the present episode
    times: Tensor  # int64 [B, M]: when the entry was written, relative to the next timestep: -1 is the last one
    age: Tensor  # int64 [B]: timesteps of the present episode


class SkipMemory(nn.Module):
    """A GRU, then a stack of blocks over every so many of its outputs."""

    sinusoids: Tensor

    def __init__(self, sizes: Sizes, stride: int) -> None:
        super().__init__()
        self.sizes, self.stride = sizes, stride
        self.encoder = Gru(sizes.width)
        self.blocks = nn.ModuleList(Block(sizes.width, sizes.heads) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width)
        ages = (sizes.memory + 1) * stride
        self.register_buffer("sinusoids", sinusoids_of(ages, sizes.width), persistent=False)

    def initial_state(self, batch: int) -> SkipState:
        """Return an empty memory."""
        like, sizes = self.norm.weight, self.sizes
        store = like.new_zeros(sizes.layers, batch, sizes.heads, sizes.memory, sizes.width // sizes.heads)
        return SkipState(
            encoded=self.encoder.initial_state(batch),
            keys=store,
            values=store.clone(),
            episodes=torch.full((batch, sizes.memory), -1, device=like.device),
            episode=torch.zeros(batch, dtype=torch.int64, device=like.device),
            times=torch.full((batch, sizes.memory), -1, device=like.device),
            age=torch.zeros(batch, dtype=torch.int64, device=like.device),
        )

    def step(self, x_BD: Tensor, state: SkipState, clear_B: Tensor) -> tuple[Tensor, SkipState]:
        """One timestep; leaves `state` as it is."""
        out, after = self._go_on(x_BD[None], state, clear_B[None])
        return out[0], after

    def unroll(self, x_TBD: Tensor, state: SkipState, clear_TB: Tensor) -> Tensor:
        """T timesteps at once; leaves `state` as it is."""
        out, _ = self._go_on(x_TBD, state, clear_TB)
        return out

    def _go_on(self, x_TBD: Tensor, state: SkipState, clear_TB: Tensor) -> tuple[Tensor, SkipState]:
        """Return outputs and the state after them; gradients do not flow into the state."""
        encoded = self.encoder.unroll(x_TBD, state.encoded, clear_TB)
        columns = self._columns(state, clear_TB)
        mask = torch.zeros(columns.seen.shape, dtype=x_TBD.dtype, device=x_TBD.device)
        mask = mask.masked_fill_(~columns.seen, MASKED)[:, None]
        x = encoded.transpose(0, 1)
        keys, values = [], []
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            query, key, value = block.project(x, block.layers)
            key = torch.cat([state.keys[layer], key], 2)
            value = torch.cat([state.values[layer], value], 2)
            scores = torch.matmul(query + block.content_bias * block.scale, key.transpose(-1, -2))
            by_age = score_by_age(query + block.age_bias * block.scale, block.age_keys(self.sinusoids))
            scores = scores + by_age.gather(-1, columns.ages[:, None].expand(-1, by_age.shape[1], -1, -1))
            x = block.finish(x, torch.matmul(torch.softmax(scores + mask, -1), value), block.layers)
            newest = columns.newest[:, None, :, None].expand(-1, key.shape[1], -1, key.shape[3])
            keys.append(key.detach().gather(2, newest))
            values.append(value.detach().gather(2, newest))
        after = SkipState(
            encoded=encoded[-1].detach(),
            keys=torch.stack(keys),
            values=torch.stack(values),
            episodes=columns.episodes.gather(1, columns.newest),
            episode=columns.episodes[:, -1],
            times=columns.times.gather(1, columns.newest) - len(x_TBD),
            age=columns.age,
        )
        return self.norm(x).transpose(0, 1), after

    def _columns(self, state: SkipState, clear_TB: Tensor) -> "_Columns":
        """Return what the T rows of an unroll attend to: the M kept entries, oldest first, then its own timesteps."""
        T, B = clear_TB.shape
        M = self.sizes.memory
        own = torch.arange(T, device=clear_TB.device)
        start = torch.where(clear_TB, own[:, None], -state.age).cummax(0).values.t()  # [B, T]: where the episode began
        age = own - start
        episode = state.episode[:, None] + clear_TB.long().cumsum(0).t()
        episodes = torch.cat([state.episodes, episode], 1)  # [B, C]
        times = torch.cat([state.times, own.expand(B, -1)], 1)
        kept = torch.cat([torch.ones_like(state.times, dtype=torch.bool), age % self.stride == 0], 1)
        number = kept.cumsum(1)  # of kept entries up to a column
        before = (number - kept.long())[:, M:, None]  # [B, T, 1]: kept before the row
        rows, columns = times[:, M:, None], times[:, None, :]
        recent = kept[:, None] & (columns < rows) & (before - number[:, None] < M)
        seen = (recent | (columns == rows)) & (episodes[:, None] == episode[..., None])
        newest = kept & (number[:, -1:] - number < M)  # M in each world
        return _Columns(
            seen=seen,
            ages=(rows - columns).clamp(0, len(self.sinusoids) - 1),
            episodes=episodes,
            times=times,
            newest=newest.nonzero()[:, 1].view(B, M),
            age=age[:, -1] + 1,
        )

    @staticmethod
    def select(state: SkipState, worlds: Tensor) -> SkipState:
        """Return the state of these worlds."""
        return SkipState(
            encoded=state.encoded[worlds],
            keys=state.keys.index_select(1, worlds),
            values=state.values.index_select(1, worlds),
            episodes=state.episodes[worlds],
            episode=state.episode[worlds],
            times=state.times[worlds],
            age=state.age[worlds],
        )

    @staticmethod
    def clone(state: SkipState) -> SkipState:
        """Return the state: steps do not write into it."""
        return state


@dataclass(frozen=True, slots=True)
class _Columns:
    """What the rows of an unroll may attend to; C = M + T columns."""

    seen: Tensor  # bool [B, T, C]
    ages: Tensor  # int64 [B, T, C]
    episodes: Tensor  # int64 [B, C]
    times: Tensor  # int64 [B, C]: the unroll's first timestep is 0
    newest: Tensor  # int64 [B, M]: columns that are kept, oldest first
    age: Tensor  # int64 [B]: timesteps of the episode that the unroll ends in
