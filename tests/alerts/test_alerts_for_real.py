"""A real Prometheus watches a real `ada run` in which things go wrong: alerts fire, and end when it is mended."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from tests.alerts.documented import NOT_HERE, documented, used_in
from tests.alerts.prometheus import FACTOR, prometheus

pytestmark = pytest.mark.timeout(900)  # a first start compiles the simulator

LONG = pytest.mark.skipif(not os.environ.get("ADA_TEST_LONG"), reason="takes minutes: set ADA_TEST_LONG=1")
SPEC = {
    "seed": 1,
    "environment": {
        "observation": "symbolic",
        "trials": {"min": 1, "max": 2},
        "trialSeconds": [2],
        "actionGroups": ["move", "turn"],
        "world": {"size": {"min": 8, "max": 8}, "levels": {"min": 1, "max": 1}},
        "game": {"rules": {"min": 0, "max": 0}, "distractors": {"min": 0, "max": 0}, "deadEnds": {"min": 0, "max": 0}},
        "taskPool": {"worlds": 50, "games": 50},
    },
    "curriculum": {"method": "plr", "plr": {"minArchiveSize": 8, "trainingTrials": 2}},
    "checkpoint": {"intervalSeconds": 4},
    "failurePolicy": {"maxCodeFailures": 100},
    "stages": [
        {
            "name": "teacher",
            "model": {"core": "gru"},
            "algorithm": {"unroll": 16, "worlds": 16, "minibatches": 2, "epochs": 1},
            "frames": 10**12,
        }
    ],
}
NOISY = "AdaScoreRegressed"  # hours are seconds here, and a mean over a few episodes is worth nothing
PARTS = {"curriculum", "experiment", "simulator", "trainer"}


@pytest.fixture
def watched(make_run, tmp_path):
    """Yield a run that trains and the Prometheus that watches it."""
    run = make_run(SPEC)
    started = run.start("--metrics")
    with prometheus(tmp_path / "prometheus", run.directory / "prometheus-targets.json") as server:
        run.wait_for(lambda: run.status().get("phase") == "Training" and run.stage(0).get("checkpoint"), started)
        run.wait_for(lambda: {one["metric"]["program"] for one in server.value_of("up == 1")} == PARTS, started)
        try:
            yield run, server
        finally:
            started.kill()
            started.wait()
    assert run.none_left()


@contextlib.contextmanager
def stopped(pids):
    """Let processes hang, as long as the block runs."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def exposed(server):
    names = {one["metric"]["__name__"] for one in server.value_of('group by (__name__) ({__name__=~"ada_.*"})')}
    return {name for found in names for name in used_in(found)}


def workers(run):
    """Return the training processes: what a node's agent started, directly or through a process that copies itself."""
    parents = {pid: parent_of(pid) for pid in run.processes()}
    nodes = set(run.processes("launch"))
    return [pid for pid in parents if pid not in parents.values() and is_below(pid, nodes, parents)]


def parent_of(pid):
    with contextlib.suppress(OSError):
        return int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    return 0


def is_below(pid, nodes, parents):
    while (pid := parents.get(pid, 0)) != 0:
        if pid in nodes:
            return True
    return False


def fires(*names):
    return lambda server: set(names) <= set(server.firing())


def is_over(*names):
    return lambda server: not set(names) & set(server.firing())


def test_a_lost_store_and_a_hanging_worker_are_told_and_are_over_when_mended(watched):
    run, server = watched
    # Enough of normal life for every window but that of the throughput's median.
    server.wait_until(
        "an hour, made short",
        lambda server: server.value_of(f"experiment_stage:ada_frames:max offset {3600 / FACTOR:.0f}s"),
    )
    assert set(server.firing()) <= {NOISY}
    assert exposed(server) <= set(documented())
    programs = {name for name in documented() if not name.startswith("ada_operator_")}
    server.wait_until("every metric", lambda server: programs - exposed(server) <= NOT_HERE)

    store, aside = run.directory / "store", run.directory / "aside"
    store.rename(aside)
    store.touch()  # nothing can be written below a file
    server.wait_until("a store that fails", fires("AdaStoreFailing", "AdaCheckpointTooOld"))
    told = server.firing()["AdaStoreFailing"]
    assert told["labels"]["experiment"] == "default/tiny"
    assert "default/tiny" in told["annotations"]["summary"]
    assert told["annotations"]["runbook_url"].endswith("store-failing.md")
    assert run.status()["phase"] == "Training", "a lost store stops nobody"
    store.unlink()
    aside.rename(store)
    server.wait_until("a store that is back", is_over("AdaStoreFailing", "AdaCheckpointTooOld"))

    with stopped(workers(run)):
        server.wait_until("a worker that hangs", fires("AdaNoProgress", "AdaThroughputHalved"))
        assert "AdaStoreFailing" not in server.firing()
    server.wait_until("a worker that goes on", is_over("AdaNoProgress", "AdaThroughputHalved"))


@LONG
def test_slow_simulators_a_hanging_node_and_crashes_are_told(watched):
    run, server = watched
    over = threading.Event()

    def slow_down():
        while not over.is_set():
            with stopped(run.processes("ada_sim")):
                time.sleep(0.5)
            time.sleep(0.02)

    slowing = threading.Thread(target=slow_down)
    slowing.start()
    try:
        server.wait_until("slow simulators", fires("AdaSimulatorsStarving"))
    finally:
        over.set()
        slowing.join()
    server.wait_until("simulators of old", is_over("AdaSimulatorsStarving"))

    with stopped(run.processes("launch")):
        server.wait_until("a node that hangs", fires("AdaBelowMinNodes"))
    server.wait_until("a node that goes on", is_over("AdaBelowMinNodes"))

    deadline = time.monotonic() + 240
    while "AdaRestartStorm" not in server.firing():
        for pid in workers(run):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
        assert time.monotonic() < deadline, run.text()
