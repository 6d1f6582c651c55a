"""What agent, watchdog and start decide, without processes."""

import argparse
import importlib.util
import inspect
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch.distributed import HashStore, PrefixStore, TCPStore
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.rendezvous import RendezvousParameters, dynamic_rendezvous
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from ada_api.stages import CheckpointReference
from ada_trainer import resuming
from ada_trainer.elastic import predecessors
from ada_trainer.elastic import watchdog as watchdogs
from ada_trainer.elastic.agent import (
    MeetingBrokenError,
    TrainerAgent,
    is_left_out,
    leave_out_call_stacks,
    remaining_restarts,
)
from ada_trainer.elastic.group import Group
from ada_trainer.elastic.processes import own_address, split_address
from ada_trainer.elastic.verdict import agent_exit_code
from ada_trainer.elastic.watchdog import Listener, StepClock, Watchdog, watched
from ada_trainer.exits import (
    EXIT_CONFIGURATION,
    EXIT_REGROUP,
    EXIT_STOPPED,
    EXIT_TROUBLE,
    ConfigurationError,
    RegroupError,
)
from ada_trainer.metrics import NodePage, WorkerMetrics, answer
from ada_trainer.settings import add_arguments, node_bounds, read_settings, simulator_addresses, to_arguments
from ada_trainer.simulators import own_simulators, share

_spec = importlib.util.spec_from_file_location("loop_parts", Path(__file__).with_name("loop_parts.py"))
assert _spec is not None and _spec.loader is not None
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)


@pytest.mark.parametrize(
    ("codes", "left"),
    [
        pytest.param({1}, 3, id="a-crash-takes-one"),
        pytest.param({-9}, 3, id="a-killed-worker-takes-one"),
        pytest.param({EXIT_REGROUP}, 4, id="a-lost-peer-is-free"),
        pytest.param({EXIT_REGROUP, -15}, 4, id="so-is-a-sibling-that-torch-ended"),
        pytest.param({EXIT_REGROUP, 1}, 3, id="a-crash-among-them-counts"),
        pytest.param({EXIT_STOPPED}, 0, id="told-to-stop-ends-the-agent"),
        pytest.param({EXIT_CONFIGURATION, 1}, 0, id="so-does-a-configuration-that-can-not-work"),
    ],
)
def test_restarts_left_by_the_workers_exit_codes(codes: set[int], left: int) -> None:
    assert remaining_restarts(3, codes) == left


def test_the_agent_ends_as_its_workers_say() -> None:
    assert agent_exit_code([1, EXIT_CONFIGURATION]) == EXIT_CONFIGURATION
    assert agent_exit_code([EXIT_STOPPED, -15]) == EXIT_STOPPED
    assert agent_exit_code([-9]) == EXIT_TROUBLE


def test_a_leader_that_dies_right_after_the_meeting_breaks_it_off_and_ends_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LocalElasticAgent, "_rendezvous", lambda self, group: None)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=1))
    met: Any = SimpleNamespace(group_rank=1, group_world_size=2, store=store)
    agent = TrainerAgent.__new__(TrainerAgent)
    agent._restarts = Counter()
    with pytest.raises(MeetingBrokenError):
        agent._rendezvous(met)


def test_a_node_that_is_slow_to_join_needs_no_walk_through_the_stack_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic_rendezvous, "get_method_name", dynamic_rendezvous.get_method_name)  # as it was, later
    leave_out_call_stacks()
    monkeypatch.setattr(inspect, "stack", lambda *_: pytest.fail("the shared state changes meanwhile"))
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    parameters = RendezvousParameters("c10d", f"127.0.0.1:{server.port}", "x", 1, 1, "127.0.0.1", is_host="0")
    met = get_rendezvous_handler(parameters).next_rendezvous()
    assert (met.rank, met.world_size) == (0, 1)


def test_a_node_whose_heartbeat_is_late_knows_that_it_was_taken_for_dead() -> None:
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    quick = {"is_host": "0", "last_call_timeout": 1, "keep_alive_interval": 1, "keep_alive_max_attempt": 2}
    parameters = RendezvousParameters("c10d", f"127.0.0.1:{server.port}", "x", 1, 2, "127.0.0.1", **quick)
    late = get_rendezvous_handler(parameters)
    assert late.next_rendezvous().world_size == 1
    assert not is_left_out(late)
    late._stop_heartbeats()
    time.sleep(2.5)
    assert late.num_nodes_waiting() == 0, "torch itself says nothing of it"
    assert is_left_out(late)
    assert late.next_rendezvous().world_size == 1
    assert not is_left_out(late)


