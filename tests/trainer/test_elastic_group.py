"""Real agents, workers, simulators, curriculum and rendezvous store: nodes die, come back, are told to stop."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ada_curriculum.manifest import newest_whole

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.trainer.elastic_machine import Machine, committed_frames, goes_on, is_gone, one_chain

LONG = pytest.mark.skipif(not os.environ.get("ADA_TEST_LONG"), reason="takes minutes: set ADA_TEST_LONG=1")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    machines: list[Machine] = []

    def make(frames: int, commit_every_s: int = 1) -> Machine:
        machines.append(Machine(tmp_path, frames, commit_every_s))
        machines[-1].start_all()
        return machines[-1]

    yield make
    for one in machines:
        one.close()


@pytest.mark.timeout(600)
def test_a_group_goes_on_after_a_worker_is_killed_and_ends_the_stage(machine: Callable[..., Machine]) -> None:
    here = machine(4_000, commit_every_s=3600)
    here.until("two workers train", lambda: here.progress().workers == 2 and here.progress().frames > 400)
    killed = here.worker_of(1)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    here.until("the group meets again", lambda: here.progress().generation >= 2)
    assert here.wait("node-0") == 0, here.logs()
    assert here.wait("node-1") == 0, here.logs()
    progress = here.progress()
    assert progress.phase == "trained"
    assert progress.workers == 2
    found = newest_whole(here.store, "teacher")
    assert found is not None
    assert found.manifest.frames == progress.frames >= 4_000
    assert progress.checkpoint is not None and progress.checkpoint.digest == found.digest
    assert here.store.head("run/teacher-2.json") is not None, "each membership says where its numbers come from"
    log = (here.directory / "node-0.log").read_text() + (here.directory / "node-1.log").read_text()
    assert "goes on from the memory of worker" in log, "nothing was committed, and yet nothing is begun anew"
    one_chain(here)


@pytest.mark.timeout(600)
def test_a_dead_node_is_left_behind_taken_back_and_all_stop_with_a_commit(machine: Callable[..., Machine]) -> None:
    here = machine(10**9)
    here.until("two workers train and commit", lambda: here.progress().workers == 2 and committed_frames(here) > 0)
    orphan = here.worker_of(1)
    assert orphan is not None
    here.processes["node-1"].kill()
    here.processes["node-1"].wait()
    here.until("the dead agent's worker is gone too", lambda: is_gone(orphan))
    before = committed_frames(here)
    here.until("the other goes on alone", lambda: here.progress().workers == 1 and here.progress().frames > before)
    here.launch(1)
    here.until("the node is taken back", lambda: here.progress().workers == 2)
    generation, before = here.progress().generation, here.progress().frames
    here.until("both train", lambda: here.progress().frames > before)

    for node in range(2):
        here.processes[f"node-{node}"].send_signal(signal.SIGTERM)
    assert [here.wait(f"node-{node}") for node in range(2)] == [75, 75], here.logs()
    stopped_at = here.progress().frames
    assert committed_frames(here) == stopped_at

    here.launch(0)
    here.until("training goes on", lambda: here.progress().generation > generation)
    here.until("and moves", lambda: here.progress().frames > stopped_at)
    log = (here.directory / "node-0.log").read_text()
    assert f"{stopped_at:015d}" in log.rpartition("starts from")[2], log
    one_chain(here)


@LONG
@pytest.mark.timeout(900)
def test_a_group_goes_through_a_hang_and_the_loss_of_all_its_workers(machine: Callable[..., Machine]) -> None:
    here = machine(10**9)
    here.until("two workers train and commit", lambda: here.progress().workers == 2 and committed_frames(here) > 0)

    before = here.progress()
    stopped = here.worker_of(1)
    assert stopped is not None
    os.kill(stopped, signal.SIGSTOP)
    goes_on(here, before.generation, before.frames)
    assert is_gone(stopped), "the worker that hung is not left behind"

    before, committed = here.progress(), committed_frames(here)
    for node in range(2):
        killed = here.worker_of(node)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
    here.until("a new generation", lambda: here.progress().generation > before.generation)
    assert here.progress().frames >= committed, "nothing committed is lost when all workers are"
    goes_on(here, before.generation, before.frames)
    one_chain(here)


@LONG
@pytest.mark.timeout(900)
def test_a_group_meets_again_when_the_rendezvous_store_was_lost(machine: Callable[..., Machine]) -> None:
    here = machine(10**9)
    here.until("two workers train and commit", lambda: here.progress().workers == 2 and committed_frames(here) > 0)
    before, committed = here.progress(), committed_frames(here)
    here.processes["rendezvous"].kill()
    here.processes["rendezvous"].wait()
    time.sleep(2)
    here.start("rendezvous", 2, "ada_trainer", "rendezvous")
    goes_on(here, before.generation, committed)
    one_chain(here)


@LONG
@pytest.mark.timeout(1800)
def test_kills_one_after_the_other_lose_a_moment_at_most(machine: Callable[..., Machine]) -> None:
    here = machine(10**9, commit_every_s=3600)
    here.until("two workers train", lambda: here.progress().workers == 2 and here.progress().frames > 400)
    seconds: list[float] = []
    lost: list[int] = []
    for number in range(6):  # a node gives up after the fourth failure of its own
        before = here.progress()
        killed = here.worker_of(number % 2)
        assert killed is not None
        began = time.monotonic()
        os.kill(killed, signal.SIGKILL)
        here.until("a new generation", lambda seen=before: here.progress().generation > seen.generation)
        here.until("an update", lambda seen=before: here.progress().updates > seen.updates)
        seconds.append(time.monotonic() - began)
        log = "".join((here.directory / f"node-{node}.log").read_text() for node in range(2))
        begun = [int(line.split()[-2]) for line in log.splitlines() if "goes on from the memory" in line]
        assert len(begun) == number + 1, "every membership began from memory"
        lost.append(max(0, before.frames - max(begun)))
        after = here.progress()
        here.until("some updates", lambda seen=after: here.progress().updates > seen.updates + 5)
    for node in range(2):
        here.processes[f"node-{node}"].terminate()
    assert [here.wait(f"node-{node}") for node in range(2)] == [75, 75], here.logs()
    assert one_chain(here)[-1].frames == here.progress().frames
    assert max(lost) <= 20 * 40, "no more is lost than a moment's updates: snapshots are taken for 5% of the time"
    print("seconds from kill -9 to the next update:", " ".join(f"{one:.1f}" for one in sorted(seconds)))
    print("frames lost:", " ".join(map(str, sorted(lost))), "at 40 an update")
