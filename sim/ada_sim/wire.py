"""Frames: arrays as raw bytes behind a small header and a table. Pure: knows buffers, neither sockets nor simulators.

    header  24 bytes   magic "ADAS", version u16, kind u8, place u8, bytes that follow u32, number of arrays u32,
                       generation u64; place 0: they follow here, n: they lie in area n-1 of memory both sides share
    table   52 a row   name 24 bytes, dtype code u8, dimensions u8, zero u16, shape 6 x u32
    data               the arrays' bytes, C order, one after the other, in the table's order

All little-endian. Nothing is pickled; whatever is not exactly this is refused with a WireError that says what is wrong.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np

MAGIC = b"ADAS"
VERSION = 3
HEADER = struct.Struct("<4sHBBIIQ")
ROW = struct.Struct("<24sBBH6I")
MAX_ARRAYS = 64
MAX_DIMENSIONS = 6
MAX_NAME = 24
DTYPES = tuple(np.dtype(code) for code in ("?", "i1", "u1", "<i2", "<i4", "<i8", "<u8", "<f4", "<f8"))
CODES = {dtype: code for code, dtype in enumerate(DTYPES)}

Buffer = bytes | memoryview


class WireError(ValueError):
    """Bytes that are no frame, or a frame that is not the expected one."""


class Kind(IntEnum):
    """What a frame asks or answers."""

    OPEN = 1  # client: token, number of worlds
    STEP = 2  # client: actions, and assignments if there are any
    RESET = 3  # client: worlds, and assignments if there are any
    TIMESTEP = 4  # server: the answer to each of the above
    REFUSAL = 5  # server: reason, message
    SHARE = 6  # client: memory for the bodies of the answers to come


@dataclass(frozen=True)
class Head:
    """A frame's header, checked."""

    kind: Kind
    length: int  # bytes that follow
    arrays: int
    generation: int
    place: int = 0  # 0: the bytes follow the header; n: they lie in area n-1 of shared memory


class Encoder:
    """Encodes frames one after the other; an array that was in an earlier one under its name is not looked at again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[np.ndarray, bytes, memoryview]] = {}  # array, its row, its bytes

    def encode(self, kind: Kind, generation: int, arrays: Mapping[str, np.ndarray]) -> list[Buffer]:
        """Return a frame as buffers to be written one after the other; the arrays' own memory is not copied.

        Raises:
            WireError: too many arrays, or one with a name, dtype or shape that no frame can hold.
        """
        if len(arrays) > MAX_ARRAYS:
            raise WireError(f"{len(arrays)} arrays, a frame holds at most {MAX_ARRAYS}")
        rows: list[bytes] = []
        data: list[Buffer] = []
        length = 0
        for name, array in arrays.items():
            known = self._known.get(name)
            if known is None or known[0] is not array:
                known = self._look_at(name, array)
            rows.append(known[1])
            if size := known[2].nbytes:
                data.append(known[2])
                length += size
        length += len(rows) * ROW.size
        if length >= 1 << 32:
            raise WireError(f"{length} bytes, a frame holds less than 4 GiB")
        return [HEADER.pack(MAGIC, VERSION, kind, 0, length, len(rows), generation) + b"".join(rows), *data]

    def _look_at(self, name: str, array: np.ndarray) -> tuple[np.ndarray, bytes, memoryview]:
        row = _row(name, array.dtype, array.shape)
        whole = np.ascontiguousarray(array)
        known = array, row, whole.data.cast("B") if whole.nbytes else memoryview(b"")
        if array.flags.c_contiguous:  # else `whole` is a copy, which must be made anew every time
            self._known[name] = known
        return known


def encode(kind: Kind, generation: int, arrays: Mapping[str, np.ndarray]) -> list[Buffer]:
    """Return a single frame as `Encoder.encode` does."""
    return Encoder().encode(kind, generation, arrays)


def placed(header: Buffer, place: int) -> bytes:
    """Return a header as it is when the bytes lie in shared memory."""
    magic, version, kind, _, *rest = HEADER.unpack(header)
    return HEADER.pack(magic, version, kind, place, *rest)


@lru_cache(maxsize=1024)  # frames of a connection have the same rows again and again
def _row(name: str, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> bytes:
    raw = name.encode()
    if not name.isascii() or not 0 < len(raw) <= MAX_NAME:
        raise WireError(f"array name {name!r}, must be 1 to {MAX_NAME} ASCII characters")
    if dtype not in CODES:
        raise WireError(f"array {name} is {dtype}, which no frame can hold")
    if len(shape) > MAX_DIMENSIONS:
        raise WireError(f"array {name} has {len(shape)} dimensions, must be at most {MAX_DIMENSIONS}")
    return ROW.pack(raw, CODES[dtype], len(shape), 0, *shape, *([0] * (MAX_DIMENSIONS - len(shape))))


def read_head(buffer: Buffer | bytearray, limit: int, areas: int = 0) -> Head:
    """Check and return a header of 24 bytes.

    Args:
        limit: bytes that may follow it.
        areas: of the memory that both sides share.

    Raises:
        WireError: it is no header of ours, or announces more than `limit`.
    """
    magic, version, kind, place, length, arrays, generation = HEADER.unpack(buffer)
    if magic != MAGIC:
        raise WireError(f"starts with {magic!r}, not {MAGIC!r}: this is no simulator frame")
    if version != VERSION:
        raise WireError(f"frame version {version}, this side speaks {VERSION}: run the same release on both sides")
    if kind not in Kind.__members__.values():
        raise WireError(f"frame of unknown kind {kind}")
    if place > areas:
        raise WireError(f"frame in area {place - 1} of shared memory, there are {areas}")
    if length > limit:
        raise WireError(f"frame of {length} bytes, at most {limit} are expected here")
    if arrays > MAX_ARRAYS or arrays * ROW.size > length:
        raise WireError(f"frame of {length} bytes announces {arrays} arrays")
    return Head(Kind(kind), length, arrays, generation, place)


def decode(head: Head, body: memoryview) -> dict[str, np.ndarray]:
    """Return the arrays of a frame by name, as views of `body`, which holds exactly what follows the header.

    Raises:
        WireError: the table is malformed, or does not describe exactly these bytes.
    """
    if body.nbytes != head.length:
        raise WireError(f"{body.nbytes} bytes after the header, {head.length} were announced")
    table = head.arrays * ROW.size
    return views(places(bytes(body[:table])), body[table:], shared=head.place > 0)


@dataclass(frozen=True)
class Place:
    """An array as a row of the table describes it."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    count: int  # of its elements
    bytes: int
    truth: bool  # of truth values


