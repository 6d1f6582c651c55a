"""Scalars as categories: the value transform and two-hot targets (Schrittwieser et al., 2020, appendix F).

A head gives logits over bins that stand evenly between -range and range, in the transformed scale. Its scalar is the
mean over bins, transformed back. Shapes: scalars [...], logits [..., V] with V bins.
"""

import torch
from torch import Tensor

EPSILON = 1e-3  # of the transform: keeps it invertible far out


def transform(x: Tensor) -> Tensor:
    """Return h(x) = sign(x) (sqrt(|x| + 1) - 1) + e x."""
    return torch.sign(x) * ((x.abs() + 1).sqrt() - 1) + EPSILON * x


def transform_back(y: Tensor) -> Tensor:
    """Return the x with h(x) = y: sign(y) (((sqrt(1 + 4 e (|y| + 1 + e)) - 1) / (2 e))^2 - 1).

    sqrt(1 + i) - 1 is computed as i / (sqrt(1 + i) + 1), which loses no digits where i is small.
    """
    inner = 4 * EPSILON * (y.abs() + 1 + EPSILON)
    root = inner / ((1 + inner).sqrt() + 1) / (2 * EPSILON)
    return torch.sign(y) * (root.square() - 1)


def support(bins: int, limit: float) -> Tensor:
    """Return the transformed values that the bins stand for, [V]."""
    return torch.linspace(-limit, limit, bins)


def mean(logits: Tensor, of_bins: Tensor) -> Tensor:
    """Return the scalars [...] of logits [..., V]; `of_bins` is the support."""
    return transform_back(logits.softmax(-1) @ of_bins)


def cross_entropy(logits: Tensor, target: Tensor, limit: float) -> Tensor:
    """Return the cross-entropy [...] of logits [..., V] to the two-hot of scalars [...].

    A target between two bins is shared so that their mean is h(target); one beyond the last bin is the last.
    """
    last = logits.shape[-1] - 1
    place = (transform(target).clamp(-limit, limit) + limit) * (last / (2 * limit))
    below = place.floor().clamp(max=last - 1)
    share = (place - below).to(logits.dtype)
    low = below.nan_to_num().long()[..., None]  # what is not a number stays one through its share
    # sum of p log softmax = p . logits - logsumexp, so only three numbers a row are needed of the softmax
    at = logits.gather(-1, torch.cat([low, low + 1], -1))
    return logits.logsumexp(-1) - torch.lerp(at[..., 0], at[..., 1], share)
