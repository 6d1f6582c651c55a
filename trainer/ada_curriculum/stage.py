"""One stage's curriculum: lends episodes, and applies each one's result once.

The table of what is lent out is also the memory of what was applied: a result counts if its lease is in the table and
takes it out. Everything that decides later leases is in `to_arrays`: a restored stage goes on as if nothing had been.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ada_api.curriculum import Curriculum
from ada_curriculum.noop_filter import NoopFiltering
from ada_curriculum.orders import Method, Order, Purpose, Tasks
from ada_curriculum.plr import PrioritisedReplay
from ada_curriculum.types import Lease, Result
from ada_curriculum.uniform import Uniform

LEASE_S = 7200.0  # longer than any episode takes
MAX_OUTSTANDING = 200_000  # leases lent out at once; past it the oldest are taken for lost


class ResultRefusedError(ValueError):
    """A result does not fit the episode that was lent."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A result that counted, with the order it came from."""

    order: Order
    result: Result


@dataclass(frozen=True, slots=True)
class _Lent:
    order: Order
    deadline: float


def make_method(curriculum: Curriculum, pool_size: int | None) -> Method:
    """Return the method that an experiment asks for."""
    match curriculum.method:
        case "plr":
            return PrioritisedReplay(curriculum.plr, pool_size)
        case "noop-filter":
            return NoopFiltering(curriculum.noop_filter)
        case "uniform":
            return Uniform()


