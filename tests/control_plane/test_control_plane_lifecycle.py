"""The test cluster itself leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cluster.build import missing_programs
from tests.cluster.control_plane import PROGRAMS
from tests.cluster.processes import wait_until

ROOT = Path(__file__).parents[2]


def alive_in(folder: Path) -> list[str]:
    """Return the command lines of processes that have the folder in theirs."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and "rm -rf" not in line:
            found.append(line)
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_nothing_of_a_control_plane_outlives_whoever_started_it(number, tmp_path):
    missing = missing_programs(*PROGRAMS)
    if missing:
        pytest.skip(f"{', '.join(missing)} not built: run `python tests/cluster/build.py`")
    with (tmp_path / "output").open("w+") as output:
        starter = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.control_plane"],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        try:
            said = Path(output.name)
            wait_until("running control plane", lambda: "KUBECONFIG=" in said.read_text(), 90, said.read_text)
            (folder,) = tmp_path.glob("ada-control-plane-*")
            assert len(alive_in(folder)) >= 5
            starter.send_signal(number)
            starter.wait(30)
            wait_until("end of all its processes", lambda: not alive_in(folder), 30, lambda: str(alive_in(folder)))
            wait_until("removal of its folder", lambda: not folder.exists(), 30)
        finally:
            starter.kill()
            starter.wait()
