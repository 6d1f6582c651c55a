"""A control plane with real nodes: kubelet, containerd, runc, a CNI bridge, kube-proxy, cluster DNS. Needs root.

NetworkPolicies are enforced on every node, by kube-router's controller.

Each node is one set of namespaces on a bridge of this machine, so killing its first process is a power cut. The
control plane listens on the bridge. `python -m tests.cluster.nodes` runs one until Ctrl-C.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from tests.cluster import images
from tests.cluster.build import CACHE, program_path
from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import wait_until

ROOT = Path(__file__).parents[2]
COMMANDS = ("ip", "nft", "mmdebstrap", "unshare", "setpriv", "mount", "sysctl", "nsenter", "iptables", "ipset")
PROGRAMS = (
    *("kubelet", "kube-proxy", "containerd", "containerd-shim-runc-v2", "ctr", "runc"),
    *("bridge", "loopback", "host-local", "coredns", "pause", "minio", "network-policies"),
)
NETWORKS = 50  # clusters that may run on one machine at a time
SERVICE_DNS = "10.96.0.10"

# Runs when the test session is gone, however it ended: the kernel has ended the machines by then.
CLEAN_UP = """
cat >/dev/null
for link in /sys/class/net/"$1" /sys/class/net/"$1".*; do ip link delete "${link##*/}" 2>/dev/null; done
for try in 1 2 3 4 5 6 7 8 9 10; do
    for hierarchy in /sys/fs/cgroup/*/"$1" /sys/fs/cgroup/"$1"; do
        [ -d "$hierarchy" ] && find "$hierarchy" -depth -type d -exec rmdir {} + 2>/dev/null
    done
    rm -rf --one-file-system -- "$2" 2>/dev/null
    [ -z "$(ls -d "$2" /sys/fs/cgroup/*/"$1" /sys/fs/cgroup/"$1" 2>/dev/null)" ] && exit
    sleep 0.5
