"""The chart for real: install, `helm test`, a running experiment, upgrade, roll back, uninstall.

The operator runs from its own image, as it is built for everybody (with ADA_TEST_LONG=1 curriculum and simulator too).
The experiment trains all the while: what happens to the operator's release must not be noticed in its pods. A
Prometheus scrapes the pods as one in the cluster would, while NetworkPolicies are enforced.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.alerts.dashboards import never_shown, queries
from tests.alerts.documented import NOT_HERE, used_in
from tests.alerts.prometheus import Prometheus, prometheus
from tests.cluster import built
from tests.cluster.build import missing_programs
from tests.cluster.control_plane import has_default_account
from tests.cluster.helm import CHART, NAMESPACE, RELEASE, run_helm
from tests.cluster.images import MINIO, PYTHON
from tests.cluster.nodes import ROOT, NodeCluster
from tests.cluster.processes import wait_until
from tests.nodes.reach import add_stranger, reached, wait_until_reached

from ada_operator.names import CURRICULUM_PORT, HEALTH_PORTS, RENDEZVOUS_PORT, SIMULATOR_PORT

SCRAPED = {"operator": 8080, **{part: HEALTH_PORTS[part] for part in ("curriculum", "simulator", "trainer")}}
FACTOR = 10.0  # of the rules' and panels' windows: several iterations on a slow machine fit into the shortest
SPACE, EXPERIMENT, ELSEWHERE = "chart", "endless", "chart-elsewhere"
CRD = "crd/adaexperiments.ada.dev"
PATIENCE_S = 600


def image(reference: str) -> dict[str, str]:
    repository, _, tag = reference.partition(":")
    return {"repository": repository, "tag": tag}


BUILT = ("operator", "curriculum", "simulator") if os.environ.get("ADA_TEST_LONG") else ("operator",)
VALUES: dict[str, Any] = {
    "images": {
        **dict.fromkeys(("curriculum", "trainer", "simulator"), image(PYTHON)),
        **{part: image(built.image_name(part)) for part in BUILT},
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

    def logs(self) -> str:
        """Return what the operators said."""
        selector = "--selector=app.kubernetes.io/component=operator"
        return self.kubectl("logs", f"--namespace={NAMESPACE}", selector, "--tail=-1")

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

    def whole(self) -> dict[str, tuple[str, int, str]] | None:
        """Return the experiment's pods if its four run and no other is there, else None."""
        pods = self.pods()
        return pods if len(pods) == 4 and {phase for _, _, phase in pods.values()} == {"Running"} else None

    def address(self, part: str, space: str = SPACE, label: str = "ada.dev/part") -> str:
        """Return the address of the one pod of a part."""
        (pod,) = self.kubectl.json("get", "pods", f"--namespace={space}", f"--selector={label}={part}")["items"]
        return str(pod["status"]["podIP"])

    def scraped(self) -> list[dict[str, Any]]:
        """Return the pods that serve metrics, as Prometheus' `file_sd_configs` wants them."""
        found = []
        for namespace, label in ((NAMESPACE, "app.kubernetes.io/component"), (SPACE, "ada.dev/part")):
            for pod in self.kubectl.json("get", "pods", f"--namespace={namespace}")["items"]:
                part = pod["metadata"].get("labels", {}).get(label)  # strangers have none
                if part in SCRAPED and pod["status"].get("podIP"):
                    labels = {"program": part, "namespace": namespace, "pod": pod["metadata"]["name"]}
                    found.append({"targets": [f"{pod['status']['podIP']}:{SCRAPED[part]}"], "labels": labels})
        return found

    def set_deadline(self, seconds: int | None) -> None:
        patch = json.dumps({"spec": {"activeDeadlineSeconds": seconds}})
        self.kubectl("patch", "adaexperiment", EXPERIMENT, f"--namespace={SPACE}", "--type=merge", f"--patch={patch}")

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
    reason = built.why_not()
    if reason:
        pytest.skip(reason)
    for part in BUILT:
        cluster.load(built.built(part))
    kubectl = cluster.kubectl
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    for name in (NAMESPACE, SPACE, ELSEWHERE):
        kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        wait_until("default service account", lambda name=name: has_default_account(kubectl, name))
    yield Release(cluster)
    run_helm("uninstall", RELEASE, f"--namespace={NAMESPACE}", "--wait", config=cluster.plane.kubeconfig)
    kubectl.run("delete", "adaexperiment", EXPERIMENT, f"--namespace={SPACE}", "--ignore-not-found")
    kubectl.run("delete", CRD, "--ignore-not-found")
    for name in (NAMESPACE, SPACE, ELSEWHERE):
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
    release.wait_for_frames(0)
    assert release.whole()
    assert "the watches ended" not in release.logs(), "what is seen comes from the watches, not from the resync alone"

    strangers_are_kept_out(release)
    with watched(release, tmp_path) as server:
        every_panel_shows_something(server)
        an_alert_fires_and_is_over(release, server)
    # The pod of the group that was ended may take its time to leave.
    pods = wait_until("the four pods of the experiment", release.whole, PATIENCE_S, release.seen)
    before = release.wait_for_frames(0)

    def is_untouched() -> None:
        status = release.wait_for_frames(release.status()["frames"])
        assert release.pods() == pods, release.seen()
        assert status["stages"][0]["generation"] == before["stages"][0]["generation"]
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


