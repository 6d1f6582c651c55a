"""What simulator server and client say to each other, as arrays of frames (ada_sim.wire).

OPEN      token uint8 [n], worlds int64 [1]
STEP      actions int8 [B, P, 6]          both with, or without, an assignment:
RESET     worlds int64 [N]                assign_worlds int64, assign_tasks uint64, assign_trials int64, assign_seeds
                                          uint64, each [M]
TIMESTEP  reward ... active, the observation as `o/NAME`, the same in every answer, wide elements first and long arrays
          last; then `rows` (int64), the worlds whose episode started or that went idle, and of these alone the fields
          that change with the episode, as `e/NAME`. The first answer has all rows.
REFUSAL   reason uint8 [1], message uint8 [n]
SHARE     place int64 [3]: process, file descriptor, bytes of an area; nonce uint8 [32]. The answer is the present
          timestep, already through that memory, or a REFUSAL for INVALID: then all goes on as before.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from ada_sim.batch import TimeStep
from ada_sim.channel import LONG_BYTES
from ada_sim.observation import Field
from ada_sim.shared import NONCE_BYTES, Offer
from ada_sim.wire import ROW, Buffer, Encoder, Head, Kind, Place, WireError, decode, encode, places, take, views

WORLD_FIELDS: dict[str, tuple[type[np.generic], int]] = {  # dtype, dimensions; in TimeStep's order
    "reward": (np.float32, 2),
    "trial_ended": (np.int16, 1),
    "episode_ended": (np.bool_, 1),
    "episode_started": (np.bool_, 1),
    "active": (np.bool_, 1),
}
ALWAYS, PER_EPISODE = "o/", "e/"
MAX_MESSAGE_BYTES = 4000
MAX_TOKEN_BYTES = 1000
LENT_BYTES = LONG_BYTES  # a field at least as long is not copied: it is read where it was received
NO_ROWS = np.zeros(0, np.int64)  # no world whose episode's fields are in a frame


class Reason(IntEnum):
    """Why a request was refused; after all but INVALID the connection is closed."""

    INVALID = 1  # arguments out of range: nothing has changed, the connection goes on
    TOKEN = 2
    GENERATION = 3
    MALFORMED = 4
    BUSY = 5
    INTERNAL = 6


@dataclass(frozen=True)
class Assignment:
    """The next episodes of some worlds; each array is [M]."""

    worlds: np.ndarray  # int64
    tasks: np.ndarray  # uint64
    trials: np.ndarray  # int64
    seeds: np.ndarray  # uint64


def opening(generation: int, token: str, worlds: int) -> list[Buffer]:
    """Return a client's first frame."""
    text = np.frombuffer(token.encode(), np.uint8)
    return encode(Kind.OPEN, generation, {"token": text, "worlds": np.array([worlds], np.int64)})


def request(generation: int, kind: Kind, content: np.ndarray, assignment: Assignment | None) -> list[Buffer]:
    """Return a STEP with actions, or a RESET with worlds."""
    arrays = {"actions" if kind is Kind.STEP else "worlds": content}
    if assignment is not None:
        arrays |= {f"assign_{name}": array for name, array in vars(assignment).items()}
    return encode(kind, generation, arrays)


def read_assignment(arrays: Mapping[str, np.ndarray]) -> Assignment | None:
    """Return the assignment a request carries, if it does. Raises WireError if it is malformed."""
    if "assign_worlds" not in arrays:
        return None
    worlds = take(arrays, "assign_worlds", np.int64, (None,))
    return Assignment(
        worlds,
        take(arrays, "assign_tasks", np.uint64, worlds.shape),
        take(arrays, "assign_trials", np.int64, worlds.shape),
        take(arrays, "assign_seeds", np.uint64, worlds.shape),
    )


def sharing(generation: int, offer: Offer) -> list[Buffer]:
    """Return a client's offer of memory."""
    place = np.array([offer.process, offer.handle, offer.area], np.int64)
    return encode(Kind.SHARE, generation, {"place": place, "nonce": np.frombuffer(offer.nonce, np.uint8)})


def read_offer(arrays: Mapping[str, np.ndarray]) -> Offer:
    """Return the offer of a SHARE. Raises WireError if it is malformed."""
    process, handle, area = take(arrays, "place", np.int64, (3,)).tolist()
    return Offer(process, handle, area, take(arrays, "nonce", np.uint8, (NONCE_BYTES,)).tobytes())


