"""Heads that only learning needs: for latent consistency and for the reconstruction of observations.

They are no part of the agent: acting, teachers and evaluations never see them, and an agent's checkpoint is the same
with and without. The objective owns them and the optimiser moves them.
Letters: F numbers of an observation, P width of a projection, W width of the model's state.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from ada_trainer.algorithms.self_supervision import symlog
from ada_trainer.networks.layers import RELU_GAIN, linear

NUMBERS = ("objects", "ranges", "body")  # what a symbolic observation shows of the world
COARSE = (9, 12)  # rows and columns from which a picture is drawn
CHANNELS = (32, 16, 16)  # of the stages, each twice as high and wide


class Projection(nn.Module):
    """Projector and predictor of EfficientZero, with layer norms in place of its batch norms."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projector = nn.Sequential(
            linear(width, width, RELU_GAIN), nn.LayerNorm(width), nn.ReLU(), linear(width, width)
        )
        self.predictor = nn.Sequential(
            linear(width, width, RELU_GAIN), nn.LayerNorm(width), nn.ReLU(), linear(width, width)
        )

    def target(self, state: Tensor) -> Tensor:
        """Return what a state is to be predicted as, [..., P]; a constant."""
        with torch.no_grad():
            out: Tensor = self.projector(state)
        return out

    def forward(self, state: Tensor) -> Tensor:
        out: Tensor = self.predictor(self.projector(state))
        return out


class Decoder(nn.Module):
    """Features [..., W] to the observation's numbers, [..., F], or to its picture."""

    def __init__(self, width: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.pixels = shapes.get("pixels")
        self.fields = tuple(name for name in NUMBERS if name in shapes)
        self.hidden = linear(width, width, RELU_GAIN)
        if self.pixels is None:
            self.out = linear(width, sum(torch.Size(shapes[name]).numel() for name in self.fields))
            return
        self.out = linear(width, CHANNELS[0] * COARSE[0] * COARSE[1])
        stages: list[nn.Module] = []
        for inputs, outputs in zip(CHANNELS, (*CHANNELS[1:], self.pixels[-1]), strict=True):
            stages += [nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1)]
        self.stages = nn.Sequential(*stages)

    def wanted(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return what is to be decoded, [T, B, F], of an observation's fields [T, B, ...]."""
        if self.pixels is not None:
            return observation["pixels"].flatten(2).to(self.out.weight.dtype) / 255
        return symlog(torch.cat([observation[name].flatten(2) for name in self.fields], -1))

    def forward(self, features: Tensor) -> Tensor:
        coarse = self.out(functional.relu(self.hidden(features)))
        if self.pixels is None:
            numbers: Tensor = coarse
            return numbers
        lead = coarse.shape[:-1]
        picture: Tensor = self.stages(coarse.view(-1, CHANNELS[0], *COARSE))
        height, breadth = self.pixels[:2]
        return picture[..., :height, :breadth].permute(0, 2, 3, 1).reshape(*lead, -1)
