"""A real Kubernetes control plane as plain processes on loopback: no root, no containers, no fixed ports.

etcd, API server (RBAC and audit log on, real service-account tokens), controller manager, scheduler, and KWOK, which
plays the nodes and pods. `python -m tests.cluster.control_plane` runs one until Ctrl-C and says how to reach it.
"""

import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from Crypto.PublicKey import ECC  # pycryptodome comes with the `minio` package
from tests.cluster.build import program_path
from tests.cluster.processes import guard_folder, hold_port, start, wait_until

STAGES = Path(__file__).with_name("kwok-stages.yaml")
FAKE_NODE = {"kwok.x-k8s.io/node": "fake"}
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok")

# The verbs that change something, with who asked; reads as metadata, without the health checks.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "None", "nonResourceURLs": ["/readyz*", "/healthz*", "/livez*"]},
        {"level": "None", "users": ["system:apiserver", "system:kube-scheduler", "system:kube-controller-manager"]},
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system", "system:nodes"]},
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True)
class Identity:
    """Who a kubeconfig speaks as."""

    user: str
    groups: tuple[str, ...] = ()
    token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)


ADMIN = Identity("test-admin", ("system:masters",))
CONTROLLER_MANAGER = Identity("system:kube-controller-manager")
SCHEDULER = Identity("system:kube-scheduler")


def kubeconfig(server: str, certificate: Path, token: str) -> str:
    """Return a self-contained kubeconfig (JSON is YAML) that trusts `certificate` and sends `token`."""
    cluster = {"server": server, "certificate-authority": str(certificate)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
    return json.dumps(content, indent=1)


class Kubectl:
    """kubectl with a kubeconfig."""

    def __init__(self, config: Path) -> None:
        self.config = config
        built = program_path("kubectl")
        self.program = str(built) if built.exists() else "kubectl"

    def command(self, *arguments: str) -> list[str]:
        """Return the whole command line."""
        return [self.program, f"--kubeconfig={self.config}", *arguments]

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run it and return the result, good or bad."""
        # without a HOME of its own kubectl would leave a discovery cache behind
        environment = {**os.environ, "HOME": str(self.config.parent)}
        return subprocess.run(
            self.command(*arguments), input=stdin, text=True, capture_output=True, check=False, env=environment
        )

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run it and return its output; RuntimeError with what it said if it fails."""
        result = self.run(*arguments, stdin=stdin)
        if result.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {result.stderr.strip()}")
        return result.stdout

    def json(self, *arguments: str, stdin: str | None = None) -> Any:
        """Run it with `-o json`."""
        return json.loads(self(*arguments, "--output=json", stdin=stdin))

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        """Apply manifests."""
        self("apply", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))