@lru_cache(maxsize=1024)  # as for the rows
def places(table: bytes) -> tuple[Place, ...]:
    """Return what a table describes. Raises WireError if it is malformed."""
    found: dict[str, Place] = {}
    for number in range(len(table) // ROW.size):
        name, dtype, shape = _read_row(table, number)
        if name in found:
            raise WireError(f"array {name} is there twice")
        count = math.prod(shape)
        found[name] = Place(name, dtype, shape, count, count * dtype.itemsize, dtype.kind == "b")
    return tuple(found.values())


def views(described: Sequence[Place], data: memoryview, shared: bool) -> dict[str, np.ndarray]:
    """Return the arrays that lie one after the other in `data`, by name; truth values are copied if memory is shared.

    Raises:
        WireError: they do not fill exactly these bytes, or a truth value is neither 0 nor 1.
    """
    arrays: dict[str, np.ndarray] = {}
    offset, length = 0, data.nbytes
    for place in described:
        if offset + place.bytes > length:
            raise WireError(f"array {place.name} of shape {place.shape} is longer than its frame")
        if place.truth:
            array = np.frombuffer(data, np.uint8, place.count, offset)
            if shared:
                array = array.copy()  # the other side could still change it after the check
            if place.count and array.max() > 1:
                raise WireError(f"array {place.name} holds truth values that are neither 0 nor 1")
            arrays[place.name] = array.view(bool).reshape(place.shape)
        else:
            arrays[place.name] = np.frombuffer(data, place.dtype, place.count, offset).reshape(place.shape)
        offset += place.bytes
    if offset != length:
        raise WireError(f"{length - offset} bytes more than the arrays need")
    return arrays


def _read_row(table: bytes, number: int) -> tuple[str, np.dtype[np.generic], tuple[int, ...]]:
    raw, code, dimensions, zero, *shape = ROW.unpack_from(table, number * ROW.size)
    name = raw.rstrip(b"\0")
    if not name or not name.isascii() or not name.decode("ascii").isprintable():
        raise WireError(f"array {number} has the name {raw!r}")
    if code >= len(DTYPES):
        raise WireError(f"array {name.decode()} has the unknown dtype code {code}")
    if dimensions > MAX_DIMENSIONS or zero or any(shape[dimensions:]):
        raise WireError(f"array {name.decode()} has a malformed shape: {dimensions} dimensions of {shape}")
    return name.decode(), DTYPES[code], tuple(shape[:dimensions])


def take(
    arrays: Mapping[str, np.ndarray], name: str, dtype: np.dtype[np.generic] | type, shape: tuple[int | None, ...]
) -> np.ndarray:
    """Return one array of a frame; None in `shape` stands for any length.

    Raises:
        WireError: it is missing, or of another dtype or shape.
    """
    array = arrays.get(name)
    if array is None:
        raise WireError(f"frame without array {name}")
    fits = len(array.shape) == len(shape) and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        raise WireError(f"array {name} is {array.dtype} {array.shape}, must be {np.dtype(dtype)} {shape}")
    return array
