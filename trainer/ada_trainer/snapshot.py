"""Snapshots: nested dicts of tensors and plain values, laid out as safetensors files, and read back.

    plan(state) -> Layout     where every byte will be; nothing is copied
    fill(layout, target)      one copy of each tensor, straight to its place
    unpack(data)              the state again

A state is one or more safetensors files ("shards"), one behind the other, each beginning at a multiple of ALIGNMENT, so
that they can be stored and fetched one by one, in parallel. The first one's header also holds the structure. Nothing is
pickled, so a checkpoint can only ever be data. The files are written here and not by the safetensors library because
that copies every tensor several times (docs/decisions/0007); it can read them.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Data = bytes | bytearray | memoryview  # flat, of bytes

STRUCTURE = "structure"
METADATA = "__metadata__"
LENGTH_BYTES = 8  # of a safetensors header's own length
MAX_HEADER_BYTES = 100_000_000  # as the safetensors library has it
SHARD_BYTES = 64 << 20  # a shard takes no further tensor beyond this; a larger tensor has a shard of its own
ALIGNMENT = 64  # bytes
COPY_BYTES = 8 << 20  # what a thread copies at a time
TENSOR, ARRAY, MAP, LIST, TUPLE = "tensor", "array", "map", "list", "tuple"

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class SnapshotError(ValueError):
    """Something in a snapshot can't be stored, or what is stored is not a snapshot."""


@dataclass(frozen=True)
class Place:
    """Where a tensor goes."""

    tensor: torch.Tensor  # the live one
    offset: int  # bytes from the beginning of the whole


@dataclass(frozen=True)
class Layout:
    """Where every byte of a state goes."""

    size: int  # bytes of the whole
    headers: tuple[tuple[int, bytes], ...]  # offset and content
    places: tuple[Place, ...]


def plan(state: Mapping[Any, Any], shard_bytes: int = SHARD_BYTES) -> Layout:
    """Lay a state out. Raises SnapshotError naming the path of a value that can't be stored."""
    tensors: dict[str, torch.Tensor] = {}
    structure = json.dumps(_encode(state, "", tensors), allow_nan=False)
    headers: list[tuple[int, bytes]] = []
    places: list[Place] = []
    begin = 0
    for number, names in enumerate(_divide(tensors, shard_bytes)):
        metadata = {STRUCTURE: structure} if number == 0 else {"shard": str(number)}
        entries: dict[str, Any] = {METADATA: metadata}
        offset = 0
        for name in names:
            size = _bytes_of(tensors[name])
            entries[name] = {
                "dtype": _NAMES[tensors[name].dtype],
                "shape": list(tensors[name].shape),
                "data_offsets": [offset, offset + size],
            }
            offset += size
        text = json.dumps(entries, separators=(",", ":")).encode()
        text = text.ljust(_aligned(LENGTH_BYTES + len(text), ALIGNMENT) - LENGTH_BYTES)
        if len(text) > MAX_HEADER_BYTES:
            raise SnapshotError(f"a snapshot's header would have {len(text)} bytes, more than {MAX_HEADER_BYTES}")
        begin = _aligned(begin, ALIGNMENT)
        headers.append((begin, len(text).to_bytes(LENGTH_BYTES, "little") + text))
        data = begin + LENGTH_BYTES + len(text)
        places += [Place(tensors[name], data + entries[name]["data_offsets"][0]) for name in names]
        begin = data + offset
    return Layout(begin, tuple(headers), tuple(places))


def fill(layout: Layout, target: Data, threads: int = 1) -> None:
    """Copy a state to where its layout says, independent of what happens to the tensors afterwards.

    Args:
        target: at least as large as the layout; what lies between shards is left as it is.
        threads: that copy at once; copying holds no lock of the interpreter.
    """
    whole = torch.frombuffer(target, dtype=torch.uint8)
    for offset, text in layout.headers:
        whole[offset : offset + len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    pieces = [piece for place in layout.places for piece in _pieces(place, whole)]
    queue = iter(sorted(pieces, key=lambda piece: -len(piece[0])))

    def work() -> None:
        for to, source in queue:  # next() of a list's iterator is atomic
            np.copyto(to, source)

    if threads < 2 or layout.size < COPY_BYTES:
        work()
        return
    with ThreadPoolExecutor(threads - 1, "copy") as helpers:
        helping = [helpers.submit(work) for _ in range(threads - 1)]
        work()
        for one in helping:
            one.result()


def memory_of(tensor: torch.Tensor) -> memoryview:
    """Return the memory of a flat tensor of bytes."""
    buffer: Any = tensor.numpy()
    return memoryview(buffer)


def pack(state: Mapping[Any, Any]) -> bytes:
    """Return a small state on its own, the same bytes for the same state. Raises SnapshotError as `plan` does."""
    layout = plan(state)
    target = bytearray(layout.size)
    fill(layout, target)
    return bytes(target)


def unpack(data: Data) -> dict[Any, Any]:
    """Return the state that was packed. Raises SnapshotError, whatever `data` is.

    Its tensors are views of `data` if that may be written to, copies otherwise.
    """
    try:
        tensors: dict[str, torch.Tensor] = {}
        structure = None
        for shard in shards(data):
            header, body = _read_header(shard)
            if structure is None:
                structure = json.loads(header.pop(METADATA)[STRUCTURE])
            header.pop(METADATA, None)
            tensors |= {name: _view(entry, body) for name, entry in header.items()}
        snapshot = _decode(structure, tensors)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        raise SnapshotError(f"not a snapshot: {type(error).__name__}: {error}") from error
    if not isinstance(snapshot, dict):
        raise SnapshotError(f"a snapshot must be a dict, this one is a {type(snapshot).__name__}")
    return snapshot


def shards(data: Data) -> Iterator[memoryview]:
    """Yield each safetensors file of a state. Raises SnapshotError where one ends early."""
    whole = memoryview(data)
    begin = 0
    while begin < len(whole) or begin == 0:
        header, body = _read_header(whole[begin:])
        ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != METADATA]
        data_begin = len(whole) - len(body)
        end = data_begin + max(ends, default=0)
        if not data_begin <= end <= len(whole):
            raise SnapshotError(f"a shard's tensors end at byte {end}, not between {data_begin} and {len(whole)}")
        yield whole[begin:end]
        begin = _aligned(end, ALIGNMENT)