def strangers_are_kept_out(release: Release) -> None:
    """Try every port of the experiment from pods that may and from pods that may not."""
    asked = {
        "curriculum": (release.address("curriculum"), CURRICULUM_PORT),
        "rendezvous": (release.address("rendezvous"), RENDEZVOUS_PORT),
        "simulator": (release.address("simulator"), SIMULATOR_PORT),
        "store": (release.address("store", NAMESPACE, "app.kubernetes.io/component"), 9000),
    }
    health = {(release.address(part), port) for part, port in HEALTH_PORTS.items()}
    places = [*asked.values(), *sorted(health)]
    (trainer,) = [name for name in release.pods() if "trainer" in name]
    assert reached(release.kubectl, SPACE, trainer, places) == set(places), "its own pods reach everything"
    for namespace, more in ((ELSEWHERE, set()), (SPACE, set()), (NAMESPACE, {asked["curriculum"]})):
        add_stranger(release.kubectl, namespace)
        wait_until_reached(release.kubectl, namespace, "stranger", places, health | more)


@contextlib.contextmanager
def watched(release: Release, folder: Path) -> Iterator[Prometheus]:
    """Yield a Prometheus that scrapes the operator and the experiment."""
    targets = folder / "targets.json"
    targets.write_text(json.dumps(release.scraped()))
    with prometheus(folder / "prometheus", targets, FACTOR) as server:
        server.wait_until(
            "all programs", lambda one: {up["metric"]["program"] for up in one.value_of("up == 1")} == set(SCRAPED)
        )
        assert server.value_of("up == 0") == [], "every pod can be scraped"
        yield server


def every_panel_shows_something(server: Prometheus) -> None:
    here = queries(f"{SPACE}/.*", FACTOR)
    wanted = {where: query for where, query in here.items() if not used_in(query) & NOT_HERE}
    assert {page for page, _, _ in wanted} == {"platform", "training"} and len(wanted) > 55
    assert never_shown(server, wanted, PATIENCE_S) == {}


def an_alert_fires_and_is_over(release: Release, server: Prometheus) -> None:
    """What docs/install.md lets a person try: a deadline that has passed ends the experiment, and is taken back."""
    release.set_deadline(1)
    told = server.wait_until("alert", lambda one: one.firing().get("AdaExperimentFailed"))
    assert (told["labels"]["experiment"], told["labels"]["reason"]) == (f"{SPACE}/{EXPERIMENT}", "DeadlineExceeded")
    assert release.status()["phase"] == "Failed"
    frames = release.status()["frames"]
    release.set_deadline(None)
    server.wait_until("end of the alert", lambda one: "AdaExperimentFailed" not in one.firing())
    assert release.wait_for_frames(frames)["stages"][0]["generation"] == 2, "it goes on from its newest checkpoint"
