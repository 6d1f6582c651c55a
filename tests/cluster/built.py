"""The project's own images, built to their end by its own Dockerfile, without a registry and without a daemon.

buildah builds them on a base image of Debian's packages; Python packages come from the index, by hash, as they do for
everybody. What was built is kept in the cache until something that goes into the image changes.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from images import build
from tests.cluster import images
from tests.cluster.build import CACHE

COMMANDS = ("buildah", "mmdebstrap")
# Where this machine's certificates and pip's settings are, for building behind a proxy or a mirror.
LENT = ("/etc/ssl/certs", "/etc/pip.conf")


def why_not() -> str | None:
    """Return why no image can be built here, or None if it can."""
    if os.geteuid() != 0:
        return "building images without a daemon needs root"
    lacking = [command for command in COMMANDS if shutil.which(command) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else None


def image_name(part: str) -> str:
    """Return what the image of a part is called, in its archive as well."""
    return f"localhost/ada-{part}:{build.version()}"


def built(part: str) -> Path:
    """Return the archive of a part's image, built if what goes into it has changed.

    Raises:
        RuntimeError: the build failed; the message ends with the last lines of its output.
    """
    folder = CACHE / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"ada-{part}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        archive = folder / f"ada-{part}-{_content(part)}.tar"
        if not archive.exists():
            for older in folder.glob(f"ada-{part}-*.tar"):
                older.unlink()
            _build(part, archive)
        return archive


def _content(part: str) -> str:
    """Return a digest of everything that goes into an image."""
    copied = [build.ROOT / source for source in ("crds/ada_api", "operator/ada_operator", "trainer", "sim/ada_sim")]
    files = [
        path for folder in copied for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    files += [build.ROOT / "pyproject.toml", *build.DOCKERFILE.parent.glob("*"), images.base()]
    files += [build.ROOT / "locks" / f"{lock}.txt" for lock in ("build", part)]
    digest = hashlib.sha256()
    for path in sorted(path for path in files if path.is_file()):
        digest.update(f"{path.relative_to(path.anchor)} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes() if path != images.base() else b"")
    return digest.hexdigest()[:12]


@contextmanager
def storage() -> Iterator[list[str]]:
    """Yield buildah with a storage of its own, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="ada-buildah-", dir=CACHE) as folder:
        command = ["buildah", f"--root={folder}/storage", f"--runroot={folder}/run", "--storage-driver=overlay"]
        try:
            yield command
        finally:
            subprocess.run([*command, "rm", "--all"], capture_output=True, check=False)
            subprocess.run(["umount", f"{folder}/storage/overlay"], capture_output=True, check=False)


def _build(part: str, archive: Path) -> None:
    with storage() as buildah, tempfile.TemporaryDirectory(dir=archive.parent) as work:
        _run([*buildah, "pull", f"oci-archive:{images.base()}"])
        wrapper = Path(work) / "buildah"
        wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("buildah")} {" ".join(buildah[1:])} "$@"\n')
        wrapper.chmod(0o755)
        lent = [f"--volume={path}:{path}:ro" for path in LENT if Path(path).exists()]
        script = [sys.executable, str(build.ROOT / "images" / "build.py"), part, "--builder=buildah"]
        flags = [f"--python-image={images.BASE}", "--", "--isolation=chroot", "--network=host", "--pull-never", *lent]
        _run([*script, *flags], {**os.environ, "PATH": f"{work}:{os.environ['PATH']}"})
        unfinished = Path(work) / "image.tar"
        _run([*buildah, "push", image_name(part), f"docker-archive:{unfinished}:{image_name(part)}"])
        unfinished.replace(archive)


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError("\n".join([" ".join(command), *(done.stdout + done.stderr).splitlines()[-20:]]))
    return done.stdout


class Unpacked:
    """An image as a folder and its configuration, to look at and to run programs of."""

    def __init__(self, buildah: list[str], archive: Path) -> None:
        """Unpack an image's archive into buildah's storage."""
        self._buildah = buildah
        image = _run([*buildah, "pull", f"docker-archive:{archive}"]).split()[-1]
        self._container = _run([*buildah, "from", image]).strip()
        self.folder = Path(_run([*buildah, "mount", self._container]).strip())
        inspected = json.loads(_run([*buildah, "inspect", "--type=image", image]))
        self.config: dict[str, Any] = inspected["OCIv1"]["config"]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the image as the image's user, and return the result, good or bad."""
        words = [*self._buildah, "run", "--isolation=chroot", self._container, "--", *command]
        return subprocess.run(words, text=True, capture_output=True, check=False)