class Passing:
    """Time that passes only in sleep; each second of it does something."""

    def __init__(self, each: Callable[[float], None]) -> None:
        self.now, self._each = 0.0, each

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self._each(self.now)


def took_over_after(kept: int, beats_until: float, other: str = "1", stall_s: float = 600.0) -> float:
    """Return when a new group took over from two workers of generation 3; one beats until a time, the other did."""
    store = HashStore()
    store.set("before/beat/0", other)
    predecessors.announce(Group(world_size=2, rendezvous=store, name="before"), 3)
    passing = Passing(lambda now: store.set("before/beat/1", str(min(now, beats_until))))
    new = Group(rendezvous=store, name="after")
    predecessors.wait_until_gone(new, kept, stall_s, clock=passing.clock, sleep=passing.sleep)
    return passing.now


def test_who_comes_takes_over_once_the_workers_before_are_silent_unless_it_has_what_they_had() -> None:
    assert took_over_after(kept=3, beats_until=1000.0) == 0.0
    assert 10.0 < took_over_after(kept=2, beats_until=0.0) <= 11.5
    assert 30.0 < took_over_after(kept=0, beats_until=20.0) <= 31.5
    assert 5.0 < took_over_after(kept=0, beats_until=0.0, stall_s=10.0) <= 6.5, "before its own workers give up"
    with pytest.raises(RegroupError, match="generation 3 of 2 workers lives"):
        took_over_after(kept=0, beats_until=1000.0)


def test_a_worker_that_ended_in_order_is_not_waited_for() -> None:
    store = HashStore()
    watchdog = Watchdog(PrefixStore("before", store), 0, 1, patience_s=60.0)
    watchdog.start()
    watchdog.stop()
    watchdog.leave()
    predecessors.announce(Group(rendezvous=store, name="before"), 3)
    predecessors.wait_until_gone(Group(rendezvous=store), 0, 600.0, sleep=lambda _: pytest.fail("it said that it ends"))
    assert 20.0 < took_over_after(kept=0, beats_until=10.0, other="gone") <= 21.5


def test_nobody_is_waited_for_where_nobody_trained_before() -> None:
    predecessors.announce(Group(), 1)  # no group, nothing to tell
    predecessors.wait_until_gone(Group(), 0, 600.0)
    predecessors.wait_until_gone(
        Group(rendezvous=HashStore()), 0, 600.0, sleep=lambda _: pytest.fail("there is no one")
    )


def test_a_peer_is_silent_when_its_beat_stands_still() -> None:
    listener = Listener(silence_s=15.0)
    listener.hear(1, b"1", 0.0)
    listener.hear(2, b"1", 0.0)
    listener.hear(1, b"2", 10.0)
    listener.hear(2, b"1", 10.0)
    assert listener.silent(14.0) == []
    assert listener.silent(16.0) == [2]


def test_every_worker_is_listened_to_by_a_few_others() -> None:
    assert [watched(rank, 2) for rank in range(2)] == [[1], [0]]
    assert watched(0, 1) == []
    assert watched(62, 64) == [63, 0, 1, 2]
    heard = [peer for rank in range(64) for peer in watched(rank, 64)]
    assert all(heard.count(rank) == 4 for rank in range(64))


def test_a_step_may_take_ten_times_the_longest_but_at_least_the_patience() -> None:
    clock = StepClock(patience_s=60.0, began=0.0)
    assert clock.overdue_s(59.0) < 0 < clock.overdue_s(61.0)
    clock.step(20.0)
    assert clock.overdue_s(219.0) < 0 < clock.overdue_s(221.0)


def test_the_watchdog_ends_a_worker_whose_peer_falls_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(verdict))
    monkeypatch.setattr(watchdogs, "BEAT_S", 0.05)
    assert ended_by(HashStore(), patience_s=60.0, silence_s=0.5) == [EXIT_REGROUP]
    assert "silent" in verdict.read_text()


class BlockedStore(HashStore):
    """A store that was cut off: no answer and no error."""

    def clone(self) -> "BlockedStore":
        return self

    def set(self, key: str, value: str) -> None:
        threading.Event().wait(30)


def test_who_is_cut_off_from_the_store_blames_no_peer_and_yet_sees_its_own_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(verdict))
    monkeypatch.setattr(watchdogs, "BEAT_S", 0.05)
    assert ended_by(BlockedStore(), patience_s=1.0, silence_s=0.1) == [EXIT_TROUBLE]
    assert "this worker hangs" in verdict.read_text()


