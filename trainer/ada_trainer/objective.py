"""What an algorithm is to the learner: targets once a batch, terms once a minibatch, something to do after a step."""

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

from ada_trainer.batch import Batch

Reduce = Callable[[Tensor], Tensor]  # the sum over all workers of a tensor of the same shape on each


class Objective(Protocol):
    """An algorithm's losses over a network and whatever else it keeps."""

    terms: tuple[str, ...]  # names of what `loss` returns; the first is the loss itself
    auxiliary: nn.ModuleDict  # heads that learn beside the network and that no agent needs; mostly empty

    def prepare(self, batch: Batch, reduce: Reduce, seed: int) -> Any:
        """Return the targets of a batch, the same whatever the worlds are split into."""

    def loss(self, batch: Batch, targets: Any, worlds: Tensor, count: float, index: int) -> tuple[Tensor, ...]:
        """Return the terms of a minibatch: sums over `worlds`, weighted by 1 over the group's `count` of timesteps.

        Args:
            index: number of the minibatch within the batch.
        """
        ...

    def stepped(self) -> None:
        """Take note that the optimiser made a step."""

    def state_dict(self) -> dict[str, Any]:
        """Return what goes on besides network and optimiser; tensors are the live ones."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