def refusal(generation: int, reason: Reason, message: str) -> list[Buffer]:
    """Return a server's no."""
    text = np.frombuffer(message.encode()[:MAX_MESSAGE_BYTES], np.uint8)
    return encode(Kind.REFUSAL, generation, {"reason": np.array([reason], np.uint8), "message": text})


def read_refusal(arrays: Mapping[str, np.ndarray]) -> tuple[Reason, str]:
    """Return why a request was refused. Raises WireError if even that is malformed."""
    number = int(take(arrays, "reason", np.uint8, (1,))[0])
    if number not in Reason.__members__.values():
        raise WireError(f"refusal for the unknown reason {number}")
    return Reason(number), take(arrays, "message", np.uint8, (None,)).tobytes().decode(errors="replace")


class TimestepWriter:
    """Writes a simulator's timesteps; remembers which worlds the client has the episode's fields of."""

    def __init__(self, specification: tuple[Field, ...], generation: int) -> None:
        self._per_episode = tuple(field.name for field in specification if field.per_episode)
        self._always = tuple(field.name for field in specification if not field.per_episode)
        self._generation = generation
        self._encoder = Encoder()
        self._order: tuple[str, ...] = ()  # of the arrays that every frame has
        self._was_active = np.zeros(0, bool)
        self._no_rows: dict[str, np.ndarray] = {}
        self._pixels: tuple[int, tuple[int, ...]] | None = None  # at which byte after a frame's header, shape

    def frame(self, timestep: TimeStep) -> list[Buffer]:
        """Return the frame of a timestep."""
        arrays = {name: getattr(timestep, name) for name in WORLD_FIELDS}
        arrays |= {ALWAYS + name: timestep.observation[name] for name in self._always}
        if not self._order:
            self._order = tuple(sorted(arrays, key=lambda name: _order(arrays[name])))
            self._no_rows = self._parts(timestep, np.zeros(0, np.int64))
            self._pixels = self._place_of_pixels(arrays)
            rows = np.arange(len(timestep.active))
        else:
            rows = np.flatnonzero(timestep.episode_started | (self._was_active & ~timestep.active))
        self._was_active = timestep.active.copy()
        arrays = {name: arrays[name] for name in self._order}
        arrays |= self._parts(timestep, rows) if rows.size else self._no_rows
        return self._encoder.encode(Kind.TIMESTEP, self._generation, arrays)

    def pixels(self, room: memoryview | None) -> np.ndarray | None:
        """Return the part of the next frame's room where its pictures will lie, [B, P, ...]; None if there is none."""
        if room is None or self._pixels is None:
            return None
        begin, shape = self._pixels
        return np.frombuffer(room, np.uint8, math.prod(shape), begin).reshape(shape)

    def _parts(self, timestep: TimeStep, rows: np.ndarray) -> dict[str, np.ndarray]:
        parts = {PER_EPISODE + name: timestep.observation[name][rows] for name in self._per_episode}
        return {"rows": rows.astype(np.int64), **parts}

    def _place_of_pixels(self, arrays: Mapping[str, np.ndarray]) -> tuple[int, tuple[int, ...]] | None:
        name = ALWAYS + "pixels"
        if name not in arrays or arrays[name].nbytes < LENT_BYTES:
            return None
        before = itertools.takewhile(lambda other: other != name, self._order)
        table = (len(arrays) + len(self._no_rows)) * ROW.size
        return table + sum(arrays[other].nbytes for other in before), arrays[name].shape


def _order(array: np.ndarray) -> tuple[bool, int, bool]:
    """Return by what arrays that every frame has are sorted: so the short ones lie together, each on its own width."""
    return array.nbytes >= LENT_BYTES, -array.dtype.itemsize, array.dtype.kind == "b"