done
"""


def why_not() -> str | None:
    """Return why real nodes can't run here, or None if they can."""
    if os.geteuid() != 0:
        return "real nodes need root"
    lacking = [command for command in COMMANDS if shutil.which(command) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    lacking = [program for program in PROGRAMS if not program_path(program).exists()]
    if lacking:
        return f"not built: {', '.join(lacking)} (python tests/cluster/build.py)"
    if sys.version_info[:2] != (3, 11):
        return "the test image has Python 3.11, and the packages it mounts must be made for it"
    return None


class Network:
    """Addresses nobody else on this machine uses: a bridge with the host at .1 and node n at .10+n."""

    def __init__(self) -> None:
        CACHE.mkdir(parents=True, exist_ok=True)
        for index in range(NETWORKS):
            self._lock: TextIO = (CACHE / f"network-{index}.lock").open("w")
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._lock.close()
                continue
            self.bridge = f"adat{index}"
            self.host = f"172.31.{100 + index}.1"
            self._prefix, self._pods = f"172.31.{100 + index}", f"10.{150 + index}"
            return
        raise RuntimeError(f"{NETWORKS} test clusters run on this machine already")

    @property
    def held(self) -> int:
        """The open file that keeps others from these addresses, for a process that must outlive this one."""
        return self._lock.fileno()

    def give_back(self) -> None:
        """Let another cluster have these addresses."""
        self._lock.close()

    def node(self, number: int) -> str:
        """Return a node's address."""
        return f"{self._prefix}.{10 + number}"

    def pods(self, number: int) -> str:
        """Return the network of a node's pods."""
        return f"{self._pods}.{number}.0/24"


class NodeCluster:
    """A control plane and real nodes that live as long as the `with` block, or as this process.

    Of `count` nodes the first `powered` (all, if None) are switched on at once; the others wait for `power_on`.
    """

    def __init__(self, count: int = 1, powered: int | None = None) -> None:
        self.count = count
        self._powered = count if powered is None else powered
        self.network = Network()

    def __enter__(self) -> "NodeCluster":
        self._archives = images.archives()
        bridge = self.network.bridge
        subprocess.run(["ip", "link", "delete", bridge], capture_output=True, check=False)
        _run("ip", "link", "add", bridge, "type", "bridge")
        _run("ip", "address", "add", f"{self.network.host}/24", "dev", bridge)
        _run("ip", "link", "set", bridge, "up")
        for number in range(1, self.count + 1):
            _run("ip", "route", "add", self.network.pods(number), "via", self.network.node(number))
        self.plane = ControlPlane(self.network.host, simulated=False)
        self.plane.__enter__()
        self.kubectl = self.plane.kubectl
        self.folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"ada-nodes-{bridge}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self._guard = subprocess.Popen(
            ["sh", "-c", CLEAN_UP, "sh", bridge, str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
            pass_fds=[self.network.held],  # nobody begins anew on these addresses while it cleans up
        )
        self.machines: dict[str, subprocess.Popen[bytes]] = {}
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
        for machine in self.machines.values():
            machine.kill()
        for machine in self.machines.values():
            machine.wait()
        self.plane.__exit__(kind, error, trace)
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()
        self.network.give_back()

    def power_cut(self, name: str) -> None:
        """End a node without a word."""
        machine = self.machines.pop(name)
        machine.kill()
        machine.wait()

    def load(self, archive: Path) -> None:
        """Bring an image to every node, in place of a registry to pull from."""
        for machine in self.machines.values():
            inside = ["nsenter", f"--target={_first_process(machine)}", "--mount", "--pid", "--net", "--"]
            _run(*inside, str(program_path("ctr")), "--namespace=k8s.io", "images", "import", str(archive))

    def log_tails(self, lines: int = 8) -> str:
        """Return the last lines of every node's daemons."""
        logs = sorted(self.folder.glob("*/*.log"))
        return "\n".join(
            f"--- {log.relative_to(self.folder)}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
            for log in logs
        )

    def _start(self) -> None:
        for number in range(1, self._powered + 1):
            self.power_on(number)
        self.kubectl.apply(*cluster_dns())
        for number in range(1, self._powered + 1):
            self.wait_for_node(number)
        self.kubectl("--namespace=kube-system", "rollout", "status", "deployment/coredns", "--timeout=180s")

    def wait_for_node(self, number: int) -> None:
        """Return once a node is ready."""
        wait_until(f"ready node-{number}", lambda: self._node_is_ready(number), 300, self.log_tails)

    def _node_is_ready(self, number: int) -> bool:
        path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        return self.kubectl.run("get", "node", f"node-{number}", f"--output={path}").stdout == "True"

    def power_on(self, number: int) -> None:
        """Start a node's machine."""
        name = f"node-{number}"
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        settings = folder / "machine.json"
        settings.write_text(json.dumps(self._settings(number, folder)))
        _make_cgroups(self.network.bridge, name)
        log = (folder / "machine.log").open("ab")
        machine = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "--"),
                *("unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"),
                *(sys.executable, str(Path(__file__).with_name("machine.py")), str(settings)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.close()
        self.machines[name] = machine
        self._plug_in(number, machine)

    def _plug_in(self, number: int, machine: subprocess.Popen[bytes]) -> None:
        inside = _first_process(machine)
        cable = f"{self.network.bridge}.{number}"
        subprocess.run(["ip", "link", "delete", cable], capture_output=True, check=False)
        _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", inside)
        _run("ip", "link", "set", cable, "master", self.network.bridge, "up")

    def _settings(self, number: int, folder: Path) -> dict[str, Any]:
        name, others = f"node-{number}", [n for n in range(1, self.count + 1) if n != number]
        write_configuration(self.plane, self.network, number, folder)
        return {
            "name": name,
            "folder": str(folder),
            "address": self.network.node(number),
            "gateway": self.network.host,
            "routes": {self.network.pods(n): self.network.node(n) for n in others},
            "ctr": str(program_path("ctr")),
            "images": [str(archive) for archive in self._archives.values()],
            "daemons": {
                "containerd": [
                    *("env", f"PATH={program_path('containerd').parent}:{os.environ['PATH']}"),
                    *(str(program_path("containerd")), "--config", str(folder / "containerd.toml")),
                ],
                "kube-proxy": [str(program_path("kube-proxy")), "--config", str(folder / "kube-proxy.json")],
                "network-policies": [str(program_path("network-policies")), str(self.plane.kubeconfig), name],
                "kubelet": [
                    *(str(program_path("kubelet")), "--config", str(folder / "kubelet.json")),
                    *("--kubeconfig", str(self.plane.kubeconfig), "--hostname-override", name),
                    *("--node-ip", self.network.node(number), "--cert-dir", str(folder / "certificates")),
                ],
            },
        }


def write_configuration(plane: ControlPlane, network: Network, number: int, folder: Path) -> None:
    """Write the configuration files of a node's daemons into its folder."""
    documents = {
        "kubelet.json": {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,
            "failSwapOn": False,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{network.bridge}/node-{number}",
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "clusterDNS": [SERVICE_DNS],
            "clusterDomain": "cluster.local",
            "resolvConf": str(folder / "resolv.conf"),
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "imageGCHighThresholdPercent": 100,  # a collected image could not be pulled again
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1Gi", "imagefs.available": "1Gi"},
            "volumePluginDir": str(folder / "volume-plugins"),
            "featureGates": {"KubeletCrashLoopBackOffMax": True},
            "crashLoopBackOff": {"maxContainerRestartPeriod": "2s"},  # a loop of five crashes would take minutes
        },
        "kube-proxy.json": {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": str(plane.kubeconfig)},
            "hostnameOverride": f"node-{number}",
            # not writable outside the first network namespace
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        },
        "cni/10-bridge.conflist": {
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "pods0",
                    "isDefaultGateway": True,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": network.pods(number)}]],
                        "dataDir": "/run/cni",
                    },
                }
            ],
        },
    }
    (folder / "cni").mkdir(exist_ok=True)
    (folder / "resolv.conf").touch()
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=1))
    (folder / "container.json").write_text(json.dumps(container_template()))
    (folder / "containerd.toml").write_text(containerd_configuration(folder))