def shard_offsets(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Return where shards of these sizes begin in a state, and the size of the whole."""
    offsets, end = [], 0
    for size in sizes:
        offsets.append(_aligned(end, ALIGNMENT))
        end = offsets[-1] + size
    return offsets, end


def _aligned(offset: int, to: int) -> int:
    return -(-offset // to) * to


def _bytes_of(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _divide(tensors: Mapping[str, torch.Tensor], shard_bytes: int) -> list[list[str]]:
    """Return the names of each shard's tensors, the widest elements first, so that each lies at its multiple."""
    divided: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if divided[-1] and size + _bytes_of(tensor) > shard_bytes:
            divided.append([])
            size = 0
        divided[-1].append(name)
        size += _bytes_of(tensor)
    return [sorted(names, key=lambda name: -tensors[name].element_size()) for names in divided]


def _pieces(place: Place, whole: torch.Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return what is to be copied for a tensor in this computer's memory, as bytes, in pieces of at most COPY_BYTES."""
    tensor = place.tensor
    if not tensor.numel():
        return []
    if not tensor.is_contiguous() or tensor.device.type != "cpu":
        tensor = tensor.to("cpu").contiguous()
    source = tensor.reshape(-1).view(torch.uint8).numpy()
    to = whole[place.offset : place.offset + len(source)].numpy()
    return [
        (to[begin : begin + COPY_BYTES], source[begin : begin + COPY_BYTES])
        for begin in range(0, len(source), COPY_BYTES)
    ]


def _read_header(shard: memoryview) -> tuple[dict[str, Any], memoryview]:
    """Return a safetensors file's header and what follows it."""
    size = int.from_bytes(shard[:LENGTH_BYTES], "little")
    if len(shard) < LENGTH_BYTES or size > min(MAX_HEADER_BYTES, len(shard) - LENGTH_BYTES):
        raise SnapshotError(f"a header of {size} bytes in a file of {len(shard)}")
    header = json.loads(bytes(shard[LENGTH_BYTES : LENGTH_BYTES + size]))
    if not isinstance(header, dict):
        raise SnapshotError(f"a header must be an object, this one is a {type(header).__name__}")
    return header, shard[LENGTH_BYTES + size :]


def _view(entry: Mapping[str, Any], body: memoryview) -> torch.Tensor:
    begin, end = map(int, entry["data_offsets"])
    shape = [int(length) for length in entry["shape"]]
    dtype = DTYPES[entry["dtype"]]
    count = math.prod(shape)
    if min(shape, default=0) < 0 or not 0 <= begin <= end <= len(body) or end - begin != count * dtype.itemsize:
        raise SnapshotError(f"a tensor of shape {shape[:8]} can't be bytes {begin} to {end} of {len(body)}")
    if not count:
        return torch.zeros(shape, dtype=dtype)
    part = body[begin:end]
    return torch.frombuffer(bytearray(part) if body.readonly else part, dtype=dtype).view(shape)


def _encode(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return {"float": value.hex()} if value == value and abs(value) != float("inf") else {"float": str(value)}
        case torch.Tensor() if value.dtype in _NAMES:
            tensors[path] = value.detach()
            return {TENSOR: path}
        case torch.Tensor():
            raise SnapshotError(f"{path} is a tensor of {value.dtype}, which can't be stored in a checkpoint")
        case np.ndarray():
            tensors[path] = torch.from_numpy(np.array(value, order="C"))
            return {ARRAY: path}
        case np.generic():
            return _encode(value.item(), path, tensors)
        case Mapping():
            return {MAP: [[_key(key, path), _encode(item, f"{path}/{key}", tensors)] for key, item in value.items()]}
        case list() | tuple():
            items = [_encode(item, f"{path}/{index}", tensors) for index, item in enumerate(value)]
            return {TUPLE if isinstance(value, tuple) else LIST: items}
    raise SnapshotError(f"{path or 'snapshot'} is a {type(value).__name__}, which can't be stored in a checkpoint")


def _key(key: Any, path: str) -> str | int:
    if isinstance(key, str | int):
        return key
    raise SnapshotError(f"{path} has a key {key!r}, which is neither text nor a whole number")


def _decode(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "float":
            return float.fromhex(content) if "0x" in content else float(content)
        case "tensor":
            return tensors[content]
        case "array":
            return tensors[content].numpy()
        case "map":
            return {key: _decode(item, tensors) for key, item in content}
        case "list":
            return [_decode(item, tensors) for item in content]
        case "tuple":
            return tuple(_decode(item, tensors) for item in content)
    raise SnapshotError(f"a value of kind {kind!r} is unknown")
