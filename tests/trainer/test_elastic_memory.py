"""Snapshots that outlive their worker: what is found again is whole, and the newest there is."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ada_curriculum.store import StoreError
from ada_trainer import resuming
from ada_trainer.captures import Capture
from ada_trainer.elastic.group import Group
from ada_trainer.elastic.memory import (
    HEAD,
    LARGEST_SHARE,
    SLOTS_VARIABLE,
    Keeper,
    Kept,
    Mark,
    make_slots,
    newest_kept,
    own_slots,
    read_slot,
    write_slot,
)
from ada_trainer.loop import Ending
from ada_trainer.resuming import choose_holder

_spec = importlib.util.spec_from_file_location("loop_parts", Path(__file__).with_name("loop_parts.py"))
assert _spec is not None and _spec.loader is not None
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)


def mark(frames: int, generation: int = 1, **changes: Any) -> Mark:
    fields = {"run": "tiny-1", "stage": "teacher", "updates": frames // 10, "committed_frames": 0, "committed_at": 0.0}
    return Mark(generation=generation, frames=frames, **{**fields, **changes})


@pytest.fixture
def slots() -> tuple[Path, ...]:
    return own_slots({SLOTS_VARIABLE: make_slots(1)}, 0)


def test_what_was_written_last_is_found_and_the_other_slot_holds_the_one_before(slots: tuple[Path, ...]) -> None:
    assert newest_kept(slots, "tiny-1", "teacher") is None
    keeper = Keeper(slots, clock=lambda: 0.0)
    for frames in (10, 20, 30):
        assert keeper.offer(mark(frames), lambda frames=frames: Capture(b"state %d" % frames))
        keeper._running.result()
    keeper.close()
    assert newest_kept(slots, "tiny-1", "teacher") == Kept(mark(30), b"state 30")
    assert sorted(kept.mark.frames for kept in map(read_slot, slots) if kept) == [20, 30]
    assert newest_kept(slots, "tiny-2", "teacher") is None, "another run's snapshot is none of ours"
    assert newest_kept(slots, "tiny-1", "student") is None


@pytest.mark.parametrize("position", [0, 9, HEAD.size + 3, -1])
def test_a_damaged_slot_is_passed_over(slots: tuple[Path, ...], position: int) -> None:
    write_slot(slots[0], mark(10), b"older")
    write_slot(slots[1], mark(20), b"newer")
    data = bytearray(slots[1].read_bytes())
    data[position] ^= 1
    slots[1].write_bytes(data)
    kept = newest_kept(slots, "tiny-1", "teacher")
    assert kept is not None and kept.state == b"older"


KILLED_WRITER = """
import itertools, os, sys
from pathlib import Path
from ada_trainer.captures import Capture
from ada_trainer.elastic.memory import Keeper, Mark
slots = [Path(path) for path in sys.argv[1:]]
for frames in itertools.count(1):
    keeper = Keeper(slots)
    keeper._turn = frames % 2
    state = frames.to_bytes(8, "little") * 100_000
    keeper.offer(Mark("tiny-1", "teacher", 1, frames, frames, 0, 0.0), lambda: Capture(state))
    keeper.close()
    if frames == 3:
        print("writing", flush=True)
