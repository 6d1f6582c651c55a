"""The curriculum: draws from an archive beside the plain definition; leases over HTTP beside those in process."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ada_api.curriculum import Curriculum, PrioritisedLevelReplay
from ada_curriculum.archive import Archive
from ada_curriculum.client import CurriculumClient
from ada_curriculum.stage import StageCurriculum, make_method, random_generator
from ada_curriculum.types import Lease, Result
from benchmarks.row import Row, median_rate, median_seconds, rate_row, time_row

SMALL, LARGE = 1_000, 1_000_000
OPERATIONS = 20_000
BATCH = 64
TEMPERATURE, STALENESS = 0.3, 0.2
EXPERIMENT = {
    "apiVersion": "ada.dev/v1alpha1",
    "kind": "AdaExperiment",
    "metadata": {"name": "benchmark"},
    "spec": {"stages": [{"name": "only", "frames": 10**12}]},
}


def rows() -> Iterator[Row]:
    """Measure the archive, then the service."""
    yield from archive_rows()
    yield from service_rows()


def archive_rows() -> Iterator[Row]:
    """Compare draws with the definition worked out anew each time, and a million tasks with a thousand."""
    small, large = operations(SMALL), operations(LARGE)
    plain = median_seconds(plain_draw(LARGE), repeats=3)
    yield time_row(
        "curriculum", "draw, 1e6 tasks (s)", large["draw"], plain, "numpy: ranks and weights of every draw", 1000
    )
    for name, seconds in large.items():
        yield time_row("curriculum", f"{name}, 1e6 tasks (s)", seconds, small[name], "the same with 1e3 tasks", 0.2)


def operations(size: int) -> dict[str, float]:
    """Return seconds of one operation each on a full archive."""
    rng = np.random.default_rng(0)
    archive = Archive(size, TEMPERATURE, STALENESS)
    fitness = rng.normal(size=size)
    archive.load(
        {
            "tasks": np.arange(size, dtype=np.uint64),
            "fitness": fitness,
            "last_used": rng.integers(0, size, size),
            "clock": np.array([size]),
        }
    )
    chances = rng.random((OPERATIONS, 2)).tolist()
    held, values = rng.integers(0, size, OPERATIONS).tolist(), rng.normal(size=OPERATIONS).tolist()
    fresh = iter(range(1 << 40, 1 << 60))
    top = [float(fitness.max())]

    def draw() -> None:
        for choice, where in chances:
            archive.draw(choice, where)

    def refresh() -> None:
        for task, value in zip(held, values, strict=True):
            archive.refresh(task, value)

    def replace_least() -> None:
        for _ in range(OPERATIONS):
            top[0] += 1e-6  # always fitter than all, so that every offer replaces a task
            archive.offer(next(fresh), top[0])

    works: dict[str, Callable[[], None]] = {"draw": draw, "update": refresh, "insert": replace_least}
    return {name: median_seconds(work) / OPERATIONS for name, work in works.items()}


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


def service_rows() -> Iterator[Row]:
    """Compare leases and their reports over HTTP with the same in this process."""
    method = make_method(Curriculum(plr=PrioritisedLevelReplay()), None)
    stage = StageCurriculum(method, Numbers(), random_generator(0, "only"), 1)

    def in_process() -> None:
        for _ in range(100):
            stage.apply(results_of(stage.lease(BATCH, 0.0)))

    inside = median_rate(in_process, 100 * BATCH)
    with tempfile.TemporaryDirectory() as folder, running_service(Path(folder)) as client:

        def over_http() -> None:
            for _ in range(100):
                client.report("only", 1, "0", results_of(client.lease("only", 1, "0", BATCH)))

        client.register("only", 1, 1)
        outside = median_rate(over_http, 100 * BATCH)
    yield rate_row("curriculum", f"leases and reports a second, {BATCH} a request", outside, 10_000, "what we ask", 1)
    yield rate_row("curriculum", f"leases and reports a second, {BATCH} a request", outside, inside, "in one process")


@contextmanager
def running_service(folder: Path) -> Iterator[CurriculumClient]:
    """Start a service of its own; yields a client of it."""
    (folder / "experiment.json").write_text(json.dumps(EXPERIMENT))
    log = folder / "log"
    environment = {**os.environ, "ADA_TOKEN": "token", "ADA_STORE": f"file://{folder}/store"}
    command = [sys.executable, "-m", "ada_curriculum", "--experiment", str(folder / "experiment.json")]
    with log.open("wb") as file:
        process = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", "0"], env=environment, stderr=file)
    try:
        while not (found := re.search(r"listening on .*:(\d+)", log.read_text())):
            if process.poll() is not None:
                raise RuntimeError(f"the service did not start: {log.read_text()}")
            time.sleep(0.05)
        with CurriculumClient(f"127.0.0.1:{found[1]}", "token") as client:
            yield client
    finally:
        process.kill()
        process.wait()
