"""The curriculum service as a process, over HTTP, killed and started again."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ada_api.progress import StageProgress, TrialScore
from ada_curriculum.client import CurriculumClient, CurriculumRefused, GenerationOver
from ada_curriculum.manifest import CURRICULUM, Manifest, StoredCheckpoint, checkpoint_prefix, write_checkpoint
from ada_curriculum.store import ObjectStore, open_store
from ada_curriculum.types import Lease, Result

TOKEN = "a-token-of-the-test"
START_LIMIT_S = 240.0
SHARED_STAGES = [f"shared-{number}" for number in range(20)]  # one for each test that needs no service of its own


@dataclass
class Service:
    """A service process that can be killed and started again."""

    folder: Path
    store: ObjectStore
    process: subprocess.Popen[bytes]
    port: int
    health_port: int
    root: str  # ADA_STORE
    free_stages: list[str] = field(default_factory=lambda: list(SHARED_STAGES))

    @classmethod
    def start(cls, folder: Path, method: str = "plr", root: str | None = None) -> "Service":
        experiment = {
            "apiVersion": "ada.dev/v1alpha1",
            "kind": "AdaExperiment",
            "metadata": {"name": "x", "namespace": "n"},
            "spec": {
                "seed": 3,
                "curriculum": {"method": method, "plr": {"archiveSize": 40, "minArchiveSize": 20}},
                "stages": [{"name": name, "frames": 1000} for name in ("teacher", *SHARED_STAGES)],
            },
        }
        (folder / "experiment.json").write_text(json.dumps(experiment))
        root = root or f"file://{folder}/store"
        process, port, health_port = spawn(folder, root)
        return cls(folder, open_store(root).child("n/x"), process, port, health_port, root)

    def client(self, patience_s: float = 30.0) -> CurriculumClient:
        return CurriculumClient(f"127.0.0.1:{self.port}", TOKEN, patience_s)

    def kill_and_start_again(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process, self.port, self.health_port = spawn(self.folder, self.root)

    def checkpoint(self, frames: int, generation: int = 1, stage: str = "teacher") -> StoredCheckpoint:
        """Commit what a trainer would."""
        with self.client() as client:
            manifest = Manifest(
                experiment="n/x",
                stage=stage,
                frames=frames,
                updates=frames // 10,
                attempt=generation,
                generation=generation,
                time=1000.0 + frames,
                config_digest="sha256:" + "0" * 64,
            )
            objects: dict[str, bytes | Path] = {CURRICULUM: client.snapshot(stage), "shard": b"parameters"}
            prefix = checkpoint_prefix(stage, frames, generation)
            checkpoint = write_checkpoint(self.store, prefix, objects, manifest)
            client.commit(stage, generation, checkpoint.uri, checkpoint.digest, frames)
        return checkpoint


def spawn(folder: Path, root: str) -> tuple[subprocess.Popen[bytes], int, int]:
    """Start the service on ports of the kernel's choice, which it logs."""
    environment = {**os.environ, "ADA_TOKEN": TOKEN, "ADA_STORE": root, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ada_curriculum", "--experiment", str(folder / "experiment.json")]
    command += ["--host", "127.0.0.1", "--port", "0", "--health-port", "0"]
    log = folder / f"log-{time.monotonic_ns()}"
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stderr=file)
    deadline = time.monotonic() + START_LIMIT_S
    while not (found := re.search(r"listening on .*:(\d+), .* port (\d+)", log.read_text())):
        assert process.poll() is None and time.monotonic() < deadline, f"service did not start: {log.read_text()}"
        time.sleep(0.02)
    return process, int(found[1]), int(found[2])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def begin(**arguments: Any) -> Service:
        started.append(Service.start(tmp_path, **arguments))
        return started[-1]

    yield begin
    for service in started:
        service.process.kill()
        service.process.wait()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for the tests that neither kill it nor need it untouched."""
    service = Service.start(tmp_path_factory.mktemp("shared"))
    yield service
    service.process.kill()
    service.process.wait()


@pytest.fixture
def stage(shared: Service) -> str:
    """A stage of the shared service that no other test uses."""
    return shared.free_stages.pop()


def progress_of(client: CurriculumClient, stage: str) -> StageProgress:
    return next(one for one in client.progress().stages if one.stage == stage)


def results_of(leases: list[Lease]) -> list[Result]:
    return [Result(one.id, (0.25,) * one.trials, one.task % 997 / 997, 75 * one.trials) for one in leases]


def play(
    client: CurriculumClient, rounds: int = 1, generation: int = 1, count: int = 16, stage: str = "teacher"
) -> list[Lease]:
    leases = []
    for _ in range(rounds):
        batch = client.lease(stage, generation, "0", count)
        client.report(stage, generation, "0", results_of(batch))
        leases += batch
    return leases


def without_ids(leases: list[Lease]) -> list[tuple[object, ...]]:
    return [(one.task, one.trials, one.seed, one.learn, one.policy) for one in leases]


def test_a_stage_from_registration_to_evaluation(shared: Service, stage: str) -> None:
    with shared.client() as client:
        assert stage not in [one.stage for one in client.progress().stages]
        client.register(stage, 1, workers=2)
        play(client, rounds=40, stage=stage)
        answer = client.advance(stage, 1, 500, 5, 1, {"loss": 0.5, "kl": float("nan")})
        assert (answer.commit, answer.stop) == (False, False)
        now = progress_of(client, stage)
        assert (now.stage, now.phase, now.workers, now.frames, now.updates) == (*(stage, "training", 2, 500, 5),)
        assert now.skipped_updates == 1 and now.score == 0.25 and now.score_by_trial[0] == 0.25
        checkpoint = shared.checkpoint(500, stage=stage)
        client.finish(stage, 1, "trained")
        score = TrialScore(trials=1, median=0.1, mean=0.2, percentile20=0.0)
        client.evaluation(stage, [score], best_score=0.1)
        now = progress_of(client, stage)
        assert now.phase == "trained" and now.evaluation == [score]
        assert now.checkpoint is not None and now.checkpoint.digest == checkpoint.digest


def test_the_history_holds_losses_scores_measures_and_the_archive(shared: Service, stage: str) -> None:
    with shared.client() as client:
        client.register(stage, 1, 1)
        for update in range(1, 30):
            play(client, rounds=2, stage=stage)
            client.advance(stage, 1, 100 * update, update, 0, {"loss": 1 / update})
        points = client.history(stage)
    assert [point["frames"] for point in points] == [100 * update for update in range(1, 30)]
    last = points[-1]
    assert last["loss"] == 1 / 29 and last["score"] == 0.25
    assert last["archiveSize"] == 40 and last["fitnessQ0"] <= last["fitnessQ100"]
    assert {"time", "framesPerSecond", "scoreByTrial"} <= set(last)
    shares = [point["replayShare"] for point in points]
    assert 0 <= min(shares) < max(shares) <= 1


def test_the_history_comes_to_hold_the_twelve_measures_of_the_tasks_trained_on(start: Callable[..., Service]) -> None:
    with start(method="uniform").client() as client:
        client.register("teacher", 1, 1)
        play(client)
        deadline, update = time.monotonic() + 300, 0  # the first measure may compile the task generator
        while "num_rules" not in client.history("teacher")[-1:][0] if update else True:
            assert time.monotonic() < deadline, client.history("teacher")
            update += 1
            client.advance("teacher", 1, update, update)
            time.sleep(0.1)
        point = client.history("teacher")[-1]
        assert 1 <= point["num_rules"] <= 16 and 1 <= point["num_trials"] <= 6
        assert len([name for name in point if "_" in name]) == 12


@pytest.mark.parametrize("method", ["plr", "noop-filter", "uniform"])
def test_a_killed_service_loses_nothing_that_a_commit_covered(start: Callable[..., Service], method: str) -> None:
    service = start(method=method)
    with service.client() as client:
        client.register("teacher", 4, 1)
        play(client, rounds=20, generation=4)
        client.advance("teacher", 4, 800, 8)
        lent = client.lease("teacher", 4, "0", 5)
        checkpoint = service.checkpoint(800, generation=4)
        client.report("teacher", 4, "0", results_of(lent))
        expected = play(client, rounds=5, generation=4)
        before = client.progress().stages[0]
    service.kill_and_start_again()
    with service.client() as client:
        after = client.progress().stages[0]
        assert after.checkpoint is not None and after.checkpoint.digest == checkpoint.digest
        assert (after.frames, after.updates, after.generation) == (800, 8, 4)
        assert after.phase == "training" and client.history("teacher")[-1]["frames"] == 800
        client.report("teacher", 4, "0", results_of(lent))  # still owed when the snapshot was taken
        assert without_ids(play(client, rounds=5, generation=4)) == without_ids(expected)
        assert client.progress().stages[0].score_by_trial == before.score_by_trial


def test_a_killed_service_restores_itself_from_minio_too(
    start: Callable[..., Service], minio_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADA_STORE_ACCESS_KEY", "test-access-key")
    monkeypatch.setenv("ADA_STORE_SECRET_KEY", "test-secret-key")
    service = start(root=f"s3://ada/{tmp_path.name}-{os.getpid()}?endpoint={minio_endpoint}")
    with service.client() as client:
        client.register("teacher", 1, 1)
        play(client, rounds=3)
        client.advance("teacher", 1, 300, 3)
        checkpoint = service.checkpoint(300)
        expected = play(client, rounds=3)
        client.register("teacher", 2, 1)
    service.kill_and_start_again()
    with service.client() as client:
        after = client.progress().stages[0]
        assert after.checkpoint is not None and after.checkpoint.uri == checkpoint.uri
        assert (after.frames, after.generation) == (300, 2)
        client.restore("teacher", 2, checkpoint.uri, checkpoint.digest)
        assert without_ids(play(client, rounds=3, generation=2)) == without_ids(expected)


def test_outcome_evaluation_and_generation_outlive_a_kill_without_a_checkpoint(start: Callable[..., Service]) -> None:
    service = start()
    with service.client() as client:
        client.register("teacher", 7, 1)
        client.finish("teacher", 7, "failed", "loss was not finite")
        client.evaluation("teacher", [TrialScore(trials=5, median=0.5, mean=0.5, percentile20=0.1)])
        before = client.progress().stages[0]
    service.kill_and_start_again()
    with service.client() as client:
        after = client.progress().stages[0]
        assert (after.phase, after.message, after.generation) == ("failed", "loss was not finite", 7)
        assert after.evaluation == before.evaluation
        with pytest.raises(GenerationOver):
            client.register("teacher", 6, 1)


def test_a_damaged_newest_checkpoint_is_passed_over_at_the_start(start: Callable[..., Service]) -> None:
    service = start()
    with service.client() as client:
        client.register("teacher", 1, 1)
        for frames in (100, 200):
            play(client)
            client.advance("teacher", 1, frames, frames)
            newest = service.checkpoint(frames)
    path = service.folder / "store" / "n" / "x" / newest.prefix / CURRICULUM
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    service.kill_and_start_again()
    with service.client() as client:
        assert client.progress().stages[0].frames == 100


def test_restoring_brings_back_a_checkpoint_and_the_leases_that_follow_it(shared: Service, stage: str) -> None:
    with shared.client() as client:
        client.register(stage, 1, 1)
        play(client, rounds=10, stage=stage)
        client.advance(stage, 1, 100, 1)
        checkpoint = shared.checkpoint(100, stage=stage)
        expected = play(client, rounds=5, stage=stage)
        client.advance(stage, 1, 200, 2)
        client.register(stage, 2, 3)
        client.restore(stage, 2, checkpoint.uri, checkpoint.digest)
        now = progress_of(client, stage)
        assert (now.frames, now.generation, now.workers) == (100, 2, 3)
        assert [point["frames"] for point in client.history(stage)] == [100]
        assert without_ids(play(client, rounds=5, generation=2, stage=stage)) == without_ids(expected)


def test_the_episodes_of_a_group_that_is_gone_are_played_again_for_the_filter(start: Callable[..., Service]) -> None:
    service = start(method="noop-filter")
    with service.client() as client:
        client.register("teacher", 1, 2)
        lost = client.lease("teacher", 1, "0", 20)
        client.register("teacher", 2, 1)
        client.register("teacher", 2, 1)  # a second worker's, or a repeated request
        again = client.lease("teacher", 2, "0", 20)
        assert {(one.task, one.policy) for one in again} == {(one.task, one.policy) for one in lost}
        client.report("teacher", 2, "0", results_of(again))
        assert metric(service, 'ada_curriculum_results_total{fate="expired",stage="teacher"}') == 20
        assert metric(service, 'ada_curriculum_figure{name="candidates",stage="teacher"}') == 0
        lost = client.lease("teacher", 2, "0", 20)
        checkpoint = service.checkpoint(0, generation=2)
        client.restore("teacher", 2, checkpoint.uri, checkpoint.digest)
        again = client.lease("teacher", 2, "0", 20)
        assert {(one.task, one.policy) for one in again} == {(one.task, one.policy) for one in lost}


def test_restoring_what_is_not_ours_is_refused(shared: Service, stage: str, tmp_path: Path) -> None:
    with shared.client() as client:
        client.register(stage, 1, 1)
        checkpoint = shared.checkpoint(100, stage=stage)
        wrong = "sha256:" + "0" * 64
        for uri, digest, message in (
            (f"file://{tmp_path}/elsewhere", checkpoint.digest, "not in the store"),
            ("s3://bucket/x?endpoint=http://127.0.0.1:1", checkpoint.digest, "not in the store"),
            (checkpoint.uri, wrong, "not the pinned"),
        ):
            for request in (client.restore, lambda *one: client.commit(*one, 100)):
                with pytest.raises(CurriculumRefused, match=message):
                    request(stage, 1, uri, digest)


def test_an_older_generation_is_refused_everywhere(shared: Service, stage: str) -> None:
    with shared.client() as client:
        client.register(stage, 1, 1)
        lent = client.lease(stage, 1, "0", 2)
        checkpoint = shared.checkpoint(0, stage=stage)
        client.register(stage, 2, 1)
        for request in (
            lambda: client.register(stage, 1, 1),
            lambda: client.lease(stage, 1, "0", 1),
            lambda: client.report(stage, 1, "0", results_of(lent)),
            lambda: client.advance(stage, 1, 1, 1),
            lambda: client.commit(stage, 1, checkpoint.uri, checkpoint.digest, 0),
            lambda: client.restore(stage, 1, checkpoint.uri, checkpoint.digest),
            lambda: client.finish(stage, 1, "trained"),
        ):
            with pytest.raises(GenerationOver, match="newest is 2"):
                request()
        assert progress_of(client, stage).phase == "training"


def metric(service: Service, name: str) -> float:
    """Return a metric of the experiment; its name is left out of the labels."""
    page = raw(service, "GET", "/metrics", token=None, port=service.health_port)[1].replace('experiment="n/x",', "")
    found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    assert found, name
    return float(found[1])


def test_a_report_that_comes_twice_counts_once(shared: Service, stage: str) -> None:
    with shared.client() as client:
        client.register(stage, 1, 1)
        results = results_of(client.lease(stage, 1, "0", 10))
        client.report(stage, 1, "0", results)
        client.report(stage, 1, "0", results)
        assert metric(shared, f'ada_curriculum_results_total{{fate="applied",stage="{stage}"}}') == 10
        assert metric(shared, f'ada_curriculum_results_total{{fate="ignored",stage="{stage}"}}') == 10
        assert metric(shared, f'ada_curriculum_archive_tasks{{stage="{stage}"}}') == 10


def test_a_suspended_stage_is_told_to_commit_and_stop_until_a_group_begins_again(shared: Service, stage: str) -> None:
    with shared.client() as client:
        client.register(stage, 1, 1)
        client.suspend(stage)
        answer = client.advance(stage, 1, 10, 1)
        assert answer.commit and answer.stop
        assert progress_of(client, stage).phase == "committing"
        shared.checkpoint(10, stage=stage)
        assert progress_of(client, stage).phase == "waiting"
        client.register(stage, 2, 1)
        assert not client.advance(stage, 2, 20, 2).stop


def raw(
    service: Service, method: str, path: str, body: bytes = b"", token: str | None = TOKEN, port: int | None = None
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port or service.port, timeout=30)
    try:
        connection.request(method, path, body, {} if token is None else {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_health_and_metrics_have_a_port_of_their_own_and_need_no_token(
    start: Callable[..., Service],
) -> None:
    service = start()
    for token in (None, "", "another-token", TOKEN + "x", "\u00e9"):
        for method, path in (("GET", "/v1/progress"), ("POST", "/v1/register"), ("GET", "/v1/nothing")):
            status, text = raw(service, method, path, token=token)
            assert status == 401 and TOKEN not in text
            assert raw(service, method, path, token=token, port=service.health_port)[0] == 404
    for path in ("/healthz", "/metrics"):
        assert raw(service, "GET", path, token=None, port=service.health_port)[0] == 200
        assert raw(service, "GET", path, token=None)[0] == 401
        assert raw(service, "GET", path)[0] == 404


LEASE = {"stage": "teacher", "generation": 1, "worker": "0", "count": 1}
REPORT = {"stage": "teacher", "generation": 1, "worker": "0", "results": []}
RESULT = {"lease": "1-1", "returns": [0.5], "fitness": 0.1, "timesteps": 10}
ADVANCE = {"stage": "teacher", "generation": 1, "frames": 1, "updates": 1, "metrics": {}}


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        pytest.param("lease", b"{", 400, "Invalid JSON", id="half-a-body"),
        pytest.param("lease", b"[]", 400, "body", id="not-an-object"),
        pytest.param("lease", LEASE | {"count": 5000}, 400, "count.*4096", id="too-many-leases"),
        pytest.param("lease", LEASE | {"count": 0}, 400, "count", id="no-lease"),
        pytest.param("lease", LEASE | {"extra": 1}, 400, "extra", id="unknown-field"),
        pytest.param("lease", LEASE | {"stage": "other"}, 404, "teacher, shared-0", id="unknown-stage"),
        pytest.param("lease", LEASE | {"stage": "../x"}, 400, "stage", id="stage-is-a-path"),
        pytest.param("report", REPORT | {"results": [RESULT] * 4097}, 400, "4096", id="too-many-results"),
        pytest.param("report", REPORT | {"results": [RESULT | {"returns": []}]}, 400, "returns", id="no-returns"),
        pytest.param("report", REPORT | {"results": [RESULT | {"returns": [2.0]}]}, 400, "returns", id="above-one"),
        pytest.param("report", json.dumps(REPORT | {"results": [RESULT | {"fitness": float("nan")}]}).encode(), 400,
                     "fitness", id="fitness-not-a-number"),
        pytest.param("advance", ADVANCE | {"frames": -1}, 400, "frames", id="negative-frames"),
        pytest.param("advance", ADVANCE | {"metrics": {str(i): 0.0 for i in range(300)}}, 400, "256", id="metrics"),
        pytest.param("register", b" " * (5 << 20), 413, "", id="a-body-too-large"),
        pytest.param("nothing", {}, 404, "", id="no-such-request"),
    ],
)  # fmt: skip
def test_a_malformed_request_is_refused_with_a_message(
    shared: Service, path: str, body: dict[str, Any] | bytes, status: int, message: str
) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answered, text = raw(shared, "POST", f"/v1/{path}", data)
    assert answered == status and re.search(message, json.loads(text)["error"])


def test_a_result_of_the_wrong_length_applies_nothing_of_its_report(shared: Service, stage: str) -> None:
    with shared.client() as client:
        client.register(stage, 1, 1)
        good, bad = results_of(client.lease(stage, 1, "0", 2))
        broken = Result(bad.lease, (*bad.returns, 0.1), bad.fitness, bad.timesteps)
        with pytest.raises(CurriculumRefused, match="returns"):
            client.report(stage, 1, "0", [good, broken])
        assert metric(shared, f'ada_curriculum_results_total{{fate="applied",stage="{stage}"}}') == 0


def test_sigterm_ends_the_service_with_the_code_for_told_to_stop(start: Callable[..., Service]) -> None:
    service = start()
    with service.client() as client:
        client.progress()  # a kept connection must not hold it up
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=30) == 75


def test_the_client_waits_for_a_service_that_comes_back(start: Callable[..., Service]) -> None:
    service = start()
    pauses = []

    def bring_back(pause: float) -> None:
        pauses.append(pause)
        service.process, service.port, service.health_port = spawn(service.folder, service.root)
        client.address = f"127.0.0.1:{service.port}"

    client = CurriculumClient(f"127.0.0.1:{service.port}", TOKEN, sleep=bring_back)
    client.register("teacher", 1, 1)
    service.process.kill()
    service.process.wait()
    with client:
        assert client.progress().stages[0].stage == "teacher"
    assert len(pauses) == 1
