"""Attention of Transformer-XL over a cache and an unroll's own timesteps, with a backward pass by hand.

    scores = (q + u) K + band((q + v) A)      K: keys of the cache, then of the unroll; A: keys of ages, oldest first
    out    = softmax(scores + mask) V

Row t of `band` is moved to the right by t, so that column j of the scores meets the age M + t - j. Written into the
scores through strides, it costs no copy:

    a0 a1 .  .
    .  b0 b1 .        T = 3, S = 2, M + T = 4 columns: rows are M + T + 1 numbers apart
    .  .  c0 c1

Autograd alone would pad and copy the scores several times over, and work out gradients of the cache, which has none.
On a CUDA device PyTorch's fused attention does all but the ages' scores, which it takes as a bias.
Letters: B worlds, N heads, T timesteps, M cached ones, S = M + 1 ages, H head width. Queries and both offsets u and v
come multiplied by 1 / sqrt(H).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        age_keys: Tensor,
        content_offset: Tensor,
        age_offset: Tensor,
        old_keys: Tensor,
        old_values: Tensor,
        mask: Tensor,
    ) -> Tensor:
        kind = key.dtype
        keys = torch.cat([old_keys.to(kind), key], 2)
        values = torch.cat([old_values.to(kind), value], 2)
        content, by_age, age_keys = query + content_offset.to(kind), query + age_offset.to(kind), age_keys.to(kind)
        scores = torch.matmul(content, keys.transpose(-1, -2))
        _band(scores, age_keys.shape[-1]).add_(score_by_age(by_age, age_keys))
        weights = torch.softmax(scores.add_(mask.to(kind)), -1)
        ctx.save_for_backward(content, by_age, keys, values, age_keys, weights)
        return torch.matmul(weights, values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (d_out,) = gradients
        content, by_age, keys, values, age_keys, weights = ctx.saved_tensors
        (N, H, S), B, T = age_keys.shape, content.shape[0], content.shape[2]
        M = keys.shape[2] - T
        d_weights = torch.matmul(d_out, values.transpose(-1, -2))
        d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        d_content = torch.matmul(d_scores, keys)
        d_key = torch.matmul(d_scores[..., M:].transpose(-1, -2), content)
        d_value = torch.matmul(weights[..., M:].transpose(-1, -2), d_out)
        d_band = _band(d_scores, S).transpose(0, 1).reshape(N, B * T, S)
        d_by_age = torch.matmul(d_band, age_keys.transpose(-1, -2)).view(N, B, T, H).transpose(0, 1)
        d_age_keys = torch.matmul(by_age.transpose(0, 1).reshape(N, B * T, H).transpose(-1, -2), d_band)
        d_content_offset, d_age_offset = (part.sum((0, 2))[:, None] for part in (d_content, d_by_age))
        d_query = d_content + d_by_age
        return d_query, d_key, d_value, d_age_keys, d_content_offset, d_age_offset, None, None, None


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    age_keys: Tensor,
    content_offset: Tensor,
    age_offset: Tensor,
    old_keys: Tensor,
    old_values: Tensor,
    mask: Tensor,
    fused: bool | None = None,
) -> Tensor:
    """Return what queries [B, N, T, H] find, [B, N, T, H].

    Args:
        key, value: of the same timesteps.
        age_keys: [N, H, S], those of the oldest age first.
        content_offset, age_offset: u and v, [N, 1, H].
        old_keys, old_values: the cache, [B, N, M, H], oldest first; no gradients flow into it.
        mask: [B, 1, T, M + T], added to the scores.
        fused: by PyTorch's attention; on a CUDA device if it is not said.
    """
    if not (query.is_cuda if fused is None else fused):
        inputs = (query, key, value, age_keys, content_offset, age_offset, old_keys, old_values, mask)
        found: Tensor = _Attend.apply(*inputs)
        return found
    kind, T = key.dtype, query.shape[2]
    keys, values = (torch.cat([old.to(kind), new], 2) for old, new in ((old_keys, key), (old_values, value)))
    by_age = score_by_age(query + age_offset.to(kind), age_keys.to(kind))
    columns = keys.shape[2]  # a row of the band padded to one more than these: its flat numbers are rows moved apart
    band = functional.pad(by_age, (0, T)).flatten(-2)[..., : T * columns].view(*by_age.shape[:-1], columns)
    content = query + content_offset.to(kind)
    return functional.scaled_dot_product_attention(content, keys, values, band + mask.to(kind), scale=1.0)


def score_by_age(query: Tensor, age_keys: Tensor) -> Tensor:
    """Return the products [B, N, T, S] of queries [B, N, T, H] and keys of ages [N, H, S].

    Head by head over all queries at once: a product that broadcasts over B would copy the keys for each.
    """
    B, N, T, _ = query.shape
    rows = query.transpose(0, 1).flatten(1, 2)
    return torch.matmul(rows, age_keys).view(N, B, T, -1).transpose(0, 1)


def _band(scores: Tensor, ages: int) -> Tensor:
    """Return the view [B, N, T, S] of scores [B, N, T, M + T], contiguous, in which row t begins at column t."""
    B, N, T, columns = scores.shape
    return scores.as_strided((B, N, T, ages), (N * T * columns, T * columns, columns + 1, 1))
