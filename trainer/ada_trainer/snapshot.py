"""Snapshots: nested dicts of tensors and plain values, packed into safetensors with a JSON header, and unpacked again.

Nothing is pickled, so a checkpoint can only ever be data.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.torch
import torch

STRUCTURE = "structure"
HEADER_BYTES = 8  # length of a safetensors header
TENSOR, ARRAY, MAP, LIST, TUPLE = "tensor", "array", "map", "list", "tuple"


class SnapshotError(ValueError):
    """Something in a snapshot can't be stored, or what is stored is not a snapshot."""


def pack(snapshot: Mapping[Any, Any]) -> bytes:
    """Return a snapshot as one safetensors file, its structure in the header; independent of what happens afterwards.

    Raises SnapshotError naming the path of a value that can't be stored.
    """
    tensors: dict[str, torch.Tensor] = {}
    structure = _encode(snapshot, "", tensors)
    data: bytes = safetensors.torch.save(tensors, {STRUCTURE: json.dumps(structure, allow_nan=False)})
    return data


def unpack(data: bytes) -> dict[Any, Any]:
    """Return the snapshot that was packed. Raises SnapshotError."""
    try:
        size = int.from_bytes(data[:HEADER_BYTES], "little")
        header = json.loads(data[HEADER_BYTES : HEADER_BYTES + size])
        snapshot = _decode(json.loads(header["__metadata__"][STRUCTURE]), safetensors.torch.load(data))
    except (ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise SnapshotError(f"not a snapshot: {type(error).__name__}: {error}") from error
    if not isinstance(snapshot, dict):
        raise SnapshotError(f"a snapshot must be a dict, this one is a {type(snapshot).__name__}")
    return snapshot


def _encode(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return {"float": value.hex()} if value == value and abs(value) != float("inf") else {"float": str(value)}
        case torch.Tensor():
            tensors[path] = value.detach().to("cpu", copy=True).contiguous()
            return {TENSOR: path}
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
