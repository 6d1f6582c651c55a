"""How a node's launcher ends: exit codes of real processes, from a wrong flag to a group that is told to stop."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.trainer.elastic_machine import Machine, committed_frames, one_chain, running

from ada_trainer.launch import WORKER_RESTARTS
from ada_trainer.loop import LEAVING_PATIENCE_S

pytestmark = pytest.mark.skipif(not os.environ.get("ADA_TEST_LONG"), reason="takes minutes: set ADA_TEST_LONG=1")


def launched(machine: Machine, *changes: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a launcher to its end."""
    flags = ["--stage", "teacher", "--nodes", "1:1", "--rendezvous-id", "x-1", "--experiment", str(machine.experiment)]
    command = [sys.executable, "-m", "ada_trainer", "launch", *flags, *changes]
    return subprocess.run(
        command, env={**machine.environment, **environment}, capture_output=True, text=True, timeout=240, check=False
    )


def test_a_flag_that_does_not_exist_and_a_setting_that_can_not_work_have_codes_of_their_own(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 400, nodes=1)
    usage = launched(machine, "--no-such-flag")
    assert usage.returncode == 2 and "--no-such-flag" in usage.stderr
    configuration = launched(machine, ADA_TOKEN="")
    assert configuration.returncode == 78 and "ADA_TOKEN" in configuration.stderr.splitlines()[-1]
    machine.close()


@pytest.mark.timeout(600)
def test_a_node_told_to_stop_commits_and_one_whose_model_changed_says_so(tmp_path: Path) -> None:
    with running(Machine(tmp_path, 10**9, nodes=1)) as here:
        here.until("a worker trains and commits", lambda: committed_frames(here) > 0)
        here.processes["node-0"].send_signal(signal.SIGTERM)
        assert here.wait("node-0") == 75, here.logs()
        assert committed_frames(here) == here.progress().frames
        one_chain(here)

        document = json.loads(here.experiment.read_text())
        document["spec"]["stages"][0]["model"]["preset"] = "micro"
        here.experiment.write_text(json.dumps(document))
        here.launch(0)
        assert here.wait("node-0") == 78, here.logs()
        assert "does not fit its model" in here.log(0).splitlines()[-1] or "does not fit its model" in here.log(0)

        here.processes["rendezvous"].kill()
        here.processes["rendezvous"].wait()
        here.launch(0)
        here.until("a node waits for its group", lambda: here.log(0).count("waiting for the group") == 3)
        here.processes["node-0"].send_signal(signal.SIGTERM)
        assert here.wait("node-0") == 75, "told to stop while there is nobody to meet"


@pytest.mark.timeout(600)
def test_a_node_told_to_stop_does_not_wait_for_services_that_go_with_it(tmp_path: Path) -> None:
    with running(Machine(tmp_path, 10**9, nodes=1)) as here:
        here.until("a worker trains and commits", lambda: committed_frames(here) > 0)
        for name in ("curriculum", "rendezvous", "simulator-0", "simulator-1", "node-0"):  # as with their experiment
            here.processes[name].send_signal(signal.SIGTERM)
        assert here.wait("node-0") == 75, here.logs()
        assert any(f"{LEAVING_PATIENCE_S:g} s: " in line for line in here.log(0).splitlines()), here.log(0)


@pytest.mark.timeout(1200)
def test_a_node_whose_workers_keep_dying_ends_with_trouble(tmp_path: Path) -> None:
    with running(Machine(tmp_path, 10**9, nodes=1)) as here:
        for number in range(1, WORKER_RESTARTS + 2):
            here.until("it trains", lambda seen=number: here.progress().generation >= seen)
            here.until("its worker is there", lambda: here.worker_of(0) is not None)
            worker = here.worker_of(0)
            assert worker is not None
            os.kill(worker, signal.SIGKILL)
        assert here.wait("node-0") == 1, here.logs()
        assert "worker 0 ended with -9" in here.log(0)
        one_chain(here)
