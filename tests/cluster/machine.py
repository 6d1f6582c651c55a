"""PID 1 of one machine of the test cluster: `python machine.py SETTINGS.json` in namespaces of its own.

Sets up the machine's network and mounts, keeps its daemons running, and reaps orphans. Killing
it is a power cut: the kernel ends every process, mount and interface of the machine with it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESTART_DELAY_S = 0.5


def run(*command: str) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, check=True)


def set_up(settings: dict[str, Any]) -> None:
    """Give the machine its name, its mounts and its address; the interface eth0 is put here from outside."""
    folder = Path(settings["folder"])
    run("hostname", settings["name"])
    run("mount", "--make-rshared", "/")
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    run("ip", "link", "set", "lo", "up")
    while subprocess.run(["ip", "link", "set", "eth0", "up"], capture_output=True, check=False).returncode:
        time.sleep(0.05)
    run("ip", "address", "add", f"{settings['address']}/24", "dev", "eth0")
    run("ip", "route", "add", "default", "via", settings["gateway"])
    for network, via in settings["routes"].items():
        run("ip", "route", "add", network, "via", via)
    run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    for place in ("/var/lib/kubelet", "/var/lib/containerd", "/var/log"):
        own = folder / place.strip("/").replace("/", "-")
        own.mkdir(parents=True, exist_ok=True)
        Path(place).mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", str(own), place)
    Path("/var/lib/cni").mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "tmpfs", "/var/lib/cni")
    run("mount", "--make-rshared", "/var/lib/kubelet")


def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a daemon whose output goes to a log."""
    with log.open("ab") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)


def keep_running(daemons: dict[str, list[str]], running: dict[int, str], logs: Path) -> None:
    """Restart daemons that end, and reap whatever else ends, for ever."""
    while True:
        pid, status = os.wait()
        name = running.pop(pid, None)
        if name is not None:
            with (logs / f"{name}.log").open("a") as log:
                log.write(f"--- {name} ended with status {status}\n")
            time.sleep(RESTART_DELAY_S)
            running[start(daemons[name], logs / f"{name}.log").pid] = name


def main() -> None:
    """Bring the machine up and keep it up."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    logs = Path(settings["folder"])
    daemons: dict[str, list[str]] = settings["daemons"]
    set_up(settings)
    running = {start(daemons["containerd"], logs / "containerd.log").pid: "containerd"}
    while subprocess.run([settings["ctr"], "version"], capture_output=True, check=False).returncode:
        time.sleep(0.1)
    for archive in settings["images"]:
        run(settings["ctr"], "--namespace=k8s.io", "images", "import", archive)
    for name in ("kube-proxy", "network-policies", "kubelet"):
        running[start(daemons[name], logs / f"{name}.log").pid] = name
    keep_running(daemons, running, logs)


if __name__ == "__main__":
    main()