class TimestepReader:
    """Reads timesteps into arrays of its own, which the next one overwrites.

    What every frame has lies in one block, in the first frame's order, and is copied and checked as one.
    """

    def __init__(self, head: Head, body: memoryview, worlds: int) -> None:
        """Make room after the first timestep's shapes. Raises WireError if it is not one of `worlds` worlds."""
        first = decode(head, body)
        for name, (dtype, dimensions) in WORLD_FIELDS.items():
            take(first, name, dtype, (worlds, None)[:dimensions])
        self._worlds, self.players = worlds, first["reward"].shape[1]
        described = places(bytes(body[: head.arrays * ROW.size]))
        number = next((number for number, place in enumerate(described) if place.name == "rows"), len(described))
        self._always, parts = described[:number], described[number:]
        self._table = bytes(body[: number * ROW.size])  # of the arrays that every frame has
        self._bytes = sum(place.bytes for place in self._always)
        self._no_rows: bytes | None = None  # the rest of a good table without fields of the episode
        for place in parts[1:]:
            if not place.name.startswith(PER_EPISODE):
                raise WireError(f"array {place.name} comes after rows, where only fields of the episode may")
        self._room(parts)
        self.read(head, body)

    def _room(self, parts: Sequence[Place]) -> None:
        """Make the arrays."""
        short = tuple(itertools.takewhile(lambda place: place.bytes < LENT_BYTES, self._always))
        self._block, self._scratch = (np.zeros(sum(place.bytes for place in short), np.uint8) for _ in range(2))
        own = views(short, memoryview(self._block), shared=False)  # type: ignore[arg-type]
        self._truths = _truths(short)
        self._long: list[tuple[int, Place, np.ndarray]] = []  # bytes from the block's begin, what, our own copy
        offset = len(self._block)
        for place in self._always[len(short) :]:
            own[place.name] = np.zeros(place.shape, place.dtype)
            self._long.append((offset, place, own[place.name]))
            offset += place.bytes
        self._parts: dict[str, np.ndarray] = {}
        for place in parts:
            if place.name.startswith(PER_EPISODE):
                self._parts[place.name] = own[place.name] = np.zeros((self._worlds, *place.shape[1:]), place.dtype)
        for name, array in own.items():
            if name not in WORLD_FIELDS and array.shape[:2] != (self._worlds, self.players):
                raise WireError(f"array {name} has shape {array.shape}, must begin with {(self._worlds, self.players)}")
        fields = {name: own.pop(name) for name in WORLD_FIELDS}
        self.timestep = TimeStep({name.partition("/")[2]: array for name, array in own.items()}, **fields)

    def read(self, head: Head, body: memoryview, lent: bool = False) -> TimeStep:
        """Take over a timestep. Raises WireError, before anything is written, if it is not like the first.

        Args:
            lent: the body stays as it is until after the next one is read: long arrays need not be copied.
        """
        table = head.arrays * ROW.size
        if bytes(body[: len(self._table)]) != self._table or head.length < table + self._bytes:
            raise self._difference(head, body)
        described = bytes(body[len(self._table) : table])
        rows, found = NO_ROWS, dict[str, np.ndarray]()
        if described != self._no_rows or head.length > table + self._bytes:
            rows, found = self._read_rows(described, body[table + self._bytes :], head.place > 0)
        self._scratch[:] = np.frombuffer(body, np.uint8, len(self._block), table)
        for begin, end in self._truths:
            if self._scratch[begin:end].max() > 1:
                raise WireError("an array of truth values holds one that is neither 0 nor 1")

        self._block[:] = self._scratch
        for offset, place, own in self._long:
            array = np.frombuffer(body, place.dtype, place.count, table + offset).reshape(place.shape)
            if lent:
                self.timestep.observation[place.name.removeprefix(ALWAYS)] = array
            else:
                np.copyto(own, array)
        if rows.size:
            for name, own in self._parts.items():
                own[rows] = found[name]
        else:
            self._no_rows = described
        return self.timestep

    def _read_rows(self, table: bytes, data: memoryview, shared: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return of which worlds the fields of the episode are there, and the fields."""
        parts = views(places(table), data, shared)
        rows = take(parts, "rows", np.int64, (None,)).copy()  # in shared memory they could still change after the check
        if rows.size and (rows.min() < 0 or rows.max() >= self._worlds):
            raise WireError(f"rows holds {rows.min()} to {rows.max()}, must be 0 to {self._worlds - 1}")
        own = self._parts.items()
        return rows, {name: take(parts, name, array.dtype, (len(rows), *array.shape[1:])) for name, array in own}

    def _difference(self, head: Head, body: memoryview) -> WireError:
        """Return what is wrong with a frame whose table is not the first one's."""
        try:
            arrays = decode(head, body)
            for place in self._always:
                take(arrays, place.name, place.dtype, place.shape)
        except WireError as error:
            return error
        return WireError(f"the arrays {', '.join(arrays)} come in another order than at first")


def _truths(block: Sequence[Place]) -> list[tuple[int, int]]:
    """Return where truth values lie, begin and end, as few stretches as can be."""
    stretches: list[tuple[int, int]] = []
    offset = 0
    for place in block:
        if place.truth and place.bytes:
            follows = stretches and stretches[-1][1] == offset
            begin = stretches.pop()[0] if follows else offset
            stretches.append((begin, offset + place.bytes))
        offset += place.bytes
    return stretches
