"""What a group does follows from the progress of its stage alone: frames, updates, learning rate, tasks, seeds."""

import importlib.util
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from ada_trainer import resuming
from ada_trainer.elastic.group import Group
from ada_trainer.loop import Ending

_spec = importlib.util.spec_from_file_location("loop_parts", Path(__file__).with_name("loop_parts.py"))
assert _spec is not None and _spec.loader is not None
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)

WORLDS, UNROLL, FRAMES = 4, 10, 480
ITERATION = WORLDS * UNROLL


class Table:
    """Where threads put something each and take what all have put."""

    def __init__(self, places: int) -> None:
        self._barrier = threading.Barrier(places, timeout=60)
        self._put: list[Any] = [None] * places

    def exchange(self, rank: int, thing: Any) -> list[Any]:
        self._put[rank] = thing
        self._barrier.wait()
        taken = list(self._put)
        self._barrier.wait()
        return taken


class ThreadGroup(Group):
    """Workers that are threads of one process; test_elastic_group has the real thing."""

    table: Table

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.copy_(torch.stack(self.table.exchange(self.rank, tensor.clone())).sum(0))

    def greatest(self, number: int) -> int:
        return int(max(self.table.exchange(self.rank, number)))

    def gather(self, data: bytes) -> list[bytes]:
        return self.table.exchange(self.rank, data)

    def broadcast(self, data: bytes, source: int) -> bytes:
        return bytes(self.table.exchange(self.rank, data)[source])


class NotingCurriculum(parts.MemoryCurriculum):  # type: ignore[misc, name-defined]
    """Notes what the leader tells of each iteration."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[int, int, float]] = []  # frames, updates, learning rate

    def advance(self, stage: str, generation: int, frames: int, updates: int, skipped: int, losses: Any) -> Any:
        self.told.append((frames, updates, losses["learningRate"]))
        return super().advance(stage, generation, frames)


def run_in_parts(directory: Path, sizes: list[int]) -> NotingCurriculum:
    """Train to the end in equal parts, each by a group of another size."""
    run = parts.Run(directory, parts.tiny_experiment(FRAMES, worlds=WORLDS, unroll=UNROLL), NotingCurriculum())
    for number, size in enumerate(sizes, start=1):
        last = number == len(sizes)
        run.curriculum.stop_at = 1 << 60 if last else FRAMES * number // len(sizes)
        table = Table(size)
        with ThreadPoolExecutor(size) as threads:
            endings = list(threads.map(lambda rank, seats=table: be_worker(run, seats, rank, size), range(size)))  # noqa: B023
        assert endings == [Ending.TRAINED if last else Ending.STOPPED] * size
    return run.curriculum


def be_worker(run: Any, table: Table, rank: int, size: int) -> Ending:
    torch.set_num_threads(1)  # it is a setting of the thread
    group = ThreadGroup(rank, size)
    object.__setattr__(group, "table", table)
    start = resuming.agree_on_start(run.settings, group, run.store, run.curriculum)
    worker = parts.Worker(run.settings, group, run.store, run.curriculum, start, run.told, connect=run.connect)
    try:
        worker.restore(resuming.read_start(run.settings, group, start))
        return worker.train()
    finally:
        worker.close()


def test_frames_updates_and_learning_rate_are_those_of_a_run_that_was_not_resized(tmp_path: Path) -> None:
    undisturbed = run_in_parts(tmp_path / "undisturbed", [1])
    for sizes in ([1, 2, 1], [2, 1, 2], [1, 3, 4]):
        resized = run_in_parts(tmp_path / "-".join(map(str, sizes)), sizes)
        assert resized.told == undisturbed.told, sizes
    rates = [rate for _, _, rate in undisturbed.told]
    assert [frames for frames, _, _ in undisturbed.told] == list(range(ITERATION, FRAMES + 1, ITERATION))
    assert rates == sorted(rates, reverse=True) and rates[0] > 2 * rates[-1]


def test_no_episode_is_reported_twice_when_a_group_is_resized(tmp_path: Path) -> None:
    resized = run_in_parts(tmp_path, [1, 2, 1])
    leases = [result.lease for result in resized.results]
    assert len(leases) == len(set(leases)) > WORLDS
