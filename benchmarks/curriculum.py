"""The curriculum: draws from an archive beside the plain definition; the service's requests beside what we ask."""

import http.client
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ada_api.curriculum import Curriculum, PrioritisedLevelReplay
from ada_curriculum.archive import Archive
from ada_curriculum.client import CurriculumClient
from ada_curriculum.line import LEASE, REPORT, Line
from ada_curriculum.stage import StageCurriculum, make_method, random_generator
from ada_curriculum.types import Lease, Result
from benchmarks.peer import compare, peer_or_none
from benchmarks.row import Row, cost_row, rate_row
from benchmarks.services import TOKEN, running_service
from benchmarks.timing import Effort, by_turns, median_seconds, pinned, rate_of, seconds_of

SMALL, LARGE = 1_000, 1_000_000
OPERATIONS = 20_000
BATCH = 64
WORKERS = 64
TEMPERATURE, STALENESS = 0.3, 0.2
NAMES = {"draw": "a draw", "update": "an update", "insert": "an insertion into a full archive"}
BARS_AGAINST_JAXUED = {"draw": 1000.0, "update": None, "insert": 1000.0}  # its update re-ranks nothing
EXPERIMENT = {
    "apiVersion": "ada.dev/v1alpha1",
    "kind": "AdaExperiment",
    "metadata": {"name": "benchmark"},
    "spec": {"stages": [{"name": "only", "frames": 10**12}]},
}


def rows(effort: Effort) -> Iterator[Row]:
    """Measure the archive, then the service."""
    with pinned(1, effort):
        yield from archive_rows(effort)
    yield from service_rows(effort)


def archive_rows(effort: Effort) -> Iterator[Row]:
    """Compare draws with the definition and with JaxUED, and an archive of a million tasks with one of a thousand."""
    size = 10 * SMALL if effort.small else LARGE
    small, large = operations(SMALL), operations(size)
    plain = median_seconds(plain_draw(size), repeats=3)
    ours = by_turns([large["draw"]], effort.repeats)[0]
    name = "numpy: the definition, ranks and weights of every draw, as dcd, level-replay and Syllabus work it out"
    yield cost_row("curriculum", f"seconds of a draw, {size:.0e} tasks", ours, plain, name, 1000)
    with peer_or_none(effort, "jaxued_sampler.py", str(size), str(TEMPERATURE), str(STALENESS)) as peer:
        for operation, measure in large.items():
            ours, theirs = compare(measure, peer, operation, effort, min(3, effort.repeats))
            what = f"seconds of {NAMES[operation]}, {size:.0e} tasks"
            yield cost_row("curriculum", what, ours, theirs, "JaxUED's level sampler", BARS_AGAINST_JAXUED[operation])
    for operation, measure in large.items():
        many, few = by_turns([measure, small[operation]], effort.repeats)
        what = f"seconds of {NAMES[operation]}, {size:.0e} tasks"
        yield cost_row("curriculum", what, many, few, f"the same with {SMALL:.0e} tasks", 0.2)


def operations(size: int) -> dict[str, Callable[[], float]]:
    """Return measures of the seconds of one operation each on a full archive."""
    rng = np.random.default_rng(0)
    fitness = rng.normal(size=size)
    archive, offered = (full_archive(fitness) for _ in range(2))  # offers drive out the tasks that the others ask for
    fresh = iter(range(1 << 40, 1 << 60))
    top = [float(fitness.max())]

    def draw() -> float:
        chances = rng.random((OPERATIONS, 2)).tolist()
        return seconds_of(lambda: [archive.draw(choice, where) for choice, where in chances])

    def refresh() -> float:
        held, values = rng.integers(0, size, OPERATIONS).tolist(), rng.normal(size=OPERATIONS).tolist()
        found = []
        seconds = seconds_of(lambda: found.extend(map(archive.refresh, held, values)))
        if not all(found):
            raise RuntimeError("tasks that were to be updated are not in the archive")
        return seconds

    def replace_least() -> float:
        fitter = (top[0] + 1e-6 * np.arange(1, OPERATIONS + 1)).tolist()  # than all, so that every one replaces a task
        top[0] = fitter[-1]
        return seconds_of(lambda: [offered.offer(next(fresh), value) for value in fitter])

    works: dict[str, Callable[[], float]] = {"draw": draw, "update": refresh, "insert": replace_least}
    for work in works.values():
        work()
    return {name: partial(lambda work: work() / OPERATIONS, work) for name, work in works.items()}


def full_archive(fitness: np.ndarray) -> Archive:
    """Return an archive of tasks 0, 1, 2, ... of these fitnesses, last used at random times."""
    size = len(fitness)
    archive = Archive(size, TEMPERATURE, STALENESS)
    archive.load(
        {
            "tasks": np.arange(size, dtype=np.uint64),
            "fitness": fitness,
            "last_used": np.random.default_rng(1).integers(0, size, size),
            "clock": np.array([size]),
        }
    )
    return archive