class ControlPlane:
    """A control plane that lives as long as the `with` block, or as this process if it is killed.

    `address` is where the API server listens; real nodes need one that they can reach. Unless `simulated` is
    False, KWOK plays a node and its pods.
    """

    def __init__(self, address: str = "127.0.0.1", *, simulated: bool = True) -> None:
        self.address = address
        self.simulated = simulated

    def __enter__(self) -> "ControlPlane":
        self.folder = Path(tempfile.mkdtemp(prefix="ada-control-plane-"))
        self._guard = guard_folder(self.folder)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._certificate = self.folder / "certificates" / "apiserver.crt"
        try:
            self._start()
        except BaseException as error:
            error.add_note(self.log_tails())
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._processes):
            process.kill()  # nothing in here is worth an orderly end
        for process in self._processes:
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()

    def log_tails(self, lines: int = 5) -> str:
        """Return the last lines that every program wrote."""
        tails = (
            f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
            for log in sorted(self.folder.glob("*.log"))
            if log.name != "audit.log"
        )
        return "\n".join(tails)

    def _run(self, program: str, *flags: str) -> None:
        process = start([program_path(program), *flags], self.folder / f"{program}.log")
        self._processes.append(process)

    def _wait(self, what: str, probe: Callable[[], Any]) -> None:
        def alive_and_probe() -> Any:
            for process in self._processes:
                if process.poll() is not None:
                    raise RuntimeError(f"{process.args} ended with {process.returncode}")
            return probe()

        wait_until(what, alive_and_probe, 90)

    def config_for(self, name: str, token: str) -> Path:
        """Write a kubeconfig for a token and return its path."""
        path = self.folder / f"{name}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(kubeconfig(self.server, self._certificate, token))
        return path

    def _start(self) -> None:
        held = [hold_port(self.address) for _ in range(3)]
        try:
            etcd_port, peer_port, api_port = (port for _, port in held)
            self.server = f"https://{self.address}:{api_port}"
            self._start_store(etcd_port, peer_port)
            self._start_api(etcd_port, api_port)
            self._wait("answer of the API server", self._is_ready)
        finally:
            for socket, _ in held:
                socket.close()
        self.kubeconfig = self.config_for("admin", ADMIN.token)
        self.kubectl = Kubectl(self.kubeconfig)
        self._start_controllers()
        if self.simulated:
            self._processes.append(start_kwok(self.kubeconfig, self.folder / "kwok.log"))
            self.kubectl.apply(*fake_nodes(1))
            self._wait("ready node", lambda: "Ready" in self.kubectl("get", "nodes", "--no-headers").split())
        self._wait("default service account", lambda: has_default_account(self.kubectl, "default"))

    def _start_store(self, port: int, peer_port: int) -> None:
        url, peer_url = f"http://{self.address}:{port}", f"http://{self.address}:{peer_port}"
        self._run(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            *(f"--{what}-client-urls={url}" for what in ("listen", "advertise")),
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            "--socket-reuse-port",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    def _start_api(self, etcd_port: int, port: int) -> None:
        key = self.folder / "service-account.key"
        key.write_text(ECC.generate(curve="P-256").export_key(format="PEM", use_pkcs8=False))
        tokens = self.folder / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text(
            "".join(
                f'{who.token},{who.user},{who.user},"{",".join(who.groups)}"\n'
                for who in (ADMIN, CONTROLLER_MANAGER, SCHEDULER)
            )
        )
        policy = self.folder / "audit-policy.json"
        policy.write_text(json.dumps(AUDIT_POLICY))
        self._run(
            "kube-apiserver",
            f"--etcd-servers=http://{self.address}:{etcd_port}",
            f"--bind-address={self.address}",
            f"--advertise-address={self.address}",
            f"--secure-port={port}",
            "--permit-port-sharing",
            f"--cert-dir={self._certificate.parent}",  # the server makes its own certificate there
            # a loopback address can't be an endpoint
            f"--endpoint-reconciler-type={'none' if self.address.startswith('127.') else 'lease'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={tokens}",
            "--anonymous-auth=false",
            "--authorization-mode=RBAC",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.folder / 'audit.log'}",
        )

    def _start_controllers(self) -> None:
        key = self.folder / "service-account.key"
        self._run(
            "kube-controller-manager",
            f"--kubeconfig={self.config_for('controller-manager', CONTROLLER_MANAGER.token)}",
            f"--service-account-private-key-file={key}",
            f"--root-ca-file={self._certificate}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--flex-volume-plugin-dir=" + str(self.folder / "volume-plugins"),
        )
        self._run(
            "kube-scheduler",
            f"--kubeconfig={self.config_for('scheduler', SCHEDULER.token)}",
            "--leader-elect=false",
            "--secure-port=0",
        )

    def _is_ready(self) -> bool:
        if not self._certificate.exists():
            return False
        context = ssl.create_default_context(cafile=str(self._certificate))
        request = urllib.request.Request(f"{self.server}/readyz", headers={"Authorization": f"Bearer {ADMIN.token}"})
        try:
            with urllib.request.urlopen(request, timeout=5, context=context) as response:
                return bool(response.status == 200)
        except (OSError, ssl.SSLError):
            return False

    def audit(self) -> Iterable[dict[str, Any]]:
        """Yield every request that the audit log holds so far."""
        with (self.folder / "audit.log").open() as log:
            for line in log:
                if line.endswith("\n"):
                    yield json.loads(line)


def start_kwok(config: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start KWOK for the nodes that are marked as fake."""
    selector = ",".join(f"{key}={value}" for key, value in FAKE_NODE.items())
    return start(
        [
            program_path("kwok"),
            f"--kubeconfig={config}",
            f"--config={STAGES}",
            "--manage-all-nodes=false",
            f"--manage-nodes-with-annotation-selector={selector}",
            "--node-lease-duration-seconds=40",  # without a heartbeat nodes are given up after a while
        ],
        log,
        {**os.environ, "HOME": str(log.parent)},
    )


def fake_nodes(number: int) -> list[dict[str, Any]]:
    """Return nodes that KWOK plays, each with room for anything."""
    room = {"cpu": "1000", "memory": "10Ti", "ephemeral-storage": "10Ti", "pods": "1000", "nvidia.com/gpu": "64"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": f"fake-{index}",
                "annotations": FAKE_NODE,
                "labels": {"kubernetes.io/hostname": f"fake-{index}", "kubernetes.io/os": "linux"},
            },
            "status": {"allocatable": room, "capacity": room},
        }
        for index in range(number)
    ]


def has_default_account(kubectl: Kubectl, namespace: str) -> bool:
    """Return whether pods can be made in a namespace: whether its default service account is there."""
    return kubectl.run("get", "serviceaccount", "default", f"--namespace={namespace}").returncode == 0


def main() -> None:
    """Run a control plane until Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
    with ControlPlane() as plane:
        print(f"export KUBECONFIG={plane.kubeconfig}\nlogs in {plane.folder}; Ctrl-C ends it", flush=True)
        try:
            plane._processes[0].wait()
        except KeyboardInterrupt:
            print("ending")


if __name__ == "__main__":
    main()
