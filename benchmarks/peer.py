"""Other people's software, run beside ours: in a virtual environment and processes of its own.

The environment is `.venv-bench`, made from locks/bench.txt when it is first wanted. A peer is a small script in
benchmarks/peers/ that prints `ready` once it is warm, then answers each line on its standard input, the name of a
measure, with a number. It computes only when asked, so ours and theirs take turns on the same cores.
"""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from benchmarks.timing import Effort, by_turns

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(__file__).with_name("peers")
LOCK = ROOT / "locks" / "bench.txt"
ENVIRONMENT = ROOT / ".venv-bench"
FAREWELL_S = 5.0


class PeerUnavailableError(Exception):
    """A peer that can't be installed, started or measured here."""


def note(text: str) -> None:
    """Say something that belongs on the page beside the table."""
    sys.stderr.write("note: " + " ".join(text.split()) + "\n")
    sys.stderr.flush()


def interpreter() -> Path:
    """Return the Python of the peers' environment, made anew where the lock file changed.

    Raises:
        PeerUnavailableError: it can't be made.
    """
    python, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "lock.sha256"
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return python
    uv = Path(sys.executable).with_name("uv")
    make = [str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(ENVIRONMENT)]
    install = [str(uv), "pip", "install", "--quiet", "--system-certs", "--require-hashes", "--requirement", str(LOCK)]
    for command in (make, install):
        try:
            environment = {**os.environ, "VIRTUAL_ENV": str(ENVIRONMENT)}
            subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = (getattr(error, "stderr", "") or str(error)).strip()[-300:]
            raise PeerUnavailableError(f"the peers of {LOCK.name} could not be installed: {said}") from error
    stamp.write_text(digest)
    return python


class Peer:
    """A peer's process."""

    def __init__(self, script: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Start a script of benchmarks/peers/ on the cores of this process and wait until it is warm."""
        self.script = script
        self._scratch = tempfile.TemporaryDirectory(prefix="ada-bench-")  # some peers leave files where they run
        self._log = (Path(self._scratch.name) / "stderr").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            # it ends with this process, however that ends
            ["setpriv", "--pdeathsig", "KILL", "--", str(interpreter()), str(SCRIPTS / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=self._scratch.name,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
            start_new_session=True,  # some peers start processes of their own: all are ended together
        )
        try:
            self._read("ready")
        except PeerUnavailableError:
            self.close()
            raise

    def measure(self, name: str) -> float:
        """Have the peer measure once."""
        assert self._process.stdin is not None
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        return float(self._read(name).split()[1])

    def close(self) -> None:
        """End the peer: its input ends; a moment later it is killed, with all that it started."""
        for stream in (self._process.stdin, self._process.stdout, self._log):
            assert stream is not None
            with suppress(OSError):  # what was asked last may lie in a broken pipe
                stream.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(FAREWELL_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._scratch.cleanup()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, word: str) -> str:
        """Return the next line that begins with `word`; peers also print what they like."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.split()[:1] == [word]:
                return line
        self._log.seek(0)
        said = self._log.read().strip().splitlines()[-2:]
        raise PeerUnavailableError(f"{self.script} ended: {' '.join(said)}")


@contextmanager
def peer_or_none(
    effort: Effort, script: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[Peer | None]:
    """Yield a peer, or None with a note why it can't be had."""
    if not effort.peers:
        yield None
        return
    try:
        peer = Peer(script, *arguments, environment=environment)
    except (PeerUnavailableError, OSError) as error:
        note(f"no yardstick from peers/{script}: {error}")
        yield None
        return
    with peer:
        yield peer


def compare(
    ours: Callable[[], float], peer: Peer | None, name: str, effort: Effort, repeats: int | None = None
) -> tuple[float, float | None]:
    """Return the medians of ours and of the peer's measure `name`, by turns; None for a peer that is not there."""
    count = repeats or effort.repeats
    if peer is None:
        return by_turns([ours], count)[0], None
    try:
        mine, theirs = by_turns([ours, lambda: peer.measure(name)], count)
    except (PeerUnavailableError, OSError) as error:
        note(f"no yardstick from {name} of peers/{peer.script}: {error}")
        return by_turns([ours], count)[0], None
    return mine, theirs
