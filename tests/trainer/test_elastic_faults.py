"""Faults that take minutes: a leader cut off from the network, half a group gone at once, a group that is resized."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.trainer.elastic_machine import Machine, commits, committed_frames, goes_on, is_gone, one_chain, running

pytestmark = [
    pytest.mark.skipif(not os.environ.get("ADA_TEST_LONG"), reason="takes minutes: set ADA_TEST_LONG=1"),
    pytest.mark.timeout(3600),
]


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class CutOff:
    """A network namespace at a bridge of this machine, and the cable between the two."""

    def __init__(self, net: str, hosts: list[int], inside: int) -> None:
        """Put an address for each of `hosts` on the bridge and one into the namespace."""
        number = os.getpid() % 100_000
        self.name, self.bridge, self._cable = f"ada-test-{number}", f"adab{number}", f"adac{number}"
        self.inner = f"adai{number}"
        with ExitStack() as undo:
            undo.callback(self.close)
            ip("link", "add", self.bridge, "type", "bridge")
            for host in hosts:
                ip("addr", "add", f"{net}.{host}/24", "dev", self.bridge)
            ip("link", "set", self.bridge, "up")
            ip("netns", "add", self.name)
            ip("link", "add", self._cable, "type", "veth", "peer", "name", self.inner, "netns", self.name)
            ip("link", "set", self._cable, "master", self.bridge, "up")
            ip("-n", self.name, "addr", "add", f"{net}.{inside}/24", "dev", self.inner)
            for device in (self.inner, "lo"):
                ip("-n", self.name, "link", "set", device, "up")
            undo.pop_all()

    def cut(self) -> None:
        ip("link", "set", self._cable, "down")

    def mend(self) -> None:
        ip("link", "set", self._cable, "up")

    def close(self) -> None:
        for command in (("netns", "del", self.name), ("link", "del", self._cable), ("link", "del", self.bridge)):
            subprocess.run(["ip", *command], check=False, capture_output=True)


@pytest.fixture
def network() -> Iterator[CutOff]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2, to make a network namespace")
    made = CutOff(NET, [1, 2, 10, 11, 21], 20)
    yield made
    made.close()


NET = f"10.{88 + os.getpid() // 250 % 100}.{os.getpid() % 250}"


def test_a_leader_cut_off_is_left_behind_commits_nothing_more_and_comes_back(tmp_path: Path, network: CutOff) -> None:
    within = {
        "node-0": ("ip", "netns", "exec", network.name, "env", f"GLOO_SOCKET_IFNAME={network.inner}"),
        "node-1": ("env", f"GLOO_SOCKET_IFNAME={network.bridge}"),
    }
    with running(Machine(tmp_path, 10**9, commit_every_s=2, net=NET, within=within)) as here:
        here.until("two workers train and commit", lambda: here.progress().workers == 2 and committed_frames(here) > 0)
        assert here.leader() == 0, "addresses decide who leads"
        before = here.progress()
        network.cut()
        began = time.monotonic()
        goes_on(here, before.generation, before.frames, workers=1)
        print(f"the other goes on {time.monotonic() - began:.1f} s after the cut")
        alone, since = here.progress().generation, time.time()
        here.until("it commits", lambda: commits(here)[-1].generation == alone)
        at = here.progress().frames
        here.until("it trains on", lambda: here.progress().frames > at + 2000 and commits(here)[-1].frames > at)
        late = [one for one in commits(here) if one.time > since]
        assert late and {one.generation for one in late} == {alone}, "who is cut off commits nothing more"

        network.mend()
        here.until("the node is taken back", lambda: here.progress().workers == 2)
        back = here.progress()
        assert back.generation > alone
        goes_on(here, alone, at)
        here.until("both commit", lambda: commits(here)[-1].generation > alone)
        one_chain(here)


def test_two_of_four_nodes_die_at_once_the_leader_among_them(tmp_path: Path) -> None:
    with running(Machine(tmp_path, 10**9, nodes=4)) as here:
        here.until("four workers train", lambda: here.progress().workers == 4 and committed_frames(here) > 0)
        leader = here.leader()
        dying = {leader, (leader + 1) % 4}
        orphans = [here.worker_of(node) for node in dying]
        before, committed = here.progress(), committed_frames(here)
        for node in dying:
            here.processes[f"node-{node}"].send_signal(signal.SIGKILL)
        for node in dying:
            here.processes[f"node-{node}"].wait()
        goes_on(here, before.generation, committed)
        assert all(is_gone(orphan) for orphan in orphans if orphan is not None)
        one_chain(here)


def test_a_node_that_is_taken_for_dead_while_its_worker_trains_is_not_taken_over_from(tmp_path: Path) -> None:
    with running(Machine(tmp_path, 10**9, commit_every_s=3600, nodes=2)) as here:
        here.until("two workers train", lambda: here.progress().workers == 2)
        here.processes["node-1"].send_signal(signal.SIGTERM)
        assert here.wait("node-1") == 75
        here.until("one worker trains", lambda: here.progress().workers == 1)
        alone = here.progress()
        here.until("it has something to lose", lambda: here.progress().frames > alone.frames + 2000)

        here.processes["node-0"].send_signal(signal.SIGSTOP)  # its agent gets no processor time, its worker does
        here.launch(1)
        met = "node 0 of 1 met the others"
        here.until("who came meets alone", lambda: met in here.log(1).rpartition("waiting for the group")[2])
        time.sleep(20)  # in which it would have taken over
        assert here.progress().generation == alone.generation
        at = here.progress().frames
        here.processes["node-0"].send_signal(signal.SIGCONT)
        here.until("both meet", lambda: here.progress().workers == 2)
        assert here.progress().frames >= at, "no frame is lost, though nothing was committed since"
        assert "took this node for dead" in here.log(0)
        goes_on(here, alone.generation, at)


def test_a_planned_resize_loses_no_frame(tmp_path: Path) -> None:
    with running(Machine(tmp_path, 10**9, commit_every_s=3600)) as here:
        here.until("two workers train", lambda: here.progress().workers == 2 and here.progress().frames > 400)
        before = here.progress()
        here.processes["node-1"].terminate()
        assert here.wait("node-1") == 75, here.logs()
        left = commits(here)[-1]
        assert left.generation == before.generation and left.frames >= before.frames
        goes_on(here, before.generation, left.frames, workers=1)
        began = [
            line for line in here.log(0).splitlines() if "goes on from the memory" in line or "starts from" in line
        ]
        assert str(left.frames) in began[-1], "the first group that is smaller begins where the larger one ended"

        alone = here.progress()
        here.launch(1)  # joins while the other is in the middle of a step
        goes_on(here, alone.generation, alone.frames)
        last = [one for one in commits(here) if one.generation == alone.generation][-1]
        assert last.frames >= alone.frames
        goes_on(here, alone.generation, last.frames)
        began = [line for node in range(2) for line in here.log(node).splitlines() if "goes on from the memory" in line]
        began += [line for node in range(2) for line in here.log(node).splitlines() if "starts from" in line]
        assert any(f"{last.frames}" in line for line in began), "nor does the larger one lose any"
        one_chain(here)