def random_generator(seed: int, stage: str) -> np.random.Generator:
    """Return the counter-based generator of a stage."""
    key = np.frombuffer(hashlib.sha256(f"{seed}/{stage}".encode()).digest()[:16], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


class StageCurriculum:
    """A method, its randomness, the orders to come and the episodes lent out."""

    def __init__(self, method: Method, tasks: Tasks, random: np.random.Generator, incarnation: int) -> None:
        """Start afresh.

        Args:
            incarnation: part of every lease's id, below 2**32 and different in each life of the stage: an episode lent
                before a restore and forgotten by it must not be taken for a later one.
        """
        self.method = method
        self.counts: Counter[str] = Counter()
        self._tasks = tasks
        self._random = random
        self._incarnation = incarnation
        self._lent_so_far = 0
        self._pending: deque[Order] = deque()
        self._outstanding: dict[str, _Lent] = {}  # in order of lending, and so of deadline

    @property
    def outstanding(self) -> int:
        """Return the number of episodes lent out."""
        return len(self._outstanding)

    def lease(self, count: int, now: float) -> list[Lease]:
        """Lend `count` episodes at time `now` (seconds)."""
        self._expire(now, count)
        return [self._lend(now) for _ in range(count)]

    def check(self, results: Iterable[Result]) -> None:
        """Raise ResultRefusedError if a result does not fit the episode that was lent; changes nothing."""
        for result in results:
            lent = self._outstanding.get(result.lease)
            if lent is not None and len(result.returns) != lent.order.trials:
                raise ResultRefusedError(
                    f"result of lease {result.lease} has {len(result.returns)} returns, not one for each of its "
                    f"{lent.order.trials} trials"
                )

    def apply(self, results: Sequence[Result]) -> list[Applied]:
        """Apply results; returns those that counted: the others were applied before, or their lease is not known."""
        applied = []
        for result in results:
            lent = self._outstanding.pop(result.lease, None)
            if lent is None:
                self.counts["ignored"] += 1
                continue
            order = lent.order
            self._pending.extend(self.method.apply(order, result.returns, result.fitness, self._tasks))
            self.counts["applied"] += 1
            self.counts["learned_timesteps" if order.learn else "other_timesteps"] += result.timesteps
            applied.append(Applied(order, result))
        return applied

    def forget_outstanding(self) -> None:
        """Take all that is lent out for lost: whoever had it is gone."""
        lost = [lent.order for lent in self._outstanding.values()]
        self._outstanding.clear()
        for order in lost:
            self._lose(order)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return everything that decides later leases, and the episodes lent out."""
        lent = [entry.order for entry in self._outstanding.values()]
        names = ("ignored", "applied", "expired", "learned_timesteps", "other_timesteps")
        return {
            **{f"method.{name}": array for name, array in self.method.to_arrays().items()},
            "random": _random_to_array(self._random),
            "counts": np.array([self.counts[name] for name in names], np.int64),
            "lent_ids": np.array([_id_to_numbers(lease) for lease in self._outstanding], np.int64).reshape(-1, 2),
            **_orders_to_arrays("lent", lent),
            **_orders_to_arrays("pending", self._pending),
        }

    def load(self, arrays: Mapping[str, np.ndarray], now: float) -> None:
        """Go on from a snapshot: its episodes may still be reported, with their full time before them.

        Raises KeyError or ValueError if the snapshot makes no sense; the state is then undefined.
        """
        prefix = "method."
        self.method.load({name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)})
        _load_random(self._random, arrays["random"])
        names = ("ignored", "applied", "expired", "learned_timesteps", "other_timesteps")
        self.counts = Counter(dict(zip(names, (int(count) for count in arrays["counts"]), strict=True)))
        self._pending = deque(_orders_from_arrays("pending", arrays))
        lent = _orders_from_arrays("lent", arrays)
        ids = [f"{incarnation:08x}-{number}" for incarnation, number in arrays["lent_ids"].tolist()]
        self._outstanding = {lease: _Lent(order, now + LEASE_S) for lease, order in zip(ids, lent, strict=True)}

    def _lend(self, now: float) -> Lease:
        if not self._pending:
            self._pending.extend(self.method.next_orders(self._random, self._tasks))
        order = self._pending.popleft()
        lease = f"{self._incarnation:08x}-{self._lent_so_far}"
        self._lent_so_far += 1
        self._outstanding[lease] = _Lent(order, now + LEASE_S)
        self.counts[f"lent_{order.purpose.name.lower()}"] += 1
        seed = int(self._random.bit_generator.random_raw())
        return Lease(lease, order.task, order.trials, seed, order.learn, order.policy)

    def _expire(self, now: float, count: int) -> None:
        while self._outstanding:
            lease, lent = next(iter(self._outstanding.items()))
            if lent.deadline > now and len(self._outstanding) + count <= MAX_OUTSTANDING:
                return
            del self._outstanding[lease]
            self._lose(lent.order)

    def _lose(self, order: Order) -> None:
        self.counts["expired"] += 1
        self._pending.extend(self.method.lost(order))


def _id_to_numbers(lease: str) -> tuple[int, int]:
    incarnation, _, number = lease.partition("-")
    return int(incarnation, 16), int(number)


def _orders_to_arrays(name: str, orders: Collection[Order]) -> dict[str, np.ndarray]:
    rows = [(order.trials, order.learn, order.purpose, order.candidate) for order in orders]
    return {
        f"{name}_tasks": np.array([order.task for order in orders], np.uint64),
        f"{name}_orders": np.array(rows, np.int64).reshape(-1, 4),
    }


def _orders_from_arrays(name: str, arrays: Mapping[str, np.ndarray]) -> list[Order]:
    tasks, rows = arrays[f"{name}_tasks"].tolist(), arrays[f"{name}_orders"].tolist()
    return [
        Order(task, trials, bool(learn), Purpose(purpose), candidate)
        for task, (trials, learn, purpose, candidate) in zip(tasks, rows, strict=True)
    ]


def _random_to_array(random: np.random.Generator) -> np.ndarray:
    state = random.bit_generator.state
    inner = state["state"]
    scalars = [state["buffer_pos"], state["has_uint32"], state["uinteger"]]
    return np.concatenate([inner["counter"], inner["key"], state["buffer"], np.array(scalars, np.uint64)])


def _load_random(random: np.random.Generator, array: np.ndarray) -> None:
    if array.shape != (13,) or array.dtype != np.uint64:
        raise ValueError(f"random state is {array.dtype} {array.shape}, not uint64 (13,)")
    position, has_uint32, uinteger = (int(value) for value in array[10:])
    random.bit_generator.state = {
        "bit_generator": "Philox",
        "state": {"counter": array[:4].copy(), "key": array[4:6].copy()},
        "buffer": array[6:10].copy(),
        "buffer_pos": position,
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
