"""What the pods of an experiment need of a node."""

from typing import Any

from tests.cluster.images import PYTHON
from tests.cluster.nodes import NodeCluster
from tests.cluster.processes import wait_until

RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}


def a_pod(name: str, code: str) -> dict[str, Any]:
    """Return a pod that passes the restricted Pod Security Standard and runs some Python."""
    container = {"name": "main", "image": PYTHON, "command": ["python", "-c", code], "securityContext": RESTRICTED}
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"restartPolicy": "Never", "securityContext": security, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "node-pods"}, "spec": spec}


def test_a_restricted_pod_has_our_packages_torch_and_cluster_dns(cluster: NodeCluster) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.kubectl.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "node-pods", "labels": labels}}
    )
    code = (
        "import socket, torch, numba, ada_api.experiment, ada_trainer, ada_sim; "
        "print(int(torch.ones(3).sum()), socket.gethostbyname('kube-dns.kube-system.svc'))"
    )
    wait_until(
        "service account",
        lambda: cluster.kubectl.run("--namespace=node-pods", "get", "serviceaccount", "default").returncode == 0,
    )
    cluster.kubectl.apply(a_pod("probe", code))

    def phase() -> str | None:
        seen = cluster.kubectl("--namespace=node-pods", "get", "pod", "probe", "--output=jsonpath={.status.phase}")
        return seen if seen in ("Succeeded", "Failed") else None

    assert wait_until("end of the pod", phase, 90) == "Succeeded"
    assert cluster.kubectl("--namespace=node-pods", "logs", "probe").split() == ["3", "10.96.0.10"]
