"""The memory looks at the objects in sight.

A query from the memory is multiplied with a key of every visible object; product and value go through one layer, and
the results are summed. Not a softmax: "none of these" must be possible. Without it a small agent has to carry what it
knows of all objects through the memory to the policy; with it, only what to look for.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ada_trainer.networks.encoders import VisibleObjects
from ada_trainer.networks.layers import RELU_GAIN, linear


class ObjectReader(nn.Module):
    """Memory [..., D] and the R objects visible to it, of F features, to [..., E]."""

    def __init__(self, width: int, features: int, embedding: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.query = linear(width, embedding)
        self.key_value = linear(features, 2 * embedding)
        self.out = linear(2 * embedding, embedding, RELU_GAIN)

    def forward(self, memory: Tensor, objects: VisibleObjects) -> Tensor:
        key, value = self.key_value(objects.features).chunk(2, -1)
        query = self.query(memory).flatten(0, -2).index_select(0, objects.seen_in)
        seen = functional.relu(self.out(torch.cat([query * key, value], -1)))
        sums = memory.new_zeros(memory.shape[:-1].numel(), self.embedding).index_add_(0, objects.seen_in, seen)
        return sums.view(*memory.shape[:-1], self.embedding)
