"""Kueue beside a control plane: its resources, its controller as a plain process, and its webhooks for Jobs."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from tests.cluster.build import module_source, program_path
from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import hold_port, start, stop, wait_until

NAMESPACE = "kueue-system"
KINDS = ("resourceflavors", "clusterqueues", "localqueues", "workloads")
# Those of what we use: the others are for kinds of jobs that are not there.
WEBHOOKS = ("job.kb.io", "workload.kb.io", "clusterqueue.kb.io", "resourceflavor.kb.io")
# It reads the certificate of its metrics from there, whether it serves any or not; this /etc is its alone.
WITH_ETC = """
set -e
mount -t tmpfs none /etc
mkdir -p /etc/kueue/metrics
ln -s "$1" /etc/kueue/metrics/certs
shift
exec "$0" "$@"
"""


@contextmanager
def kueue(plane: ControlPlane) -> Iterator[None]:
    """Have Kueue look after the Jobs of a control plane that name a queue; what it says is in the plane's folder.

    Needs root, for a mount of its own.
    """
    components = module_source("kueue", "sigs.k8s.io/kueue") / "config" / "components"
    plane.kubectl("apply", "--server-side", f"--filename={components / 'crd' / 'bases'}")
    crds = [f"crd/{kind}.kueue.x-k8s.io" for kind in KINDS]
    plane.kubectl("wait", "--for=condition=Established", "--timeout=60s", *crds)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    plane.kubectl.apply(namespace)
    held, port = hold_port()
    held.close()  # it does not share its port
    process = _controller(plane, port)
    try:
        wait_until("line of Kueue that its webhooks serve", lambda: _serves(plane, process), 60, plane.log_tails)
        plane.kubectl.apply(*_webhooks(components, plane, port))
        yield
    finally:
        stop(process)


def _controller(plane: ControlPlane, port: int) -> "subprocess.Popen[bytes]":
    """Start Kueue's controller; its webhooks serve with the API server's own certificate, which is for loopback too."""
    certificates = plane.folder / "kueue-certificates"
    certificates.mkdir()
    for ours, its in (("tls.crt", "apiserver.crt"), ("tls.key", "apiserver.key")):
        shutil.copy(plane.folder / "certificates" / its, certificates / ours)
    configuration = {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "namespace": NAMESPACE,
        "health": {"healthProbeBindAddress": "0"},
        "metrics": {"bindAddress": "0"},
        "webhook": {"host": "127.0.0.1", "port": port, "certDir": str(certificates)},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
        "integrations": {"frameworks": ["batch/job"]},
    }
    file = plane.folder / "kueue.json"
    file.write_text(json.dumps(configuration))
    command = ["unshare", "--mount", "sh", "-c", WITH_ETC, program_path("kueue"), certificates, f"--config={file}"]
    command.append("--feature-gates=VisibilityOnDemand=false")
    return start(command, plane.folder / "kueue.log", {**os.environ, "KUBECONFIG": str(plane.kubeconfig)})


def _serves(plane: ControlPlane, process: "subprocess.Popen[bytes]") -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"Kueue ended with {process.returncode}: {plane.log_tails()}")
    return "Serving webhook server" in (plane.folder / "kueue.log").read_text(errors="replace")


def _webhooks(components: Path, plane: ControlPlane, port: int) -> Iterator[dict[str, Any]]:
    """Return the configurations of its webhooks, asked at an address instead of a Service, which would need a pod."""
    bundle = base64.b64encode((plane.folder / "certificates" / "apiserver.crt").read_bytes()).decode()
    for found in yaml.safe_load_all((components / "webhook" / "manifests.yaml").read_text()):
        kept = [one for one in found["webhooks"] if one["name"][1:] in WEBHOOKS]
        for one in kept:
            path = one["clientConfig"]["service"]["path"]
            one["clientConfig"] = {"url": f"https://127.0.0.1:{port}{path}", "caBundle": bundle}
        yield {**found, "metadata": {"name": f"kueue-{found['kind'].lower()}"}, "webhooks": kept}
