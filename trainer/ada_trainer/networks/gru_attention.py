"""A GRU that reads from its own past: attention over 64 states, one written every 8th timestep (AdA, appendix C).

    read_t = attention(query h_(t-1); keys and values of the written states of the episode)
    h_t    = GRU([x_t, read_t], h_(t-1))                      the output is h_t

What is read enters the recurrence, so an unroll goes timestep by timestep. The 8th timesteps are those of the episode.
Each entry carries the number of the episode that wrote it. With an empty store 0 is read.

Letters: B worlds, D width, N heads, H head width, S entries.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ada_trainer.networks.gru import Gru
from ada_trainer.networks.layers import linear

WRITTEN_STATES = 64
WRITE_INTERVAL = 8  # timesteps
MASKED = -1e9


@dataclass(slots=True)
class GruAttentionState:
    """`step` makes new tensors for what it changes."""

    hidden: Tensor  # [B, D]
    keys: Tensor  # [B, N, S, H], oldest first
    values: Tensor  # [B, N, S, H]
    episodes: Tensor  # int64 [B, S]: the episode that wrote the entry, -1 for an empty one
    episode: Tensor  # int64 [B]: number of the present episode
    age: Tensor  # int64 [B]: timesteps of the present episode


class GruAttention(nn.Module):
    """One layer of gated recurrent units and one attention over its written states."""

    def __init__(self, width: int, heads: int, written: int = WRITTEN_STATES) -> None:
        super().__init__()
        self.width, self.heads, self.written = width, heads, written
        self.cell = Gru(width, inputs=2 * width)
        self.query = linear(width, width)
        self.key_value = linear(width, 2 * width)
        self.read_out = linear(width, width)

    def initial_state(self, batch: int) -> GruAttentionState:
        """Return an empty memory."""
        like = self.query.bias
        store = like.new_zeros(batch, self.heads, self.written, self.width // self.heads)
        return GruAttentionState(
            hidden=self.cell.initial_state(batch),
            keys=store,
            values=store.clone(),
            episodes=torch.full((batch, self.written), -1, device=like.device),
            episode=torch.zeros(batch, dtype=torch.int64, device=like.device),
            age=torch.zeros(batch, dtype=torch.int64, device=like.device),
        )

    def step(self, x_BD: Tensor, state: GruAttentionState, clear_B: Tensor) -> tuple[Tensor, GruAttentionState]:
        """One timestep; leaves `state` as it is."""
        episode = state.episode + clear_B
        hidden = state.hidden * (~clear_B)[:, None]
        read = self._read(hidden, state, episode)
        hidden, _ = self.cell.step(torch.cat([x_BD, read], -1), hidden, torch.zeros_like(clear_B))
        age = torch.where(clear_B, 0, state.age) + 1
        after = replace(state, hidden=hidden, episode=episode, age=age)
        writes = age % WRITE_INTERVAL == 0
        if writes.any():
            key, value = self.key_value(hidden).unflatten(-1, (2, self.heads, 1, -1)).unbind(1)
            wide = writes[:, None, None, None]
            after.keys = torch.where(wide, torch.cat([state.keys[:, :, 1:], key], 2), state.keys)
            after.values = torch.where(wide, torch.cat([state.values[:, :, 1:], value], 2), state.values)
            episodes = torch.cat([state.episodes[:, 1:], episode[:, None]], 1)
            after.episodes = torch.where(writes[:, None], episodes, state.episodes)
        return hidden, after

    def _read(self, hidden: Tensor, state: GruAttentionState, episode: Tensor) -> Tensor:
        """Return what the query from the memory finds among the episode's written states, [B, D]."""
        own = (state.episodes == episode[:, None])[:, None]  # [B, 1, S]
        query = self.query(hidden).unflatten(-1, (self.heads, 1, -1))  # [B, N, 1, H]
        scores = (query * state.keys).sum(-1) * (self.width // self.heads) ** -0.5
        weights = torch.softmax(scores.masked_fill(~own, MASKED), -1) * own
        found = (weights[..., None] * state.values).sum(2).flatten(1)
        out: Tensor = self.read_out(found)
        return out * own.any(-1)

    def unroll(self, x_TBD: Tensor, state: GruAttentionState, clear_TB: Tensor) -> Tensor:
        """T timesteps, one by one."""
        outputs = []
        for x_BD, clear_B in zip(x_TBD, clear_TB, strict=True):
            output, state = self.step(x_BD, state, clear_B)
            outputs.append(output)
        return torch.stack(outputs)

    @staticmethod
    def select(state: GruAttentionState, worlds: Tensor) -> GruAttentionState:
        """Return the state of these worlds."""
        return GruAttentionState(
            hidden=state.hidden[worlds],
            keys=state.keys[worlds],
            values=state.values[worlds],
            episodes=state.episodes[worlds],
            episode=state.episode[worlds],
            age=state.age[worlds],
        )

    @staticmethod
    def clone(state: GruAttentionState) -> GruAttentionState:
        """Return the state: steps do not write into it."""
        return state