def plain_draw(size: int) -> Callable[[], object]:
    """Return one draw by the definition: rank everything, weigh everything, choose."""
    rng = np.random.default_rng(0)
    fitness, stale = rng.normal(size=size), rng.integers(0, size, size)

    def work() -> object:
        rank = np.empty(size)
        rank[np.argsort(-fitness)] = np.arange(1, size + 1)
        weights = rank ** (-1 / TEMPERATURE)
        weights = (1 - STALENESS) * weights / weights.sum() + STALENESS * stale / stale.sum()
        return rng.choice(size, p=weights / weights.sum())

    return work


class Numbers:
    """Bare task numbers: the pool costs nothing here."""

    def draw(self, rng: np.random.Generator, held_out: bool) -> int:
        """Draw one of 2**62."""
        return int(rng.integers(1 << 62))

    def trials(self, number: int) -> int:
        """Return 1 to 6."""
        return 1 + number % 6


def results_of(leases: list[Lease]) -> list[Result]:
    """Return made-up results."""
    return [Result(one.id, (0.5,) * one.trials, one.task % 1009 / 1009, 75 * one.trials) for one in leases]


def service_rows(effort: Effort) -> Iterator[Row]:
    """Compare a service that has one core with what we ask of it, and with the same work in this process."""
    method = make_method(Curriculum(plr=PrioritisedLevelReplay()), None)
    stage = StageCurriculum(method, Numbers(), random_generator(0, "only"), 1)

    def in_process() -> None:
        stage.apply(results_of(stage.lease(BATCH, 0.0)))

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        with pinned(1, effort):  # whoever is started keeps to that core; we go back to all
            address = stack.enter_context(running_service(Path(folder), EXPERIMENT))
        client = stack.enter_context(CurriculumClient(address, TOKEN))
        lines: list[Caller] = [direct_caller(stack, address) for _ in range(2 if effort.small else WORKERS)]
        kept: list[Caller] = [HttpCaller(stack, address) for _ in lines]

        def by_client() -> None:
            client.report("only", 1, "0", results_of(client.lease("only", 1, "0", BATCH)))

        client.register("only", 1, 1)
        works = [
            (partial(one_each, lines), 2 * len(lines)),
            (partial(one_each, kept), 2 * len(kept)),
            (by_client, BATCH),
            (in_process, BATCH),
        ]
        for work, _ in works:
            work()
        single, over_http, batched, inside = by_turns(
            [partial(rate_of, work, amount, effort.seconds) for work, amount in works], effort.repeats
        )
    what = f"requests/s, each a lease or report of one episode, {WORKERS} workers"
    yield rate_row("curriculum", f"{what}, direct line (what trainers use)", single, 10_000, "what we ask", 1)
    yield rate_row("curriculum", f"{what}, HTTP", over_http, 10_000, "what we ask")
    what = f"requests/s, each a lease or report of {BATCH} episodes, 1 worker, direct line"
    yield rate_row("curriculum", what, 2 * batched / BATCH, 10_000, "what we ask", 1)
    what = f"episodes leased and reported/s, {BATCH} a request, direct line"
    yield rate_row("curriculum", what, batched, 10_000, "what we ask", 1)
    yield rate_row("curriculum", what, batched, inside, "in one process")


class Caller(Protocol):
    """A worker's connection to the service."""

    def send(self, kind: int, body: bytes) -> None:
        """Send a request."""

    def receive(self) -> tuple[int, bytes]:
        """Return status and body of its answer."""
        ...


def direct_caller(stack: ExitStack, address: str) -> Line:
    """Return a direct line, closed with the stack."""
    line = Line(address, TOKEN, 60.0, 1 << 20)
    stack.callback(line.close)
    return line


class HttpCaller:
    """A kept HTTP connection."""

    def __init__(self, stack: ExitStack, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=60.0)
        stack.callback(self._connection.close)

    def send(self, kind: int, body: bytes) -> None:
        """Send a request."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        self._connection.request("POST", {LEASE: "/v1/lease", REPORT: "/v1/report"}[kind], body, headers)

    def receive(self) -> tuple[int, bytes]:
        """Return status and body of its answer."""
        answer = self._connection.getresponse()
        return answer.status, answer.read()


def one_each(callers: list[Caller]) -> None:
    """Lease one episode for each caller and report it; all ask before the first is answered."""
    who = {"stage": "only", "generation": 1, "worker": "0"}
    lease = json.dumps({**who, "count": 1}).encode()
    for caller in callers:
        caller.send(LEASE, lease)
    leases = [granted(caller)["leases"][0] for caller in callers]
    for caller, one in zip(callers, leases, strict=True):
        result = {"lease": one["id"], "returns": [0.5] * one["trials"], "fitness": 0.5, "timesteps": 75}
        caller.send(REPORT, json.dumps({**who, "results": [result]}).encode())
    for caller in callers:
        granted(caller)


def granted(caller: Caller) -> dict[str, Any]:
    """Return the answer. Raises RuntimeError if it is a refusal."""
    status, body = caller.receive()
    if status != 200:
        raise RuntimeError(f"the service answered {status}: {body[:200]!r}")
    answer: dict[str, Any] = json.loads(body)
    return answer