def ended_by(store: Any, patience_s: float, silence_s: float) -> list[int]:
    """Return the exit codes with which a watchdog ended the first of two workers; the other never beats."""
    ended: list[int] = []

    def end(code: int) -> None:
        ended.append(code)
        watchdog._over.set()

    watchdog = Watchdog(store, 0, 2, patience_s=patience_s, silence_s=silence_s, end=end)
    watchdog.start()
    watchdog._thread.join(timeout=60)
    return ended


def test_peers_have_a_moment_when_the_store_is_back() -> None:
    listener = Listener(silence_s=10.0)
    listener.hear(1, b"1", 0.0)
    listener.forgive(60.0)
    assert listener.silent(69.0) == []
    listener.hear(1, b"1", 70.0)
    assert listener.silent(71.0) == [1]


JOINING = """
import sys, threading
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
import loop_parts
from ada_trainer.loop import run
settings = loop_parts.settings_of(loop_parts.tiny_experiment(), Path(sys.argv[2]), rendezvous_address=sys.argv[3])
run(settings, threading.Event())
"""


@pytest.mark.timeout(300)
def test_a_peer_that_dies_while_the_workers_connect_is_missed_long_before_a_collective_would_give_up(
    tmp_path: Path,
) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    store.set("ada/tiny-1/met/here/1", "1")  # and that is the last of worker 1
    environment = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "ADA_MEMBERSHIP": "met"}
    arguments = [str(Path(__file__).with_name("loop_parts.py")), str(tmp_path), f"127.0.0.1:{store.port}"]
    worker = subprocess.run(
        [sys.executable, "-c", JOINING, *arguments], env={**os.environ, **environment}, timeout=240, check=False
    )
    assert worker.returncode == EXIT_REGROUP


def test_a_roll_back_happens_once_and_later_members_go_on_from_what_followed(tmp_path: Path) -> None:
    run = parts.Run(tmp_path, parts.tiny_experiment(frames=400))
    for stop_at in (80, 160):
        run.curriculum.stop_at = stop_at
        run.train()
    early, late = resuming.list_checkpoints(run.store, "teacher")
    pinned = CheckpointReference(uri=early.uri, digest=early.digest)
    settings = parts.settings_of(run.settings.experiment, tmp_path, resume=pinned)
    client: Any = run.curriculum
    group = Group(rendezvous=HashStore())

    first = resuming.agree_on_start(settings, group, run.store, client)
    assert first.digest == early.digest
    crashed = resuming.agree_on_start(settings, group, run.store, client)
    assert crashed.digest == early.digest, "nothing was committed since, so the roll-back still holds"

    run.settings = settings
    worker = parts.Worker(settings, group, run.store, client, crashed, run.told, connect=run.connect)
    worker.restore(resuming.read_start(settings, group, crashed))
    run.curriculum.stop_at = 120
    worker.train()
    worker.close()
    after = resuming.agree_on_start(settings, group, run.store, client)
    assert after.digest not in (early.digest, late.digest)
    assert after.generation > crashed.generation > first.generation
    assert resuming.agree_on_start(
        parts.settings_of(settings.experiment, tmp_path), group, run.store, client
    ).digest == (after.digest), (
        "what followed the roll-back is newer than what was rolled back, though it has fewer frames"
    )


def test_worlds_and_simulators_are_shared_out() -> None:
    assert [share(10, 3, part) for part in range(3)] == [4, 3, 3]
    addresses = ("a", "b", "c", "d", "e")
    assert [own_simulators(addresses, rank, 2) for rank in range(2)] == [("a", "c", "e"), ("b", "d")]


def test_addresses_are_read_and_found() -> None:
    assert split_address("host:7") == ("host", 7)
    assert split_address("[::1]:7") == ("::1", 7)
    assert own_address("127.0.0.9", "127.0.0.1", 7) == "127.0.0.9"
    assert own_address("0.0.0.0", "127.0.0.1", 7) == "127.0.0.1"
    with pytest.raises(ValueError, match="host:port"):
        split_address("host")


def options(directory: Path, *more: str) -> argparse.Namespace:
    path = directory / "experiment.json"
    path.write_text(parts.tiny_experiment().model_dump_json())
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(
        ["--experiment", str(path), "--stage", "teacher", "--nodes", "1:2", "--rendezvous-id", "x-1", *more]
    )