def containerd_configuration(folder: Path) -> str:
    """Return containerd's configuration, in which every container starts from `container_template`."""
    return f"""
version = 3
disabled_plugins = ['io.containerd.internal.v1.opt']
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{images.PAUSE}'
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = '{folder / "registries"}'
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['{program_path("bridge").parent}']
conf_dir = '{folder / "cni"}'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
base_runtime_spec = '{folder / "container.json"}'
options = {{ BinaryName = '{program_path("runc")}', SystemdCgroup = false }}
"""


def container_template() -> dict[str, Any]:
    """Return containerd's own starting point for a container, with our packages mounted read-only."""
    command = [str(program_path("ctr")), "oci", "spec"]
    template: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    sources = {"site": sysconfig.get_path("purelib")} | {
        part: str(ROOT / part) for part in ("crds", "operator", "trainer", "sim")
    }
    sources["stub"] = str(ROOT / "tests" / "nodes" / "stub")  # programs that misbehave, where a test asks for them
    template["mounts"] += [
        {
            "destination": f"{images.MOUNTED}/{name}",
            "type": "bind",
            "source": source,
            "options": ["rbind", "ro", "nosuid", "nodev"],
        }
        for name, source in sources.items()
    ]
    return template


def cluster_dns() -> list[dict[str, Any]]:
    """Return CoreDNS with what it needs."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _in_kube_system("coredns")}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "coredns"},
        "rules": [
            {
                "apiGroups": [""],
                "resources": ["endpoints", "services", "pods", "namespaces"],
                "verbs": ["list", "watch"],
            },
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "coredns"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "coredns"},
        "subjects": [{"kind": "ServiceAccount", **_in_kube_system("coredns")}],
    }
    corefile = ".:53 {\n errors\n ready\n kubernetes cluster.local in-addr.arpa {\n  ttl 1\n }\n}\n"
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _in_kube_system("coredns"),
        "data": {"Corefile": corefile},
    }
    labels = {"k8s-app": "kube-dns"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _in_kube_system("kube-dns"),
        "spec": {
            "clusterIP": SERVICE_DNS,
            "selector": labels,
            "ports": [{"name": name, "port": 53, "protocol": name.upper()} for name in ("udp", "tcp")],
        },
    }
    container = {
        "name": "coredns",
        "image": images.COREDNS,
        "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
    }
    pod = {
        "serviceAccountName": "coredns",
        "dnsPolicy": "Default",
        "nodeSelector": {"kubernetes.io/hostname": "node-1"},
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _in_kube_system("coredns"),
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }
    return [account, role, binding, config, service, deployment]


def _in_kube_system(name: str) -> dict[str, str]:
    return {"name": name, "namespace": "kube-system"}


def _make_cgroups(cluster: str, node: str) -> None:
    """Make a node's control group in every hierarchy (version 1) or in the only one (version 2)."""
    top = Path("/sys/fs/cgroup")
    hierarchies = (
        [top] if (top / "cgroup.procs").exists() else [h for h in top.iterdir() if (h / "cgroup.procs").exists()]
    )
    for hierarchy in hierarchies:
        for group in (hierarchy / cluster, hierarchy / cluster / node):
            group.mkdir(exist_ok=True)
            for limit in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group of version 1, which then holds nothing
                if (group / limit).exists() and (group.parent / limit).exists():
                    (group / limit).write_text((group.parent / limit).read_text())


def _first_process(machine: subprocess.Popen[bytes]) -> str:
    """Return the process number, on this machine, of a node's first process."""
    children = Path(f"/proc/{machine.pid}/task/{machine.pid}/children")
    return wait_until("first process of the machine", lambda: children.read_text().split(), 10)[0]


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def main() -> None:
    """Run a cluster with one node until Ctrl-C."""
    reason = why_not()
    if reason:
        raise SystemExit(f"nodes: {reason}")
    with NodeCluster() as cluster:
        print(f"export KUBECONFIG={cluster.plane.kubeconfig}\nlogs in {cluster.folder}; Ctrl-C ends it", flush=True)
        try:
            next(iter(cluster.machines.values())).wait()
        except KeyboardInterrupt:
            print("ending")


if __name__ == "__main__":
    main()
