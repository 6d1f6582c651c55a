"""The chart for real: install, `helm test`, a running experiment, upgrade, roll back, uninstall.

The experiment trains all the while: what happens to the operator's release must not be noticed in its pods.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.build import missing_programs
from tests.cluster.control_plane import has_default_account
from tests.cluster.helm import CHART, NAMESPACE, RELEASE, run_helm
from tests.cluster.images import MINIO, PYTHON
from tests.cluster.nodes import ROOT, NodeCluster
from tests.cluster.processes import wait_until

SPACE, EXPERIMENT = "chart", "endless"
CRD = "crd/adaexperiments.ada.dev"
PATIENCE_S = 600


def image(reference: str) -> dict[str, str]:
    repository, _, tag = reference.partition(":")
    return {"repository": repository, "tag": tag}


VALUES: dict[str, Any] = {
    "images": {
        **dict.fromkeys(("operator", "curriculum", "trainer", "simulator"), image(PYTHON)),
        "pullPolicy": "Never",
    },
    "operator": {"resyncSeconds": 5},
    "developmentStore": {"enabled": True, "image": image(MINIO), "command": ["/minio"], "namespaces": [SPACE]},
}


def endless_experiment() -> dict[str, Any]:
    """Return the quickstart's first stage with more frames than a test has time for, and no store of its own."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "quickstart.yaml").read_text(encoding="utf-8"))
    document["metadata"] = {"name": EXPERIMENT, "namespace": SPACE}
    stage = document["spec"]["stages"][0]
    stage |= {"frames": 10**9, "trainer": {"nodes": {"min": 1, "max": 1}}, "simulators": {"replicas": 1}}
    stage["algorithm"] |= {"worlds": 64, "unroll": 30, "minibatches": 4}
    document["spec"] |= {"stages": [stage], "checkpoint": {"intervalSeconds": 10}}
    return document


class Release:
    """The release in a cluster, and the experiment that it must leave alone."""

    def __init__(self, cluster: NodeCluster) -> None:
        self.kubectl = cluster.kubectl
        self.config = cluster.plane.kubeconfig

    def helm(self, *arguments: str | Path, values: dict[str, Any] | None = None) -> str:
        """Run Helm for the cluster; an error shows what is in the cluster."""
        done = run_helm(*arguments, f"--namespace={NAMESPACE}", values=values, config=self.config)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.seen()}"
        return done.stdout

    def seen(self) -> str:
        """Return what a person would look at first."""
        commands = [
            ("get", "adaexperiments,pods", "-A", "--output=wide"),
            ("describe", "adaexperiment", f"--namespace={SPACE}"),
            ("get", "events", "-A", "--sort-by=.lastTimestamp"),
            ("logs", "deployment/ada-ada-operator", f"--namespace={NAMESPACE}", "--tail=30"),
        ]
        return "\n".join(self.kubectl.run(*command).stdout[-6000:] for command in commands)

    def status(self) -> dict[str, Any]:
        found = self.kubectl.json("get", "adaexperiment", EXPERIMENT, f"--namespace={SPACE}")
        return dict(found.get("status", {}))

    def pods(self) -> dict[str, tuple[str, int, str]]:
        """Return uid, restarts and phase of each pod of the experiment."""
        found = self.kubectl.json("get", "pods", f"--namespace={SPACE}", f"--selector=ada.dev/experiment={EXPERIMENT}")
        return {
            pod["metadata"]["name"]: (
                pod["metadata"]["uid"],
                sum(container["restartCount"] for container in pod["status"].get("containerStatuses", [])),
                pod["status"]["phase"],
            )
            for pod in found["items"]
        }

    def wait_for_frames(self, more_than: int) -> dict[str, Any]:
        """Wait until the operator reports more frames, and return the status."""

        def reported() -> dict[str, Any] | None:
            status = self.status()
            return status if status.get("phase") == "Training" and status["frames"] > more_than else None

        return dict(wait_until(f"more than {more_than} frames", reported, PATIENCE_S, self.seen))


@pytest.fixture
def release(cluster: NodeCluster) -> Iterator[Release]:
    """Two namespaces in which only restricted pods may run; nothing of them is left."""
    if missing_programs("helm"):
        pytest.skip("helm not built: run `python tests/cluster/build.py helm`")
    kubectl = cluster.kubectl
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    for name in (NAMESPACE, SPACE):
        kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        wait_until("default service account", lambda name=name: has_default_account(kubectl, name))
    yield Release(cluster)
    run_helm("uninstall", RELEASE, f"--namespace={NAMESPACE}", "--wait", config=cluster.plane.kubeconfig)
    kubectl.run("delete", "adaexperiment", EXPERIMENT, f"--namespace={SPACE}", "--ignore-not-found")
    kubectl.run("delete", CRD, "--ignore-not-found")
    for name in (NAMESPACE, SPACE):
        kubectl.run("delete", "namespace", name, "--timeout=120s")


@pytest.mark.timeout(2400)
def test_a_running_experiment_notices_no_upgrade_no_roll_back_and_no_uninstall(
    release: Release, tmp_path: Path
) -> None:
    release.helm("package", CHART, "--version=0.0.9", f"--destination={tmp_path}")
    # A definition that another test has applied already becomes the release's.
    adopt = ["--take-ownership", "--force-conflicts"] if release.kubectl.run("get", CRD).returncode == 0 else []
    install = ["install", RELEASE, tmp_path / "ada-operator-0.0.9.tgz", *adopt, "--wait", "--timeout=300s"]
    notes = release.helm(*install, values=VALUES)
    assert f"helm test {RELEASE} --namespace {NAMESPACE}" in notes
    assert "Phase:          Succeeded" in release.helm("test", RELEASE, "--timeout=300s")

    release.kubectl.apply(endless_experiment())
    before = release.wait_for_frames(0)
    pods = release.pods()
    assert len(pods) == 4 and {phase for _, _, phase in pods.values()} == {"Running"}

    def is_untouched() -> None:
        status = release.wait_for_frames(release.status()["frames"])
        assert release.pods() == pods, release.seen()
        assert status["stages"][0]["generation"] == before["stages"][0]["generation"] == 1
        assert status.get("restarts", 0) == 0

    changed = {**VALUES, "operator": {"resyncSeconds": 4, "replicas": 1, "logLevel": "DEBUG"}}
    release.helm("upgrade", RELEASE, CHART, "--wait", "--timeout=300s", values=changed)
    chart = release.kubectl("get", CRD, "--output=jsonpath={.metadata.labels.helm\\.sh/chart}")
    assert chart == f"ada-operator-{yaml.safe_load((CHART / 'Chart.yaml').read_text())['version']}"
    is_untouched()

    release.helm("rollback", RELEASE, "1", "--wait", "--timeout=300s")
    is_untouched()
    assert "Phase:          Succeeded" in release.helm("test", RELEASE, "--timeout=300s")

    assert "[CustomResourceDefinition] adaexperiments.ada.dev" in release.helm("uninstall", RELEASE, "--wait")
    left = release.kubectl("get", "deployments,roles,secrets,services,configmaps", f"--namespace={NAMESPACE}", "-oname")
    assert left.split() == ["configmap/kube-root-ca.crt"]
    assert release.status()["phase"] == "Training"
    assert release.pods() == pods
    # The definition that stayed does not keep the chart from coming back.
    release.helm("install", RELEASE, CHART, "--dry-run=server", values=VALUES)
