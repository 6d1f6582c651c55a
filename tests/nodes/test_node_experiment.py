"""The quickstart, cut down, in real pods: operator, MinIO, simulators, elastic trainers, evaluation, to Succeeded."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from minio import Minio
from tests.cluster.build import program_path
from tests.cluster.images import PYTHON
from tests.cluster.nodes import ROOT, NodeCluster
from tests.cluster.processes import hold_port, start, stop, wait_until

from ada_operator.cluster import LEASE_PERMISSIONS, PERMISSIONS, SUBRESOURCE_PERMISSIONS

NAMESPACE = "experiment"
ACCESS_KEY, SECRET_KEY = "node-test-key", "node-test-secret"
DEADLINE_S = 900
RBAC = "rbac.authorization.k8s.io"
RESTRICTED_POD = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}


@pytest.fixture
def store(cluster: NodeCluster, tmp_path: Path) -> Iterator[str]:
    """A MinIO that pods can reach, with a bucket; its URL."""
    held, port = hold_port(cluster.network.host)
    held.close()
    address = f"{cluster.network.host}:{port}"
    environment = {**os.environ, "MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY}
    command = [program_path("minio"), "server", str(tmp_path / "objects"), "--address", address]
    process = start(command, tmp_path / "minio.log", environment)
    client = Minio(address, ACCESS_KEY, SECRET_KEY, secure=False)

    def bucket_is_there() -> bool:
        try:
            client.make_bucket("ada")
        except Exception:
            return False
        return True

    try:
        wait_until("bucket", bucket_is_there, 60)
        yield f"http://{address}"
    finally:
        stop(process)


def in_namespace(kind: str, name: str, version: str = "v1", **fields: Any) -> dict[str, Any]:
    """Return an object of the test's namespace."""
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, **fields}


def operator_manifests() -> list[dict[str, Any]]:
    """Return the operator as a Deployment with exactly the rights that it says it needs."""
    rules: list[dict[str, Any]] = [
        {"apiGroups": [resource.group], "resources": [resource.plural], "verbs": list(verbs)}
        for resource, verbs in PERMISSIONS.items()
    ]
    rules += [
        {"apiGroups": [resource.group], "resources": [f"{resource.plural}/{part}"], "verbs": list(verbs)}
        for (resource, part), verbs in SUBRESOURCE_PERMISSIONS.items()
    ]
    rules.append({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": list(LEASE_PERMISSIONS)})
    platform = {
        **dict.fromkeys(("curriculumImage", "trainerImage", "simulatorImage"), PYTHON),
        "imagePullPolicy": "Never",
    }
    account = {"kind": "ServiceAccount", "name": "ada-operator", "namespace": NAMESPACE}
    labels = {"app": "ada-operator"}
    container = {
        "name": "operator",
        "image": PYTHON,
        "imagePullPolicy": "Never",
        "command": ["python", "-m", "ada_operator.program", "--namespace", NAMESPACE, "--resync-seconds", "5"],
        "args": ["--platform", "/etc/ada/platform.json"],
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "platform", "mountPath": "/etc/ada"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "serviceAccountName": "ada-operator",
        "securityContext": RESTRICTED_POD,
        "containers": [container],
        "volumes": [
            {"name": "platform", "configMap": {"name": "ada-platform"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    reference = {"apiGroup": RBAC, "kind": "Role", "name": "ada-operator"}
    return [
        in_namespace("ServiceAccount", "ada-operator"),
        in_namespace("Role", "ada-operator", f"{RBAC}/v1", rules=rules),
        in_namespace("RoleBinding", "ada-operator", f"{RBAC}/v1", subjects=[account], roleRef=reference),
        in_namespace("ConfigMap", "ada-platform", data={"platform.json": json.dumps(platform)}),
        in_namespace("Deployment", "ada-operator", "apps/v1", spec=spec),
    ]


def cut_down_quickstart(store: str) -> dict[str, Any]:
    """Return the quickstart with a few thousand frames and a MinIO for its store."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "quickstart.yaml").read_text(encoding="utf-8"))
    document["metadata"]["namespace"] = NAMESPACE
    spec = document["spec"]
    for stage in spec["stages"]:
        stage["frames"] = 12_000
        stage["algorithm"] |= {"worlds": 64, "unroll": 30, "minibatches": 4}
    spec["evaluation"] = {"tasks": 16, "trials": [1, 2]}
    spec["checkpoint"] = {
        "intervalSeconds": 10,
        "store": {"endpoint": store, "bucket": "ada", "secretName": "ada-store"},
    }
    return document


@pytest.mark.timeout(DEADLINE_S + 120)
def test_the_quickstart_succeeds_in_real_pods(cluster: NodeCluster, store: str) -> None:
    kubectl = cluster.kubectl
    metadata = {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    kubectl("apply", "--server-side", f"--filename={ROOT / 'crds'}")
    kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd/adaexperiments.ada.dev")
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    kubectl.apply(*operator_manifests())
    kubectl.apply(in_namespace("Secret", "ada-store", stringData={"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}))
    kubectl.apply(cut_down_quickstart(store))
    phases: list[str] = []

    def finished() -> dict[str, Any] | None:
        found = kubectl.json("get", f"--namespace={NAMESPACE}", "adaexperiment", "quickstart").get("status", {})
        if found.get("phase") and (not phases or phases[-1] != found["phase"]):
            phases.append(found["phase"])
        return found if found.get("phase") in ("Succeeded", "Failed") else None

    def state() -> str:
        commands = (("get", "adaexperiments,pods"), ("describe", "adaexperiment"), ("get", "events"))
        seen = [kubectl.run(*command, f"--namespace={NAMESPACE}").stdout for command in commands]
        logs = kubectl.run("logs", f"--namespace={NAMESPACE}", "deployment/ada-operator", "--tail=30").stdout
        return "\n".join([*seen, logs])

    status = wait_until("finished experiment", finished, DEADLINE_S, state)
    assert status["phase"] == "Succeeded", state()
    teacher, student = status["stages"]
    assert student["teacher"]["digest"] == teacher["checkpoint"]["digest"]
    assert [score["trials"] for score in student["evaluation"]] == [1, 2]
    assert [phase for phase in phases if phase in ("Training", "Evaluating")][:2] == ["Training", "Evaluating"]

    def pods_are_gone() -> bool:
        of_experiment = "--selector=ada.dev/experiment=quickstart"
        pods = kubectl.json("get", f"--namespace={NAMESPACE}", "pods", of_experiment)["items"]
        return not [pod for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]

    wait_until("end of all pods", pods_are_gone, 120, state)
