"""The pieces of the runner that need no process: addresses, environment, threads, logs, controllers."""

import random
import socket
from contextlib import closing

import pytest

from ada_api.experiment import AdaExperiment
from ada_operator.local import processes, workloads
from ada_operator.local.containers import ContainerConfigError, program
from ada_operator.local.network import Network, NoAddressError
from ada_operator.local.threads import thread_variables
from ada_operator.local.workloads import BackOff

NOW = 1_800_000_000.0


@pytest.fixture
def network():
    found = Network(random.Random(1))
    yield found
    found.close()


def test_names_of_pods_become_loopback_addresses_everywhere(network):
    pattern = network.resolved("q-simulator-{ordinal}.q-simulator.lab.svc:7003")
    assert pattern.format(ordinal=4) == network.resolved("q-simulator-4.q-simulator.lab.svc:7003")
    assert network.address("q-simulator", 4) + ":7003" == pattern.format(ordinal=4)
    assert network.address("q-trainer", 4) != network.address("q-simulator", 4)
    assert network.resolved("https://minio.example.svc:9000") == "https://minio.example.svc:9000"


def test_two_runs_never_share_addresses(network):
    others = [Network(random.Random(1)) for _ in range(5)]
    addresses = {one.address("q", 0) for one in [network, *others]}
    for one in others:
        one.close()
    assert len(addresses) == 6


def test_an_address_block_whose_port_is_taken_is_passed_over():
    with closing(Network(random.Random(7))) as first:
        taken = first.address("q", 0).split(".")[1]
    with socket.socket() as other:
        other.bind((f"127.{taken}.255.254", 7003))
        with closing(Network(random.Random(7))) as second:
            assert second.address("q", 0).split(".")[1] != taken


def test_more_pods_than_addresses_is_said(network):
    with pytest.raises(NoAddressError, match="at most 256"):
        network.address("q", 256)


def pod(**container):
    defaults = {
        "name": "c",
        "command": ["python", "--experiment", "/etc/ada/experiment.json"],
        "env": [{"name": "HOME", "value": "/tmp"}, {"name": "PLACE", "value": "a-0.a.lab.svc:1"}],
        "volumeMounts": [{"name": "e", "mountPath": "/etc/ada"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    volumes = [{"name": "e", "configMap": {"name": "cm"}}, {"name": "tmp", "emptyDir": {}}]
    return {"spec": {"volumes": volumes, "containers": [{**defaults, **container}]}}


CONFIG = {"cm": {"data": {"experiment.json": "{}"}}}


def test_files_of_config_maps_and_names_are_resolved_and_the_users_home_stays(network, tmp_path):
    found = program(pod(), "127.9.9.9", tmp_path, network, CONFIG, {}, {"HOME": "/home/a"})
    assert found.command[-1] == str(tmp_path / "cm" / "experiment.json")
    assert found.files == {tmp_path / "cm" / "experiment.json": "{}"}
    assert found.environment["HOME"] == "/home/a"
    assert found.environment["PLACE"] == f"{network.address('a', 0)}:1"
    assert found.environment["ADA_HOST"] == "127.9.9.9"


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ({"secretKeyRef": {"name": "s", "key": "k"}}, 'no key "k" in secret "s"'),
        ({"configMapKeyRef": {"name": "cm", "key": "k"}}, 'no key "k" in configmap "cm"'),
        ({"fieldRef": {"fieldPath": "status.podIP"}}, "which one machine does not have"),
    ],
)
def test_what_cannot_be_resolved_is_named(network, tmp_path, variable, said):
    with pytest.raises(ContainerConfigError, match=said):
        program(pod(env=[{"name": "X", "valueFrom": variable}]), "h", tmp_path, network, CONFIG, {}, {})


def test_threads_are_shared_out():
    stages = [
        {"name": "a", "frames": 1, "trainer": {"nodes": {"max": 2}}, "simulators": {"replicas": 4}},
    ]
    document = {"apiVersion": "ada.dev/v1alpha1", "kind": "AdaExperiment", "metadata": {"name": "x"}}
    experiment = AdaExperiment.model_validate({**document, "spec": {"stages": stages}})
    found = thread_variables(experiment, 8)
    assert found["trainer"]["OMP_NUM_THREADS"] == "4"
    assert found["simulator"]["NUMBA_NUM_THREADS"] == "2"
    assert thread_variables(experiment, 1)["simulator"]["NUMBA_NUM_THREADS"] == "1"


def test_a_log_stays_bounded_and_keeps_its_newest_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "LOG_LIMIT", 1000)
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(500)))
    processes.bound(log)
    assert log.stat().st_size <= 600
    assert log.read_text().endswith("line 499\n")


def test_the_last_words_are_those_since_the_start(tmp_path):
    log = tmp_path / "log"
    log.write_text("before\nafter\n")
    assert processes.tail(log, len("before\n")) == "after"
    assert processes.tail(tmp_path / "none", 0) == ""


def test_the_pause_doubles_and_stays_bounded():
    pause = BackOff(1.0, 10.0)
    assert [pause.pause_s(failures) for failures in range(7)] == [0, 1, 2, 4, 8, 10, 10]
    assert pause.pause_s(10_000) == 10


def job(completions, **spec):
    template = {"metadata": {"labels": {}}, "spec": {"containers": [{"name": "c"}]}}
    spec = {"completions": completions, "parallelism": completions, "template": template, **spec}
    return {"kind": "Job", "metadata": {"name": "j", "namespace": "n", "uid": "j-1"}, "spec": spec}


def end(one, code):
    state = {"terminated": {"exitCode": code}}
    one["status"] = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [{"state": state}]}


def test_a_job_starts_missing_indexes_and_is_complete_when_all_succeeded():
    pods = list(workloads.job(job(2), [], NOW, BackOff(0, 0)).start)
    assert [one["spec"]["hostname"] for one in pods] == ["j-0", "j-1"]
    end(pods[0], 0)
    assert not workloads.job(job(2), pods, NOW, BackOff(0, 0)).status["conditions"]
    end(pods[1], 0)
    assert workloads.job(job(2), pods, NOW, BackOff(0, 0)).status["conditions"][0]["type"] == "Complete"


def test_a_success_policy_ends_a_job_early_and_stops_the_rest():
    wanted = job(2, successPolicy={"rules": [{"succeededCount": 1}]})
    pods = list(workloads.job(wanted, [], NOW, BackOff(0, 0)).start)
    end(pods[0], 0)
    decided = workloads.job(wanted, pods, NOW, BackOff(0, 0))
    assert decided.status["conditions"][0]["type"] == "Complete"
    assert decided.stop == (pods[1]["metadata"]["name"],)


def test_a_failed_pod_is_replaced_under_a_new_name_after_a_pause():
    pods = list(workloads.job(job(1), [], NOW, BackOff(5, 5)).start)
    end(pods[0], 1)
    pods[0]["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = "2027-01-15T08:00:00Z"
    assert not workloads.job(job(1), pods, NOW + 4, BackOff(5, 5)).start
    (replacement,) = workloads.job(job(1), pods, NOW + 6, BackOff(5, 5)).start
    assert replacement["metadata"]["name"] != pods[0]["metadata"]["name"]
    assert replacement["spec"]["hostname"] == pods[0]["spec"]["hostname"]


def test_a_job_that_shrinks_stops_its_highest_indexes():
    pods = list(workloads.job(job(3), [], NOW, BackOff(0, 0)).start)
    decided = workloads.job(job(2), pods, NOW, BackOff(0, 0))
    assert decided.stop == (pods[2]["metadata"]["name"],)
