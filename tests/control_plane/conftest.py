"""One control plane a session, one namespace a test, and the operator as a process of its own."""

import gc
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:  # tests/ is not a package: what tests share is imported from the repository's root
    sys.path.insert(0, str(ROOT))

from tests.cluster.build import missing_programs  # noqa: E402
from tests.cluster.control_plane import PROGRAMS, ControlPlane, Kubectl, has_default_account  # noqa: E402
from tests.cluster.existing import ExistingCluster  # noqa: E402
from tests.cluster.processes import start, stop, wait_until  # noqa: E402

from ada_operator.cluster import LEASE_PERMISSIONS, PERMISSIONS, SUBRESOURCE_PERMISSIONS  # noqa: E402

SERIAL = count(1)


@pytest.fixture(scope="module", autouse=True)
def leave_nothing_open() -> Iterator[None]:
    """Have what a file's event loops left open reported by its last test, not by one of another file, much later."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane | ExistingCluster]:
    """A Kubernetes control plane with KWOK, and our resource installed."""
    existing = os.environ.get("ADA_TEST_CLUSTER") == "existing"
    missing = missing_programs(*(("kubectl", "kwok") if existing else PROGRAMS))
    if missing:
        pytest.skip(f"{', '.join(missing)} not built: run `python tests/cluster/build.py`")
    with ExistingCluster(Path(os.environ["KUBECONFIG"])) if existing else ControlPlane() as running:
        running.kubectl("apply", "--server-side", f"--filename={ROOT / 'crds'}")
        running.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd/adaexperiments.ada.dev")
        wait_until(
            "resource in the API server's discovery",
            lambda: running.kubectl.run("get", "adaexperiments").returncode == 0,
        )
        yield running


@pytest.fixture
def namespace(plane: ControlPlane) -> Iterator[str]:
    """A namespace in which only pods of the restricted profile may run."""
    name = f"test-{os.getpid()}-{next(SERIAL)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    plane.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    wait_until("default service account", lambda: has_default_account(plane.kubectl, name))
    yield name
    plane.kubectl.run("delete", "namespace", name, "--wait=false")


@pytest.fixture
def make_spaces(plane: ControlPlane) -> Iterator[Callable[[int, Callable[[str], dict[str, Any]]], list[str]]]:
    """A function that makes namespaces with an experiment in each."""
    made: list[str] = []

    def make(number: int, experiment: Callable[[str], dict[str, Any]]) -> list[str]:
        names = [f"life-{os.getpid()}-{next(SERIAL)}" for _ in range(number)]
        made.extend(names)
        plane.kubectl.apply(*({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names))

        def accounts() -> bool:
            found = plane.kubectl("get", "serviceaccounts", "--all-namespaces", "--no-headers").splitlines()
            return {line.split()[0] for line in found} >= set(names)

        wait_until("default service accounts", accounts)
        plane.kubectl.apply(*map(experiment, names))
        return names

    yield make
    if made:
        plane.kubectl.run("delete", "namespace", *made, "--wait=false")


@dataclass
class OperatorProcess:
    """`ada operator`, with no more rights than it says that it needs."""

    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        """Start it; it waits for the lease by itself."""
        self.process = start(self.command, self.log, self.environment)

    def kill(self) -> None:
        """End it as the kernel would: no last word."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end and return its exit status."""
        assert self.process is not None
        return stop(self.process)

    def said(self, lines: int = 30) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def url(self, path: str) -> str:
        """Return the URL of something that it serves over HTTP."""
        mark = "health and metrics on "
        line = wait_until(
            "line with the operator's address", lambda: next((x for x in self._lines() if mark in x), ""), 30, self.said
        )
        return f"http://{line.partition(mark)[2]}{path}"

    def get(self, path: str) -> str:
        """Return what it serves at a path."""
        with urllib.request.urlopen(self.url(path), timeout=10) as response:
            return str(response.read().decode())

    def _lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines() if self.log.exists() else []


@pytest.fixture
def make_operator(plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Callable[..., OperatorProcess]]:
    """A function that starts an operator for the test's namespace, with further variables and arguments."""
    with ExitStack() as stack:

        def make(
            environment: dict[str, str], *arguments: str, lease_s: int = 15, everywhere: bool = False
        ) -> OperatorProcess:
            number = next(SERIAL)
            config = operator_account(plane.kubectl, namespace, tmp_path / f"operator-{number}.kubeconfig", everywhere)
            scope = ["--all-namespaces", "--lease-namespace", namespace] if everywhere else ["--namespace", namespace]
            command = [
                *[sys.executable, "-m", "ada_operator.program", "--kubeconfig", str(config), *scope],
                *["--lease-seconds", str(lease_s), "--resync-seconds", "5"],
                *["--host", "127.0.0.1", "--port", "0", *arguments],
            ]
            operator = OperatorProcess(command, {**os.environ, **environment}, tmp_path / f"operator-{number}.log")
            operator.start()
            stack.callback(lambda: operator.process is None or stop(operator.process))
            return operator

        yield make


def operator_account(kubectl: Kubectl, namespace: str, path: Path, everywhere: bool = False) -> Path:
    """Write the kubeconfig of a service account that has the operator's rights, in one namespace or in all."""
    name, group = "ada-operator", "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
    kind, place = ("ClusterRole", {"name": f"{name}-{namespace}"}) if everywhere else ("Role", account["metadata"])
    kubectl.apply(
        account,
        {"apiVersion": f"{group}/v1", "kind": kind, "metadata": place, "rules": operator_rules()},
        {
            "apiVersion": f"{group}/v1",
            "kind": f"{kind}Binding",
            "metadata": place,
            "subjects": [subject],
            "roleRef": {"apiGroup": group, "kind": kind, "name": place["name"]},
        },
    )
    token = kubectl("create", "token", name, f"--namespace={namespace}").strip()
    config = kubectl.json("config", "view", "--raw", "--minify", "--flatten")
    config["users"][0]["user"] = {"token": token}
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
    may_lead = ("auth", "can-i", "update", "leases.coordination.k8s.io", f"--namespace={namespace}")
    wait_until("effect of the role", lambda: Kubectl(path).run(*may_lead).returncode == 0)
    return path


def operator_rules() -> list[dict[str, Any]]:
    """Return the rules of a role with what the operator says that it needs, and nothing else."""
    rules = [
        {"apiGroups": [resource.group], "resources": [resource.plural], "verbs": list(verbs)}
        for resource, verbs in PERMISSIONS.items()
    ]
    rules += [
        {"apiGroups": [resource.group], "resources": [f"{resource.plural}/{part}"], "verbs": list(verbs)}
        for (resource, part), verbs in SUBRESOURCE_PERMISSIONS.items()
    ]
    lease = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": list(LEASE_PERMISSIONS)}
    return [*rules, lease]
