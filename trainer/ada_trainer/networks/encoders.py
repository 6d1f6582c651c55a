"""What the agent sees and feels at a timestep, to one vector of the model's width.

Shapes lead with any number of axes, written `...`; N observations without regard to axes, O object slots, R visible
objects, F features of an object, E embedding, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ada_trainer.networks.layers import RELU_GAIN, linear

SCALAR_FIELDS = ("ranges", "body", "last_reward", "trials_remaining", "timers", "trial_start")
NEAR_FEATURE = 13  # of a row of `objects`: within a metre
PIXEL_CHANNELS = (16, 32, 32)  # AdA, appendix C
PIXEL_FEATURES = 256


class VectorFeatures(nn.Module):
    """The observation's plain numbers and the last action (one-hot, 0 for none) of the groups that are controlled."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int], choices: Sequence[int]) -> None:
        super().__init__()
        self.fields = tuple(name for name in SCALAR_FIELDS if name in shapes)
        self.groups, self.choices = tuple(groups), tuple(choices)
        self.width = sum(shapes[name][0] for name in self.fields) + sum(size + 1 for size in choices)

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        parts = [observation[name] for name in self.fields]
        last_action = observation["last_action"]
        for group, size in zip(self.groups, self.choices, strict=True):
            choices = torch.arange(size + 1, device=last_action.device, dtype=last_action.dtype)
            parts.append((last_action[..., group, None] == choices).to(parts[0].dtype))
        return torch.cat(parts, -1)


@dataclass(frozen=True, slots=True)
class VisibleObjects:
    """The objects in sight in N observations, one row each; slot 0, the nearest, of all observations first.

    Most slots are empty most of the time: what is computed only for these rows costs a tenth.
    """

    features: Tensor  # [R, F]
    seen_in: Tensor  # int64 [R]: the observation, 0 to N - 1
    counts: tuple[int, ...]  # rows of each slot


def visible_objects(objects: Tensor) -> VisibleObjects:
    """Pick the filled slots of [N, O, F] (first feature: present)."""
    slots = objects.shape[1]
    slot, seen_in = (objects[..., 0] > 0).t().nonzero(as_tuple=True)
    features = objects.flatten(0, 1).index_select(0, seen_in * slots + slot)
    return VisibleObjects(features, seen_in, tuple(torch.bincount(slot, minlength=slots).tolist()))


class SymbolicEncoder(nn.Module):
    """One network for every visible object, then a layer with weights of their own for each slot, nearest first."""

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        groups: Sequence[int],
        choices: Sequence[int],
        embedding: int,
        width: int,
    ) -> None:
        super().__init__()
        slots, features = shapes["objects"]
        self.embedding = embedding
        self.vector = VectorFeatures(shapes, groups, choices)
        self.object_hidden = linear(features, embedding, RELU_GAIN)
        self.object_out = linear(embedding, embedding, RELU_GAIN)
        self.from_vector = linear(self.vector.width, width, RELU_GAIN)
        self.from_slots = nn.Parameter(linear(slots * embedding, width, RELU_GAIN).weight.detach())
        self.from_outcome = nn.Parameter(linear(2 * embedding, width, RELU_GAIN).weight.detach())

    def forward(self, observation: Mapping[str, Tensor], objects: VisibleObjects | None, task: Tensor) -> Tensor:
        assert objects is not None
        hidden = functional.relu(self.object_hidden(objects.features))
        hidden = functional.relu(self.object_out(hidden))
        x = (self.from_vector(self.vector(observation)) + task).flatten(0, -2)
        weights = self.from_slots.chunk(len(objects.counts), 1)
        hidden_of = torch.split_with_sizes(hidden, objects.counts)
        seen_in_of = torch.split_with_sizes(objects.seen_in, objects.counts)
        for of_slot, seen_in, weight in zip(hidden_of, seen_in_of, weights, strict=True):
            if len(of_slot):
                x.index_add_(0, seen_in, of_slot @ weight.t())
        x.index_add_(0, seen_in_of[0], self._outcomes(observation, objects, hidden_of[0]) @ self.from_outcome.t())
        return functional.relu(x).view_as(task)

    def _outcomes(self, observation: Mapping[str, Tensor], objects: VisibleObjects, hidden: Tensor) -> Tensor:
        """Return the nearest objects, if they are near, times the last reward and times what it lacked of 1; [R, 2 E].

        A memory of "this kind of object is worth having" needs this product. That it helps has not been shown here.
        """
        nearest = objects.counts[0]
        reward = observation["last_reward"].flatten(0, -2).index_select(0, objects.seen_in[:nearest])
        near = hidden * objects.features[:nearest, NEAR_FEATURE, None]
        return torch.cat([near * reward, near * (1 - reward)], -1)


class ResidualBlock(nn.Module):
    """Two convolutions beside the identity, times a learned scalar."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale = nn.Parameter(torch.full((), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.second(functional.relu(self.first(functional.relu(x))))
        return x + self.scale * residual


class PixelEncoder(nn.Module):
    """A residual network of three stages over the picture (AdA, appendix C; each stage as in IMPALA)."""

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int], choices: Sequence[int], width: int
    ) -> None:
        super().__init__()
        height, breadth, inputs = shapes["pixels"]
        stages: list[nn.Module] = []
        for channels in PIXEL_CHANNELS:
            stages += [nn.Conv2d(inputs, channels, 3, padding=1), nn.MaxPool2d(3, 2, padding=1)]
            stages += [ResidualBlock(channels), ResidualBlock(channels)]
            inputs, height, breadth = channels, (height + 1) // 2, (breadth + 1) // 2
        self.stages = nn.Sequential(*stages)
        self.picture = linear(inputs * height * breadth, PIXEL_FEATURES, RELU_GAIN)
        self.vector = VectorFeatures(shapes, groups, choices)
        self.out = linear(self.vector.width + PIXEL_FEATURES, width, RELU_GAIN)

    def forward(self, observation: Mapping[str, Tensor], objects: VisibleObjects | None, task: Tensor) -> Tensor:
        assert objects is None
        pixels = observation["pixels"]
        lead = pixels.shape[:-3]
        x = pixels.flatten(0, -4).permute(0, 3, 1, 2).to(self.out.weight.dtype) / 255
        features = functional.relu(self.picture(functional.relu(self.stages(x)).flatten(1)))
        x = torch.cat([self.vector(observation), features.view(*lead, -1)], -1)
        return functional.relu(self.out(x) + task)
