"""Captures: the learner's state of one moment, copied into memory that is kept; that copy is all the learner waits for.

Whatever takes long (digesting, writing, uploading) reads the capture in the background. Buffers are kept because memory
that was never touched costs more than the copy: the kernel clears each page of it first.
"""

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any

import torch

from ada_trainer.snapshot import Layout, fill, memory_of, plan


class Capture:
    """A packed state, in a buffer that is free again once everybody who holds it has released it."""

    def __init__(
        self,
        packed: bytes | memoryview,
        arrive: Callable[[], None] | None = None,
        free: Callable[[], None] | None = None,
    ) -> None:
        """Hold a packed state once.

        Args:
            arrive: waits until the last byte is there.
            free: called at the last release.
        """
        self._packed, self._arrive, self._free = packed, arrive, free
        self._holders = 1
        self._lock = threading.Lock()

    def data(self) -> bytes | memoryview:
        """Return the packed state, once all of it is there; good until the release."""
        if self._arrive is not None:
            self._arrive()
        return self._packed

    def hold(self) -> bool:
        """Hold it once more; return False if nobody does any more, and it may be another state by now."""
        with self._lock:
            self._holders += self._holders > 0
            return self._holders > 0

    def release(self) -> None:
        """Say that it is no longer read."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last and self._free is not None:
            self._free()


class Captures:
    """Takes captures, and keeps their buffers."""

    def __init__(self, device: torch.device) -> None:
        """Take captures of a learner on this device; from a GPU they come through memory that it reaches itself."""
        self._device = device
        self._lock = threading.Lock()
        self._free: list[torch.Tensor] = []  # uint8
        self._preparing: threading.Thread | None = None
        self._newest: tuple[Hashable, Capture] | None = None
        self._stream: torch.cuda.Stream | None = None

    def prepare(self, state: Mapping[Any, Any], count: int = 1) -> None:
        """Make buffers for states like this one, in the background."""
        size = plan(state).size

        def make() -> None:
            for _ in range(count):
                self._give_back(self._new_buffer(size))

        self._preparing = threading.Thread(target=make, name="buffers", daemon=True)
        self._preparing.start()

    def take(self, moment: Hashable, state: Mapping[Any, Any]) -> Capture:
        """Capture a state, held once by the caller. Raises SnapshotError.

        Args:
            moment: two captures of the same moment are one, while somebody holds it.
            state: not written to meanwhile by another thread. On a GPU, work that was queued before is part of the
                capture and work that is queued afterwards waits for it.
        """
        if self._newest is not None and self._newest[0] == moment and self._newest[1].hold():
            return self._newest[1]
        layout = plan(state)
        buffer = self._take_buffer(layout.size)
        packed = memory_of(buffer)[: layout.size]
        arrive = None
        if self._device.type == "cuda":
            layout, arrive = self._copy_from_gpu(layout, buffer)
        fill(layout, packed, torch.get_num_threads())
        capture = Capture(packed, arrive, lambda: self._give_back(buffer))
        self._newest = (moment, capture)
        return capture

    def _copy_from_gpu(self, layout: Layout, buffer: torch.Tensor) -> tuple[Layout, Callable[[], None]]:
        """Queue the copies of what is on the GPU; return the layout of the rest, and what waits for the copies."""
        stream = self._stream = self._stream or torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        learning = torch.cuda.current_stream(self._device)
        stream.wait_stream(learning)
        with torch.cuda.stream(stream):
            for place in layout.places:
                tensor = place.tensor
                if tensor.is_cuda and tensor.numel():
                    part = buffer[place.offset : place.offset + tensor.numel() * tensor.element_size()]
                    part.view(tensor.dtype).view(tensor.shape).copy_(tensor, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(stream)
        learning.wait_event(copied)
        rest = tuple(place for place in layout.places if not place.tensor.is_cuda)
        return replace(layout, places=rest), copied.synchronize

    def _take_buffer(self, size: int) -> torch.Tensor:
        if self._preparing is not None:
            self._preparing.join()
            self._preparing = None
        with self._lock:
            self._free = [
                buffer for buffer in self._free if len(buffer) >= size
            ]  # the state has grown: others are no use
            if self._free:
                return self._free.pop()
        return self._new_buffer(size)

    def _give_back(self, buffer: torch.Tensor) -> None:
        with self._lock:
            self._free.append(buffer)

    def _new_buffer(self, size: int) -> torch.Tensor:
        """Return memory of which every page is there."""
        return torch.empty(max(1, size), dtype=torch.uint8, pin_memory=self._device.type == "cuda").fill_(0)