"""


@pytest.mark.parametrize("pause_s", [0.0, 0.003, 0.011, 0.02])
def test_a_writer_killed_at_any_moment_leaves_a_whole_snapshot(slots: tuple[Path, ...], pause_s: float) -> None:
    command = [sys.executable, "-c", KILLED_WRITER, *map(str, slots)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"writing\n"
        with contextlib.suppress(subprocess.TimeoutExpired):
            writer.wait(pause_s)
        os.kill(writer.pid, signal.SIGKILL)
    kept = newest_kept(slots, "tiny-1", "teacher")
    assert kept is not None and kept.mark.frames >= 2
    assert kept.state == kept.mark.frames.to_bytes(8, "little") * 100_000


def test_snapshots_take_a_small_share_of_the_time(slots: tuple[Path, ...]) -> None:
    now = 0.0

    def pack() -> Capture:
        nonlocal now
        now += 2.0
        return Capture(b"")

    keeper = Keeper(slots, clock=lambda: now)
    taken = 0
    for _ in range(1000):
        now += 1.0
        taken += keeper.offer(mark(1), pack)
        if keeper._running is not None:
            keeper._running.result()
    keeper.close()
    assert 0 < taken * 2.0 <= LARGEST_SHARE * now + 2.0


def test_memory_that_is_gone_does_not_stop_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keeper = Keeper((tmp_path / "nowhere",))
    keeper.offer(mark(1), lambda: Capture(b"x"))
    keeper.close()
    assert "no snapshot was kept" in caplog.text
    assert not Keeper(()).offer(mark(1), lambda: Capture(b"x"))


def committed(*orders: tuple[int, int]) -> list[Any]:
    class Stored:
        def __init__(self, generation: int, frames: int) -> None:
            self.manifest = mark(frames, generation)

    return [Stored(*order) for order in orders]


@pytest.mark.parametrize(
    ("marks", "commits", "since", "holder"),
    [
        pytest.param([None, None], [(1, 100)], 0, None, id="nobody-kept-anything"),
        pytest.param([mark(120), mark(130)], [(1, 100)], 0, 1, id="the-newest-survivor-wins"),
        pytest.param([mark(130), None], [], 0, 0, id="without-any-commit"),
        pytest.param([mark(100)], [(1, 100)], 0, None, id="a-commit-as-new-is-better"),
        pytest.param([mark(300), mark(100, 2)], [(1, 200)], 0, 1, id="a-later-generation-followed-a-roll-back"),
        pytest.param([mark(300)], [(2, 100)], 0, None, id="a-node-that-was-away-does-not-undo-a-commit"),
        pytest.param([mark(300)], [], 2, None, id="what-was-rolled-back-stays-so"),
    ],
)
def test_the_group_goes_on_from_the_newest_of_memory_and_store(
    marks: list[Mark | None], commits: list[tuple[int, int]], since: int, holder: int | None
) -> None:
    assert choose_holder(marks, committed(*commits), since) == holder


def kept_by(worker: Any) -> Kept:
    return Kept(worker._mark(), bytes(worker.capture().data()))


def test_a_group_goes_on_from_memory_as_if_nothing_had_been(tmp_path: Path) -> None:
    run = parts.Run(tmp_path, parts.tiny_experiment(frames=400))
    run.curriculum.stop_at = 120
    _, worker = run.train()
    (tmp_path / "default/tiny/checkpoints").rename(tmp_path / "lost")  # as if it had been killed before its commit
    kept = kept_by(worker)
    client: Any = run.curriculum
    start = resuming.agree_on_start(run.settings, Group(), run.store, client, kept)
    assert (start.holder, start.generation) == (0, 2)
    assert start.mark == kept.mark
    again = parts.Worker(run.settings, Group(), run.store, client, start, run.told, connect=run.connect)
    again.adopt(start.mark, resuming.receive_kept(Group(), start, kept))
    assert again.counts == worker.counts
    assert bytes(again.capture().data()) == bytes(worker.capture().data())
    run.curriculum.stop_at = 1 << 60
    assert again.train() is Ending.TRAINED
    again.close()
    assert again.counts.frames == 400
    assert resuming.list_checkpoints(run.store, "teacher")[-1].manifest.frames == 400


def test_a_stage_that_lost_only_its_last_commit_commits_from_memory(tmp_path: Path) -> None:
    run = parts.Run(tmp_path, parts.tiny_experiment(frames=80))
    _, worker = run.train()
    (tmp_path / "default/tiny/checkpoints").rename(tmp_path / "lost")
    client: Any = run.curriculum
    kept = kept_by(worker)
    start = resuming.agree_on_start(run.settings, Group(), run.store, client, kept)
    again = parts.Worker(run.settings, Group(), run.store, client, start, run.told, connect=run.connect)
    again.adopt(start.mark, kept.state)
    assert again.train() is Ending.TRAINED
    again.close()
    assert resuming.list_checkpoints(run.store, "teacher")[-1].manifest.frames == 80


class DownStore:
    """A store that does not answer."""

    uri = "s3://down/x"

    def list(self, *_: Any) -> None:
        raise StoreError("down")


def test_while_the_store_is_down_the_newest_generation_goes_on_from_memory_and_no_other_does(tmp_path: Path) -> None:
    run = parts.Run(tmp_path, parts.tiny_experiment())
    client: Any = run.curriculum
    client.register("teacher", 3, 2)
    down: Any = DownStore()
    start = resuming.agree_on_start(run.settings, Group(), down, client, Kept(mark(50, 3), b"state"))
    assert (start.holder, start.generation) == (0, 4)
    with pytest.raises(StoreError):
        resuming.agree_on_start(run.settings, Group(), down, client, Kept(mark(50, 3), b"state"))


def test_what_is_told_to_the_group_arrives(tmp_path: Path) -> None:
    start = resuming.Start(3, None, None, 1, mark(5), "ab")
    assert resuming.Start.from_bytes(start.to_bytes()) == start
    plain = resuming.Start(3, "u", "d")
    assert resuming.Start.from_bytes(plain.to_bytes()) == plain
    assert json.loads(plain.to_bytes())["mark"] is None


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
