"""What simulator server and client say to each other, as arrays of frames (ada_sim.wire).

OPEN      token uint8 [n], worlds int64 [1]
STEP      actions int8 [B, P, 6]          both with, or without, an assignment:
RESET     worlds int64 [N]                assign_worlds int64, assign_tasks uint64, assign_trials int64, assign_seeds
                                          uint64, each [M]
TIMESTEP  reward ... active, the observation as `o/NAME`; fields that change with the episode as `e/NAME`, only for
          the worlds in `rows` (int64): those whose episode started or that went idle. The first answer has all rows.
REFUSAL   reason uint8 [1], message uint8 [n]
SHARE     place int64 [3]: process, file descriptor, bytes of an area; nonce uint8 [32]. The answer is the present
          timestep, already through that memory, or a REFUSAL for INVALID: then all goes on as before.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from ada_sim.batch import TimeStep
from ada_sim.channel import LONG_BYTES
from ada_sim.observation import Field
from ada_sim.shared import NONCE_BYTES, Offer
from ada_sim.wire import Buffer, Kind, WireError, encode, take

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
        self._per_episode = {field.name for field in specification if field.per_episode}
        self._generation = generation
        self._was_active: np.ndarray | None = None

    def frame(self, timestep: TimeStep) -> list[Buffer]:
        """Return the frame of a timestep."""
        if self._was_active is None:
            rows = np.arange(len(timestep.active))
        else:
            rows = np.flatnonzero(timestep.episode_started | (self._was_active & ~timestep.active))
        self._was_active = timestep.active.copy()
        arrays: dict[str, np.ndarray] = {name: getattr(timestep, name) for name in WORLD_FIELDS}
        arrays["rows"] = rows.astype(np.int64)
        for name, array in timestep.observation.items():
            if name in self._per_episode:
                arrays[PER_EPISODE + name] = array[rows]
            else:
                arrays[ALWAYS + name] = array
        return encode(Kind.TIMESTEP, self._generation, arrays)


class TimestepReader:
    """Reads timesteps into arrays of its own, which the next one overwrites."""

    def __init__(self, first: Mapping[str, np.ndarray], worlds: int) -> None:
        """Make room after the first timestep's shapes. Raises WireError if it is not one of `worlds` worlds."""
        self._worlds = worlds
        for name, (dtype, dimensions) in WORLD_FIELDS.items():
            take(first, name, dtype, (worlds, None)[:dimensions])
        self.players = first["reward"].shape[1]
        room: dict[str, np.ndarray] = {}
        for name, array in first.items():
            if name.startswith((ALWAYS, PER_EPISODE)):
                if array.shape[:2] != (worlds, self.players):
                    raise WireError(f"array {name} has shape {array.shape}, must begin with {(worlds, self.players)}")
                room[name] = np.zeros_like(array)
        self._fields = {name: np.zeros_like(first[name]) for name in WORLD_FIELDS}
        self._always = {name: array for name, array in room.items() if name.startswith(ALWAYS)}
        self._per_episode = {name: array for name, array in room.items() if name.startswith(PER_EPISODE)}
        self.timestep = TimeStep({name.partition("/")[2]: array for name, array in room.items()}, **self._fields)
        self.read(first)

    def read(self, arrays: Mapping[str, np.ndarray], lent: bool = False) -> TimeStep:
        """Take over a timestep. Raises WireError, before anything is written, if it is not like the first.

        Args:
            lent: the arrays stay as they are until after the next one is read: long ones need not be copied.
        """
        rows = take(arrays, "rows", np.int64, (None,))
        if rows.size and (rows.min() < 0 or rows.max() >= self._worlds):
            raise WireError(f"rows holds {rows.min()} to {rows.max()}, must be 0 to {self._worlds - 1}")
        whole = {**self._fields, **self._always}
        found = {name: take(arrays, name, own.dtype, own.shape) for name, own in whole.items()}
        parts = {
            name: take(arrays, name, own.dtype, (len(rows), *own.shape[1:])) for name, own in self._per_episode.items()
        }
        for name, own in whole.items():
            if lent and own.nbytes >= LENT_BYTES and name.startswith(ALWAYS):
                self.timestep.observation[name.removeprefix(ALWAYS)] = found[name]
            else:
                np.copyto(own, found[name])
        for name, own in self._per_episode.items():
            own[rows] = parts[name]
        return self.timestep
