"""The yardstick of acting and learning: the same Transformer-XL memory the way one first writes it, eager and in fp32.

Same sizes and arithmetic as `ada_trainer.networks.transformer_xl`: pre-LN, gated feed-forward, relative positions with
learned offsets. Acting keeps keys and values and asks `scaled_dot_product_attention`; or, as in the paper, keeps the
inputs of each layer and projects all of them anew at each timestep. The two agree (a test compares them).
Letters: B, D, H, L, M, N, T as there; S = M + T columns.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ada_trainer.networks.presets import Sizes

MASKED = -1e9


@dataclass(slots=True)
class PlainState:
    """A ring of the newest M timesteps and the present one; timestep p is in slot p mod (M + 1). Written in place."""

    kept: tuple[Tensor, ...]  # keys and values, [L, B, N, M + 1, H] each; or inputs, [L, B, M + 1, D]
    episodes: Tensor  # int64 [B, M + 1], -1 for an empty slot
    episode: Tensor  # int64 [B]
    position: int  # of the next timestep


class PlainBlock(nn.Module):
    """One layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.from_age = nn.Linear(width, width, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(heads, 1, width // heads))
        self.age_bias = nn.Parameter(torch.zeros(heads, 1, width // heads))
        hidden = round(8 * width / 3)
        self.gate_and_up, self.down = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def keys_and_values(self, normed: Tensor) -> tuple[Tensor, Tensor]:
        """Project [B, S, D] to keys and values, [B, N, S, H] each."""
        key, value = self.key_value(normed).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return key, value

    def score_ages(self, x: Tensor, sinusoids: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries [B, N, T, H] of [B, T, D], and their scores by age [B, N, T, A], of sinusoids [A, D]."""
        query = self.query(self.attention_norm(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        age_keys = self.from_age(sinusoids).unflatten(-1, (self.heads, -1)).permute(1, 2, 0)  # [N, H, A]
        by_age = torch.einsum(
            "bnth,nha->bnta", query + self.age_bias, age_keys
        )  # head by head: nothing is copied B times
        return query, by_age * query.shape[-1] ** -0.5

    def attend(self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Attend with `bias` [B, N, T, S] added to the scores of contents, then feed forward."""
        found = functional.scaled_dot_product_attention(query + self.content_bias, key, value, attn_mask=bias)
        x = x + self.out(found.transpose(1, 2).flatten(2))
        gate, up = self.gate_and_up(self.feed_forward_norm(x)).chunk(2, -1)
        added: Tensor = self.down(functional.gelu(gate) * up)
        return x + added


class PlainTransformerXl(nn.Module):
    """Takes the place of `AgentNetwork.core`."""

    def __init__(self, sizes: Sizes, reproject: bool = False) -> None:
        super().__init__()
        self.sizes, self.reproject = sizes, reproject
        self.blocks = nn.ModuleList(PlainBlock(sizes.width, sizes.heads) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width)

    def initial_state(self, batch: int) -> PlainState:
        """Return an empty memory."""
        sizes, like, slots = self.sizes, self.norm.weight, self.sizes.memory + 1
        shape: tuple[int, ...] = (sizes.layers, batch, sizes.heads, slots, sizes.width // sizes.heads)
        if self.reproject:
            shape = (sizes.layers, batch, slots, sizes.width)
        kept = tuple(like.new_zeros(shape) for _ in range(1 if self.reproject else 2))
        return PlainState(kept, torch.full((batch, slots), -1), torch.zeros(batch, dtype=torch.int64), 0)

    def step(self, x_BD: Tensor, state: PlainState, clear_B: Tensor) -> tuple[Tensor, PlainState]:
        """One timestep; writes into `state`."""
        slots = self.sizes.memory + 1
        slot = state.position % slots
        state.episode += clear_B
        state.episodes[:, slot] = state.episode
        hidden = (state.episodes != state.episode[:, None])[:, None, None]
        sinusoids = _sinusoids((slot - torch.arange(slots)) % slots, self.sizes.width)
        x = x_BD[:, None]
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, PlainBlock)
            if self.reproject:
                state.kept[0][layer, :, slot] = x[:, 0]
                keys, values = block.keys_and_values(block.attention_norm(state.kept[0][layer]))
            else:
                key, value = block.keys_and_values(block.attention_norm(x))
                keys, values = (kept[layer] for kept in state.kept)
                keys[:, :, slot], values[:, :, slot] = key[:, :, 0], value[:, :, 0]
            query, by_age = block.score_ages(x, sinusoids)
            x = block.attend(x, query, keys, values, by_age.masked_fill(hidden, MASKED))
        return self.norm(x[:, 0]), replace(state, position=state.position + 1)

    def unroll(self, x_TBD: Tensor, state: PlainState, clear_TB: Tensor) -> Tensor:
        """T timesteps, [T, B, D], with keys and values kept; leaves `state` as it is."""
        assert not self.reproject, "only acting is measured with inputs kept"
        T, M = len(x_TBD), self.sizes.memory
        oldest_first = (torch.arange(M) + state.position + 1) % (M + 1)
        episode = state.episode[:, None] + clear_TB.long().cumsum(0).t()
        episodes = torch.cat([state.episodes[:, oldest_first], episode], 1)
        offset = torch.arange(M + T) - torch.arange(T)[:, None]  # M is a row's own column
        hidden = (((offset < 0) | (offset > M)) | (episodes[:, None] != episode[:, :, None]))[:, None]
        sinusoids = _sinusoids(torch.arange(M + 1), self.sizes.width)
        age_of_column = (M - offset).clamp(0, M)
        x = x_TBD.transpose(0, 1)
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, PlainBlock)
            both = zip(state.kept, block.keys_and_values(block.attention_norm(x)), strict=True)
            key, value = (torch.cat([old[layer][:, :, oldest_first], new], 2) for old, new in both)
            query, by_age = block.score_ages(x, sinusoids)
            bias = by_age.gather(-1, age_of_column.expand(*by_age.shape[:2], T, M + T))
            x = block.attend(x, query, key, value, bias.masked_fill(hidden, MASKED))
        return self.norm(x).transpose(0, 1)

    @staticmethod
    def select(state: PlainState, worlds: Tensor) -> PlainState:
        """Return the state of these worlds."""
        kept = tuple(part[:, worlds] for part in state.kept)
        return PlainState(kept, state.episodes[worlds], state.episode[worlds], state.position)

    @staticmethod
    def clone(state: PlainState) -> PlainState:
        """Return a copy that later steps leave alone."""
        kept = tuple(part.clone() for part in state.kept)
        return PlainState(kept, state.episodes.clone(), state.episode.clone(), state.position)

    def adopt(self, parameters: Mapping[str, Tensor]) -> None:
        """Take over the parameters of our own Transformer-XL, by name."""
        own = {
            name.replace("query_key_value", "key_value").replace("attention_out", "out"): value
            for name, value in parameters.items()
        }
        for name in [name for name in own if ".key_value." in name]:
            query, own[name] = own[name].split([self.sizes.width, 2 * self.sizes.width])
            own[name.replace("key_value", "query")] = query
        self.load_state_dict(own)


def _sinusoids(ages: Tensor, width: int) -> Tensor:
    """Return sines, then cosines, [ages, D]; negative ages are never seen."""
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angle = ages[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], -1)[:, :width]
