"""The simulated world: state records (`types`), small systems over them, and one schedule (`step`).

Importing this package tells numba where compiled code is kept: a folder named by the digest of the sources. numba
itself looks only at the file that holds a function, not at those it calls, and would run old code after a change.
"""

import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from numba import __version__ as numba_version
from numba.core import config

KEPT_FOLDERS = 4
KEPT_S = 7 * 24 * 3600.0


def _sources_digest() -> str:
    package = Path(__file__).parent.parent
    digest = hashlib.sha256(numba_version.encode())
    shared = [package / "constants.py", package / "tasks" / "task.py", package / "tasks" / "encoding.py"]
    drawing = [package / "render" / name for name in ("bodies.py", "first_person.py", "palette.py")]
    for path in sorted([*package.glob("engine/*.py"), *drawing, *shared]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _forget_old(caches: Path) -> None:
    """Delete what was compiled from older sources, but for the newest folders and those that were used in this week."""
    folders = []
    for folder in caches.iterdir():
        try:
            folders.append((folder.stat().st_mtime, folder))
        except OSError:  # another process deleted it
            continue
    for used, folder in sorted(folders, reverse=True)[KEPT_FOLDERS:]:
        if used < time.time() - KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)


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
            os.utime(folder)
            _forget_old(folder.parent)
            return folder
    raise OSError(
        f"no writable folder for compiled code: tried {home} and {tempfile.gettempdir()}; set NUMBA_CACHE_DIR"
    )


def code_folder() -> Path:
    """Return the folder where compiled code is kept."""
    return Path(config.CACHE_DIR)  # type: ignore[attr-defined]


if not os.environ.get("NUMBA_CACHE_DIR"):
    config.CACHE_DIR = str(_cache_folder())  # type: ignore[attr-defined]