def environment(directory: Path, **changes: str) -> dict[str, str]:
    return {
        "ADA_TOKEN": "t",
        "ADA_CURRICULUM_ADDRESS": "a:1",
        "ADA_RENDEZVOUS_ADDRESS": "b:1",
        "ADA_SIMULATOR_ADDRESSES": "s-{ordinal}:1",
        "ADA_SIMULATOR_COUNT": "2",
        "ADA_STORE": directory.as_uri(),
        **changes,
    }


def test_settings_come_from_flags_and_environment_and_go_to_the_workers_unchanged(tmp_path: Path) -> None:
    given = options(tmp_path, "--host", "127.0.0.5")
    settings = read_settings(given, environment(tmp_path))
    assert settings.simulator_addresses == ("s-0:1", "s-1:1")
    assert (settings.min_nodes, settings.max_nodes, settings.host) == (1, 2, "127.0.0.5")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert read_settings(parser.parse_args(to_arguments(given)), environment(tmp_path)) == settings


@pytest.mark.parametrize(
    ("more", "changes", "reason"),
    [
        pytest.param((), {"ADA_TOKEN": ""}, "ADA_TOKEN", id="no-token"),
        pytest.param((), {"ADA_SIMULATOR_COUNT": "1"}, "simulators.replicas", id="fewer-simulators-than-workers"),
        pytest.param((), {"ADA_STORE": "ftp://x"}, "not understood", id="unknown-store"),
        pytest.param((), {"ADA_SIMULATOR_ADDRESSES": "s:1"}, "ordinal", id="no-ordinal"),
        pytest.param(("--resume-uri", "file:///x"), {}, "belong together", id="no-digest"),
        pytest.param(
            ("--teacher-uri", "file:///x", "--teacher-digest", "sha256:" + "0" * 64),
            {},
            "no distillation",
            id="teacher",
        ),
    ],
)
def test_what_can_not_work_is_said_before_anything_starts(
    tmp_path: Path, more: tuple[str, ...], changes: dict[str, str], reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        read_settings(options(tmp_path, *more), environment(tmp_path, **changes))


def test_bounds_and_counts_must_make_sense() -> None:
    assert node_bounds("1:4") == (1, 4)
    for text in ("0:1", "2:1", "3", "a:b"):
        with pytest.raises(argparse.ArgumentTypeError):
            node_bounds(text)
    with pytest.raises(ConfigurationError):
        simulator_addresses("s-{ordinal}:1", "0")


def test_a_node_serves_its_workers_numbers_and_is_ready_when_they_run(tmp_path: Path) -> None:
    page = NodePage(tmp_path, "default/tiny", "teacher", clock=lambda: 1000.0)
    assert answer(page, "/healthz")[0] == 503
    page.ready = lambda: True
    assert answer(page, "/healthz")[0] == 200
    assert answer(page, "/else")[0] == 404
    metrics = WorkerMetrics("default/tiny", "teacher", 3)
    metrics.counters = {"frames": 7}
    metrics.losses = {"policyLoss": 0.5, "valueLoss": float("nan"), "gradientNorm": 2.0, "distillationLoss": 0.0}
    metrics.spend({"collect": 1.0})
    metrics.spend({"collect": 0.5})
    metrics.training_since = 980.0
    metrics.checkpoint_time = 990.0
    metrics.write(tmp_path, 0)
    page.restarts["regrouped"] += 2
    text = answer(page, "/metrics")[1].decode()
    labels = 'experiment="default/tiny",rank="3",stage="teacher"'
    assert f"ada_trainer_frames_total{{{labels}}} 7.0" in text
    assert 'ada_trainer_loss{experiment="default/tiny",name="policyLoss",rank="3",stage="teacher"} 0.5' in text
    assert "valueLoss" not in text
    assert f"ada_trainer_checkpoint_age_seconds{{{labels}}} 10.0" in text
    assert f"ada_trainer_gradient_norm{{{labels}}} 2.0" in text
    assert "teacher_kl_nats{" not in text, "there is no teacher"
    spent = 'experiment="default/tiny",part="collect",rank="3",stage="teacher"'
    assert f"ada_trainer_iteration_seconds{{{spent}}} 0.5" in text
    assert f"ada_trainer_time_seconds_total{{{spent}}} 1.5" in text
    assert f"ada_trainer_uncommitted_seconds{{{labels}}} 10.0" in text
    restarts = 'ada_trainer_restarts_total{cause="%s",experiment="default/tiny",stage="teacher"} %.1f'
    assert restarts % ("regrouped", 2) in text
    assert restarts % ("failed", 0) in text
