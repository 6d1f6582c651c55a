"""A cluster that is there already (`KUBECONFIG=... ADA_TEST_CLUSTER=existing`), with KWOK beside it.

KWOK plays one node that the tests add and take away. It should be the only node on which pods without wishes of their
own can run: a bare control plane, such as kwokctl or envtest make.
"""

import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from tests.cluster.control_plane import Kubectl, fake_nodes, start_kwok
from tests.cluster.processes import stop


class ExistingCluster:
    """The cluster of a kubeconfig, for the length of the `with` block."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.kubectl = Kubectl(kubeconfig)

    def __enter__(self) -> "ExistingCluster":
        self._temporary = tempfile.TemporaryDirectory(prefix="ada-cluster-")
        self.folder = Path(self._temporary.name)
        self.kubectl.apply(*fake_nodes(1))
        self._kwok: subprocess.Popen[bytes] = start_kwok(self.kubeconfig, self.folder / "kwok.log")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stop(self._kwok)
        self.kubectl.run("delete", "node", fake_nodes(1)[0]["metadata"]["name"])
        self._temporary.cleanup()
