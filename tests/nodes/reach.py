"""Who reaches what in a cluster whose nodes enforce NetworkPolicies: pods that try, and pods that take connections."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tests.cluster.control_plane import Kubectl
from tests.cluster.images import PYTHON
from tests.cluster.processes import wait_until

# A node refuses what a policy forbids, as a pod does on a port where nobody listens: compare with a pod that may.
TRY = """
import json, socket, sys
def tried(address, port):
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False
print(json.dumps([tried(address, port) for address, port in json.loads(sys.argv[1])]))
"""
LISTEN = """
import selectors, socket, sys
waiting = selectors.DefaultSelector()
for port in sys.argv[1:]:
    waiting.register(socket.create_server(("0.0.0.0", int(port))), selectors.EVENT_READ)
while True:
    for ready, _ in waiting.select():
        ready.fileobj.accept()[0].close()
"""
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
Place = tuple[str, int]  # address and port


def pod(namespace: str, name: str, labels: dict[str, str], ports: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Return a pod that takes any connection on some ports, given by name, and does nothing by itself."""
    numbers = list((ports or {}).values())
    container = {
        "name": "main",
        "image": PYTHON,
        "command": ["python", "-c", LISTEN, *map(str, numbers)] if numbers else ["sleep", "infinity"],
        "ports": [{"name": port, "containerPort": number} for port, number in (ports or {}).items()],
        "securityContext": RESTRICTED,
    }
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"terminationGracePeriodSeconds": 0, "securityContext": security, "containers": [container]}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def add_stranger(kubectl: Kubectl, namespace: str) -> None:
    """Make a pod that belongs to nothing, and wait until it runs."""
    kubectl.apply(pod(namespace, "stranger", {}))
    kubectl("wait", f"--namespace={namespace}", "--for=condition=Ready", "--timeout=120s", "pod/stranger")


def reached(kubectl: Kubectl, namespace: str, name: str, places: Iterable[Place]) -> set[Place]:
    """Return the places that take a connection from a pod."""
    wanted = sorted(places)
    said = kubectl("exec", f"--namespace={namespace}", name, "--", "python", "-c", TRY, json.dumps(wanted))
    return {place for place, taken in zip(wanted, json.loads(said), strict=True) if taken}


def wait_until_reached(
    kubectl: Kubectl, namespace: str, name: str, places: Iterable[Place], wanted: set[Place]
) -> None:
    """Wait until a pod reaches exactly the wanted ones of some places: policies follow new pods after a moment."""
    seen: set[Place] = set()

    def as_wanted() -> bool:
        seen.clear()
        seen.update(reached(kubectl, namespace, name, places))
        return seen == wanted

    def difference() -> str:
        return f"should not be: {sorted(seen - wanted)}; should be and is not: {sorted(wanted - seen)}"

    wait_until(f"reach of {namespace}/{name} as it should be", as_wanted, 60, difference)
