"""Linear layers as all networks here begin them."""

from torch import nn

RELU_GAIN = 2.0**0.5


def linear(inputs: int, outputs: int, gain: float = 1.0) -> nn.Linear:
    """Return a linear layer with orthogonal weights of this gain and no offset."""
    layer = nn.Linear(inputs, outputs)
    if not layer.weight.is_meta:
        nn.init.orthogonal_(layer.weight, gain)
        nn.init.zeros_(layer.bias)
    return layer
