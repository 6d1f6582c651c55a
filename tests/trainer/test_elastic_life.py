"""A life of faults: one group goes through all of them, in an order that a seed draws; its commits stay one chain."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.trainer.elastic_machine import Machine, committed_frames, goes_on, is_gone, one_chain

pytestmark = [
    pytest.mark.skipif(not os.environ.get("ADA_TEST_LONG"), reason="takes minutes: set ADA_TEST_LONG=1"),
    pytest.mark.timeout(3600),
]


def end_worker(here: Machine, node: int, number: signal.Signals) -> None:
    worker = here.worker_of(node)
    assert worker is not None
    os.kill(worker, number)
    here.until("it is gone", lambda: is_gone(worker))


def worker_is_killed(here: Machine, node: int) -> None:
    end_worker(here, node, signal.SIGKILL)


def worker_hangs(here: Machine, node: int) -> None:
    end_worker(here, node, signal.SIGSTOP)


def all_workers_are_killed(here: Machine, node: int) -> None:
    workers = [here.worker_of(one) for one in (node, 1 - node)]
    for worker in workers:
        assert worker is not None
        os.kill(worker, signal.SIGKILL)


def node_is_killed_and_comes_back(here: Machine, node: int) -> None:
    here.processes[f"node-{node}"].kill()
    here.processes[f"node-{node}"].wait()
    here.launch(node)


def node_leaves_and_comes_back(here: Machine, node: int) -> None:
    here.processes[f"node-{node}"].terminate()
    assert here.wait(f"node-{node}") == 75, here.logs()
    assert committed_frames(here) > 0
    here.launch(node)


def store_is_killed_and_comes_back(here: Machine, node: int) -> None:
    here.processes["rendezvous"].kill()
    here.processes["rendezvous"].wait()
    here.start("rendezvous", 2, "ada_trainer", "rendezvous")


FAULTS: list[Callable[[Machine, int], None]] = [
    worker_is_killed,
    worker_hangs,
    all_workers_are_killed,
    node_is_killed_and_comes_back,
    node_leaves_and_comes_back,
    store_is_killed_and_comes_back,
]


@pytest.mark.parametrize("seed", range(3))
def test_a_group_goes_through_every_fault_in_any_order(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    here = Machine(tmp_path, 10**9, commit_every_s=5)
    try:
        here.start_all()
        here.until("two workers train and commit", lambda: here.progress().workers == 2 and committed_frames(here) > 0)
        for fault in rng.sample(FAULTS, len(FAULTS)):
            node, before, committed = rng.randrange(2), here.progress(), committed_frames(here)
            began = time.monotonic()
            fault(here, node)
            goes_on(here, before.generation, committed)
            print(f"{fault.__name__} of node {node}: both go on after {time.monotonic() - began:.1f} s", flush=True)
            one_chain(here)
        for node in range(2):
            here.processes[f"node-{node}"].terminate()
        assert [here.wait(f"node-{node}") for node in range(2)] == [75, 75], here.logs()
        assert one_chain(here)[-1].frames == here.progress().frames
    finally:
        here.close()
