"""What a stranger gets from a run's ports, and what somebody finds who reads everything it leaves: nothing."""

import base64
import contextlib
import http.client
import json
import re
import socket
import struct
from pathlib import Path

import pytest
from tests.security.listening import listening
from tests.security.secrets_in import files_with, finds, forms

from ada_curriculum.requests import MAX_BODY_BYTES
from ada_sim.client import SimulatorClient, SimulatorRefused

pytestmark = pytest.mark.timeout(900)  # a first start compiles the simulator

CURRICULUM, STORE, FRAMES = 7001, 7002, 7003
HEALTH = {7101, 7102, 7103, 7104}  # curriculum, rendezvous, simulator, trainer
ROUTES = re.compile(r'web\.(get|post)\("(/v1/[a-z]+)"')
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ports(run):
    """Where the run listens, once all programs are up."""
    run.wait_for(lambda: run.status().get("phase") == "Training", run.process)
    return listening(run.pids())


def address_of(ports, port):
    return next(address for address, number in ports if number == port)


def ask(address, port, path, method="GET", body=None, **headers):
    connection = http.client.HTTPConnection(address, port, timeout=10)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_nothing_listens_but_what_is_known_and_only_on_loopback(run, ports):
    numbers = {port for _, port in ports}
    assert {CURRICULUM, STORE, FRAMES} | HEALTH <= numbers
    assert all(address.startswith("127.") for address, _ in ports), ports
    served = {int(one["targets"][0].rpartition(":")[2]) for one in targets(run)}
    # What is left are the connections among a group's workers and with their agent: torch's own, on free ports.
    free = numbers - HEALTH - served - {CURRICULUM, STORE, FRAMES}
    assert all(port >= 32768 for port in free), free


def targets(run):
    return json.loads((run.directory / "prometheus-targets.json").read_text())


def test_every_request_of_the_curriculum_service_needs_the_token(run, ports):
    address = address_of(ports, CURRICULUM)
    source = (ROOT / "trainer" / "ada_curriculum" / "service.py").read_text()
    routes = ROUTES.findall(source)
    assert len(routes) >= 12
    wrong = [{}, {"Authorization": "Bearer wrong"}, {"Authorization": next(iter(run.tokens))}]
    wrong.append({"Authorization": f"Bearer {next(iter(run.tokens))[:-1]}"})
    for method, path in routes:
        for headers in wrong:
            status, body = ask(address, CURRICULUM, path, method.upper(), b"{}", **headers)
            assert status == 401, (method, path, headers)
            assert not finds(body, run.tokens)
    assert ask(address, CURRICULUM, "/v1/progress", Authorization=f"Bearer {next(iter(run.tokens))}")[0] == 200


def test_the_direct_line_needs_the_token_as_well(run, ports):
    with socket.create_connection((address_of(ports, CURRICULUM), CURRICULUM), timeout=10) as line:
        line.sendall(struct.pack("<4sBH", b"ADAL", 1, 5) + b"wrong")
        (status,) = struct.unpack("<H", line.recv(2))
        assert status == 401
        with contextlib.suppress(ConnectionError):
            while line.recv(4096):
                pass  # the reason; then it is closed


def test_a_simulator_refuses_strangers(ports):
    for token in ("", "wrong"):
        client = SimulatorClient(f"{address_of(ports, FRAMES)}:{FRAMES}", token, 10**6, patience_s=5.0)
        with pytest.raises(SimulatorRefused, match="token"):
            client.open(1)
        client.close()


def test_other_ports_serve_health_and_metrics_and_nothing_else(run, ports):
    for address, port in ports:
        if port not in HEALTH:
            continue
        for path in ("/", "/v1/progress", "/debug", "/../etc/passwd", "/metrics/../healthz", "/healthz/"):
            assert ask(address, port, path)[0] == 404, (port, path)
        for method in ("POST", "PUT", "DELETE"):
            assert ask(address, port, "/metrics", method, b"x")[0] in (404, 405, 501), (port, method)
        for path in ("/healthz", "/metrics"):
            status, body = ask(address, port, path)
            assert status in (200, 404, 503)
            assert not finds(body, [*run.tokens, run.access_key, run.secret_key])
    for one in targets(run):
        address, _, port = one["targets"][0].rpartition(":")
        assert not finds(ask(address, int(port), "/metrics")[1], [*run.tokens, run.access_key, run.secret_key])


def test_what_is_too_large_is_refused_before_it_is_read(run, ports):
    address = address_of(ports, CURRICULUM)
    bearer = {"Authorization": f"Bearer {next(iter(run.tokens))}"}
    too_large = b" " * (MAX_BODY_BYTES + 1)
    with contextlib.suppress(ConnectionError):  # it need not read on to refuse
        status, _ = ask(address, CURRICULUM, "/v1/report", "POST", too_large, **bearer)
        assert status == 413
    for port in {CURRICULUM, *HEALTH}:
        with contextlib.suppress(ConnectionError):
            status, _ = ask(address_of(ports, port), port, "/metrics", **{"X-Long": "x" * 100_000})
            assert status in (400, 431), port
    # A frame that says that four gigabytes follow: the server says no and hangs up.
    with socket.create_connection((address_of(ports, FRAMES), FRAMES), timeout=10) as connection:
        connection.sendall(struct.pack("<4sHBBIIQ", b"ADAS", 2, 1, 0, 2**32 - 1, 1, 1))
        assert len(connection.recv(1 << 16)) > 0
    assert ask(address, 7101, "/healthz")[0] == 200, "it lives on"


def test_nothing_that_a_run_leaves_holds_a_secret(run, ports):
    run.process.wait(600)
    assert run.process.returncode == 0, run.text()
    secrets = [*run.tokens, run.access_key, run.secret_key]
    assert len(run.tokens) == 1
    assert (run.directory / "report.html").exists()
    assert files_with(run.path, secrets) == []
    stored = run.objects()
    assert {"curriculum/teacher.json", "evaluations/teacher.json"} <= {name.partition("tiny/")[2] for name in stored}
    assert [name for name, data in stored.items() if finds(name.encode() + data, secrets)] == []


def test_no_command_line_held_a_secret(run, ports):
    words = {word for command in run.commands for word in command.split(b"\0")}
    assert {b"ada_curriculum", b"rendezvous", b"serve", b"launch"} <= words
    assert [word for word in words if finds(word, [*run.tokens, run.access_key, run.secret_key])] == []


def test_a_secret_that_is_there_is_found(tmp_path):
    secret = "s3cr3t/Value+with=marks"
    for number, form in enumerate(forms(secret)):
        (tmp_path / f"{number}.bin").write_bytes(b"\x00before" + form + b"after\xff")
    for shift in range(3):
        (tmp_path / f"base64-{shift}").write_bytes(base64.b64encode(b"x" * shift + secret.encode() + b"tail"))
    assert len(files_with(tmp_path, [secret])) == len(list(tmp_path.iterdir()))
    assert files_with(tmp_path, ["another secret"]) == []
