"""What the agent sees and feels at a timestep, to one vector of the model's width.

Shapes lead with any number of axes, written `...`. O visible objects, F features of an object, E embedding, D width.
"""

from collections.abc import Mapping, Sequence

import torch
from ada_sim.constants import ACTION_SIZES
from torch import Tensor, nn
from torch.nn import functional

from ada_trainer.networks.layers import RELU_GAIN, linear

SCALAR_FIELDS = ("ranges", "body", "last_reward", "trials_remaining", "timers", "trial_start")
PIXEL_CHANNELS = (16, 32, 32)  # AdA, appendix C
PIXEL_FEATURES = 256


class VectorFeatures(nn.Module):
    """The observation's plain numbers and the last action (one-hot, 0 for none) of the groups that are controlled."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__()
        self.fields = tuple(name for name in SCALAR_FIELDS if name in shapes)
        self.groups = tuple(groups)
        self.width = sum(shapes[name][0] for name in self.fields) + sum(ACTION_SIZES[group] + 1 for group in groups)

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        parts = [observation[name] for name in self.fields]
        last_action = observation["last_action"]
        for group in self.groups:
            choices = torch.arange(ACTION_SIZES[group] + 1, device=last_action.device, dtype=last_action.dtype)
            parts.append((last_action[..., group, None] == choices).to(parts[0].dtype))
        return torch.cat(parts, -1)


class SymbolicEncoder(nn.Module):
    """One network for every visible object; the results, nearest first, side by side with the plain numbers.

    Objects fill their slots from the first and empty ones count as zeros, so slots that are empty throughout
    the batch are left out: the sum is the same, and most of the work is spared where few objects are in sight.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int], embedding: int, width: int
    ) -> None:
        super().__init__()
        slots, features = shapes["objects"]
        self.embedding = embedding
        self.vector = VectorFeatures(shapes, groups)
        self.object_hidden = linear(features, embedding, RELU_GAIN)
        self.object_out = linear(embedding, embedding, RELU_GAIN)
        self.out = linear(self.vector.width + slots * embedding, width, RELU_GAIN)

    def forward(self, observation: Mapping[str, Tensor], task: Tensor) -> Tensor:
        objects = observation["objects"]
        hidden = functional.relu(self.object_out(functional.relu(self.object_hidden(objects)))) * objects[..., :1]
        x = torch.cat([self.vector(observation), hidden.flatten(-2)], -1)
        return functional.relu(functional.linear(x, self.out.weight[:, : x.shape[-1]], self.out.bias) + task)


class ResidualBlock(nn.Module):
    """Two convolutions beside the identity, times a learned scalar."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale = nn.Parameter(torch.full((), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.second(functional.relu(self.first(functional.relu(x))))


class PixelEncoder(nn.Module):
    """A residual network of three stages over the picture (AdA, appendix C; each stage as in IMPALA)."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int], width: int) -> None:
        super().__init__()
        height, breadth, inputs = shapes["pixels"]
        stages: list[nn.Module] = []
        for channels in PIXEL_CHANNELS:
            stages += [nn.Conv2d(inputs, channels, 3, padding=1), nn.MaxPool2d(3, 2, padding=1)]
            stages += [ResidualBlock(channels), ResidualBlock(channels)]
            inputs, height, breadth = channels, (height + 1) // 2, (breadth + 1) // 2
        self.stages = nn.Sequential(*stages)
        self.picture = linear(inputs * height * breadth, PIXEL_FEATURES, RELU_GAIN)
        self.vector = VectorFeatures(shapes, groups)
        self.out = linear(self.vector.width + PIXEL_FEATURES, width, RELU_GAIN)

    def forward(self, observation: Mapping[str, Tensor], task: Tensor) -> Tensor:
        pixels = observation["pixels"]
        lead = pixels.shape[:-3]
        x = pixels.flatten(0, -4).permute(0, 3, 1, 2).to(self.out.weight.dtype) / 255
        features = functional.relu(self.picture(functional.relu(self.stages(x)).flatten(1)))
        x = torch.cat([self.vector(observation), features.unflatten(0, lead)], -1)
        return functional.relu(self.out(x) + task)
