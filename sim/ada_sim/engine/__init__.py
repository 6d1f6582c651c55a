"""The simulated world: state records (`types`), small systems over them, and one schedule (`step`).

Importing this package tells numba where compiled code is kept: a folder named by the digest of the sources. numba
itself looks only at the file that holds a function, not at those it calls, and would run old code after a change.
"""

import hashlib
import os
import tempfile
from pathlib import Path

from numba import __version__ as numba_version
from numba.core import config


def _sources_digest() -> str:
    package = Path(__file__).parent.parent
    digest = hashlib.sha256(numba_version.encode())
    shared = [package / "constants.py", package / "tasks" / "task.py"]
    for path in sorted([*package.glob("engine/*.py"), *package.glob("render/*.py"), *shared]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _cache_folder() -> Path:
    """Return a writable folder for compiled code: the user's cache, or a temporary one of this user."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for base in (home / "ada-operator", Path(tempfile.gettempdir()) / f"ada-operator-{os.getuid()}"):
        folder = base / "numba" / _sources_digest()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise OSError(
        f"no writable folder for compiled code: tried {home} and {tempfile.gettempdir()}; set NUMBA_CACHE_DIR"
    )


if not os.environ.get("NUMBA_CACHE_DIR"):
    config.CACHE_DIR = str(_cache_folder())  # type: ignore[attr-defined]
