"""The curriculum: draws from an archive beside the plain definition; leases over HTTP beside those in process."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from ada_api.curriculum import Curriculum, PrioritisedLevelReplay
from ada_curriculum.archive import Archive
from ada_curriculum.client import CurriculumClient
from ada_curriculum.stage import StageCurriculum, make_method, random_generator
from ada_curriculum.types import Lease, Result
from benchmarks.peer import compare, peer_or_none
from benchmarks.row import Row, cost_row, rate_row
from benchmarks.services import TOKEN, running_service
from benchmarks.timing import Effort, by_turns, median_seconds, pinned, rate_of, seconds_of

SMALL, LARGE = 1_000, 1_000_000
OPERATIONS = 20_000
BATCH = 64
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
    """Compare leases and their reports over HTTP with what we ask and with the same in this process."""
    method = make_method(Curriculum(plr=PrioritisedLevelReplay()), None)
    stage = StageCurriculum(method, Numbers(), random_generator(0, "only"), 1)

    def in_process() -> None:
        stage.apply(results_of(stage.lease(BATCH, 0.0)))

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        address = stack.enter_context(running_service(Path(folder), EXPERIMENT))
        client = stack.enter_context(CurriculumClient(address, TOKEN))

        def over_http() -> None:
            client.report("only", 1, "0", results_of(client.lease("only", 1, "0", BATCH)))

        client.register("only", 1, 1)
        over_http()
        outside, inside = by_turns(
            [lambda: rate_of(over_http, BATCH, effort.seconds), lambda: rate_of(in_process, BATCH, effort.seconds)],
            effort.repeats,
        )
    what = f"leases and reports/s over HTTP, {BATCH} a request"
    yield rate_row("curriculum", what, outside, 10_000, "what we ask", 1)
    yield rate_row("curriculum", what, outside, inside, "in one process")
    what = f"HTTP requests/s, each leasing or reporting {BATCH}"
    yield rate_row("curriculum", what, 2 * outside / BATCH, 10_000, "what we ask", 1)
