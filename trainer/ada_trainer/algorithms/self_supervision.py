"""What an agent can learn from its observations alone, beside Muesli or PPO; both losses are options, off by default.

    latent consistency (Ye et al., 2021, EfficientZero, section 4.1; after SimSiam, Chen and He, 2021):
        -cos( predict(project(s_k)), stop_gradient(project(s_0(t+k))) )
        s_k: the model's state k steps after t, s_0(t+k): the state that the memory gives at t + k
    reconstruction (Hafner et al., 2023, DreamerV3, equations 8 to 10):
        (decode(s) - symlog(x))^2 / 2,    symlog(x) = sign(x) ln(1 + |x|)
        of an observation's numbers; of a picture, in [0, 1], without symlog

Dreamer sums over an observation's numbers; here it is their mean, so that a weight means the same for few and for many.
"""

import torch
from torch import Tensor
from torch.nn import functional


def consistency_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the negative cosine similarity, [...], of [..., P]; no gradient flows into the target."""
    return -functional.cosine_similarity(predicted, target.detach(), -1)


def symlog(x: Tensor) -> Tensor:
    """Return sign(x) ln(1 + |x|)."""
    return torch.sign(x) * torch.log1p(x.abs())


def reconstruction_loss(decoded: Tensor, wanted: Tensor) -> Tensor:
    """Return half the mean squared error over the last axis, [...], of [..., F]; `wanted` is symlog(x) already."""
    return (decoded - wanted).square().mean(-1) / 2
