"""A Transformer-XL's step on a CUDA device as one graph: it is some hundred small kernels, each dear to launch.

A graph reads and writes the same memory each time that it is launched. So it belongs to one state, whose tensors `step`
writes into anyway; what changes from step to step, the ring's slot among it, lies in tensors of its own. Elsewhere than
on a CUDA device the same work is called in place of a graph, which is how the tests run it without one.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ada_trainer.networks.transformer_xl import ReadyBlock, TransformerState, TransformerXl

WARM_UPS = 3  # before a graph is captured, so that libraries have set themselves up


class CapturedStep:
    """The step over one state's tensors."""

    def __init__(self, core: "TransformerXl", state: "TransformerState") -> None:
        """Capture it; the state must be ready, and from now on is written by these steps alone."""
        assert state.ready is not None
        self._ready = self._taken = state.ready
        batch, device = len(state.episode), state.keys.device
        with torch.no_grad():
            self._x = torch.zeros(batch, core.sizes.width, device=device)
            self._clear = torch.zeros(batch, dtype=torch.bool, device=device)
            self._slot = torch.zeros(1, dtype=torch.int64, device=device)
            self._out = torch.zeros_like(self._x)
            aside = core.clone(state)

            def step_of(written: "TransformerState") -> None:
                self._out.copy_(core.advance(self._x, written, self._clear, self._ready, self._slot))

            self._again = record(lambda: step_of(state), lambda: step_of(aside), device)

    def __call__(self, x: Tensor, clear: Tensor, slot: int, ready: tuple["ReadyBlock", ...]) -> Tensor:
        """Return what a timestep finds, [B, D]; as `TransformerXl.advance`."""
        if ready is not self._taken:
            for mine, theirs in zip(_tensors(self._ready), _tensors(ready), strict=True):
                if mine is not theirs:  # in float32 the layers are the network's own
                    mine.copy_(theirs)
            self._taken = ready
        self._x.copy_(x)
        self._clear.copy_(clear)
        self._slot.fill_(slot)
        self._again()
        return self._out.clone()


def record(work: Callable[[], None], rehearsal: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Return what does the work again: a graph on a CUDA device, else the work itself.

    Args:
        rehearsal: the same work on memory that doesn't matter.
    """
    if device.type != "cuda":
        return work
    aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        for _ in range(WARM_UPS):
            rehearsal()
    torch.cuda.current_stream(device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may copy meanwhile
        work()
    return graph.replay


def capture(core: "TransformerXl", state: "TransformerState") -> "TransformerState":
    """Return the state with its step captured."""
    state = core.make_ready(state)
    return replace(state, captured=CapturedStep(core, state))


def _tensors(ready: tuple["ReadyBlock", ...]) -> list[Tensor]:
    found = list[Tensor]()
    for block in ready:
        layers = block.layers
        for layer in (layers.query_key_value, layers.attention_out, layers.gate_and_up, layers.down):
            found += layer.parameters()
        found += [block.age_keys, block.content_offset, block.age_offset]
    return found
