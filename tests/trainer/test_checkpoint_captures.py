"""Captures and their layout: one moment's state, in safetensors files, whatever the learner does afterwards."""

import random
import threading
from typing import Any

import pytest
import safetensors.torch
import torch

from ada_trainer import snapshot
from ada_trainer.captures import Capture, Captures
from ada_trainer.snapshot import ALIGNMENT, DTYPES, SnapshotError, fill, pack, plan, shard_offsets, shards, unpack

CPU = torch.device("cpu")


def state_of(value: float, count: int = 8) -> dict[str, Any]:
    return {"network": {str(number): torch.full((100,), value) for number in range(count)}, "frames": int(value)}


def packed(state: dict[str, Any], shard_bytes: int) -> bytes:
    layout = plan(state, shard_bytes)
    target = bytearray(layout.size)
    fill(layout, target)
    return bytes(target)


@pytest.mark.parametrize("name", DTYPES)
def test_every_type_and_shape_comes_back_and_the_library_reads_the_same(name: str) -> None:
    numbers = torch.arange(24).reshape(2, 3, 4).to(DTYPES[name])
    tensors = {"whole": numbers, "turned": numbers.transpose(0, 2), "one": numbers[0, 0, 1], "none": numbers[:0]}
    data = pack({**tensors, "odd": torch.ones(3, dtype=torch.uint8)})
    back = unpack(bytearray(data))
    library = safetensors.torch.load(data)
    for key, tensor in tensors.items():
        assert back[key].dtype == tensor.dtype and torch.equal(back[key], tensor)
        assert torch.equal(library[f"/{key}"], tensor)


def test_a_type_that_safetensors_has_not_is_refused_by_name() -> None:
    with pytest.raises(SnapshotError, match=r"/network/w is a tensor of torch\.complex64"):
        pack({"network": {"w": torch.zeros(1, dtype=torch.complex64)}})


def test_a_state_is_divided_into_files_that_each_stand_alone() -> None:
    state = {**state_of(3.0), "large": torch.ones(1000), "bytes": torch.ones(3, dtype=torch.uint8)}
    data = packed(state, 1000)
    parts = list(shards(data))
    assert len(parts) == 6, "two tensors of 400 bytes each, the large one alone, the rest"
    assert shard_offsets([len(part) for part in parts])[1] == len(data)
    names = [set(safetensors.torch.load(bytes(part))) for part in parts]
    assert sum(map(len, names)) == 10 and len(set.union(*names)) == 10
    back = unpack(data)
    assert torch.equal(back["large"], state["large"]) and back["frames"] == 3


def test_tensors_lie_where_wide_loads_reach_them() -> None:
    data = torch.zeros(plan(state_of(1.0)).size + ALIGNMENT, dtype=torch.uint8)
    begin = -data.data_ptr() % ALIGNMENT
    fill(layout := plan(state_of(1.0)), target := snapshot.memory_of(data[begin : begin + layout.size]))
    first = unpack(target)["network"]["0"]
    assert first.data_ptr() % ALIGNMENT == 0, "and it is a view, not a copy"


def test_many_threads_copy_the_same_bytes_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "COPY_BYTES", 1000)
    state = {str(number): torch.rand(number * 97) for number in range(20)}
    layout = plan(state, 5000)
    targets = [bytearray(layout.size) for _ in range(2)]
    fill(layout, targets[0])
    fill(layout, targets[1], threads=4)
    assert targets[0] == targets[1]


def test_what_is_not_a_state_is_refused_whatever_it_is() -> None:
    data = packed(state_of(1.0), 1000)
    rng = random.Random(3)
    headers = [begin for begin in range(len(data)) if data[begin : begin + 2] == b'{"']
    refused = 0
    for _ in range(3000):
        mutated = bytearray(data[: rng.choice([len(data), rng.randrange(len(data))])])
        for _ in range(rng.randrange(1, 4)):
            if mutated:
                near = rng.choice(headers) + rng.randrange(-8, 120)
                mutated[min(max(near, 0), len(mutated) - 1)] = rng.randrange(256)
        try:
            unpack(mutated)
        except SnapshotError:
            refused += 1
    assert refused > 1000


def test_a_capture_is_of_one_moment_whatever_the_learner_does_while_it_is_read() -> None:
    captures = Captures(CPU)
    state = state_of(0.0)
    seen: list[set[float]] = []

    def read(capture: Capture) -> None:
        for _ in range(20):
            back = unpack(capture.data())
            seen.append({float(value) for tensor in back["network"].values() for value in tensor.unique()})
        capture.release()

    readers = []
    for update in range(1, 30):
        for tensor in state["network"].values():
            tensor.fill_(update)
        readers.append(threading.Thread(target=read, args=(captures.take(update, state),)))
        readers[-1].start()
    for reader in readers:
        reader.join()
    assert len(seen) == 29 * 20 and all(len(values) == 1 for values in seen)


def test_two_captures_of_one_moment_are_one_copy_and_buffers_are_used_again() -> None:
    captures = Captures(CPU)
    captures.prepare(state_of(1.0), 1)
    one = captures.take(1, state_of(1.0))
    same = captures.take(1, state_of(99.0))
    assert same is one
    one.release()
    other = captures.take(2, state_of(2.0))
    assert unpack(same.data())["frames"] == 1, "still held once"
    assert unpack(other.data())["frames"] == 2
    place = address(same)
    same.release()
    again = captures.take(1, state_of(3.0))
    assert unpack(again.data())["frames"] == 3, "nobody held the capture of that moment any more"
    assert address(again) == place
    larger = captures.take(4, state_of(4.0, count=16))
    assert len(unpack(larger.data())["network"]) == 16


def address(capture: Capture) -> int:
    return torch.frombuffer(capture.data(), dtype=torch.uint8).data_ptr()
