"""The images of the node tests, made once and kept in the cache: nothing can be pulled where these tests run."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.cluster.build import CACHE, program_path
from tests.cluster.oci import write_image, write_layer

PAUSE = "ada.test/pause:1"
COREDNS = "ada.test/coredns:1"
MINIO = "ada.test/minio:1"
PYTHON = "ada.test/python:2"
BASE = "ada.test/base:1"  # what the project's own images are built on here
# Where every container of a node finds the packages of this checkout and of the virtual environment (read-only).
MOUNTED = "/opt/ada"
SUITE = "bookworm"  # its Python is 3.11; the mounted packages must be made for the same minor version
DEBIAN_PACKAGES = "python3-minimal,python3,python3-venv,ca-certificates"


def archives() -> dict[str, Path]:
    """Return the archive of each image, made if missing."""
    made = {name: _archive(name) for name in (PAUSE, COREDNS, MINIO, PYTHON)}
    for program, image in (("pause", PAUSE), ("coredns", COREDNS), ("minio", MINIO)):
        if not made[image].exists():
            _make_program_image(program, image, made[image])
    if not made[PYTHON].exists():
        _make_python_images()
    return made


def base() -> Path:
    """Return the archive of the base image, made if missing."""
    if not _archive(BASE).exists():
        _make_python_images()
    return _archive(BASE)


def _archive(image: str) -> Path:
    folder = CACHE / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{image.split('/')[1].replace(':', '-')}.tar"


def _make_program_image(program: str, image: str, archive: Path) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent) as work:
        layer = Path(work) / "layer.tar"
        write_layer(layer, {f"/{program}": program_path(program)})
        unfinished = Path(work) / "image.tar"
        write_image(unfinished, image, [layer], entrypoint=[f"/{program}"])
        unfinished.replace(archive)


def _make_python_images() -> None:
    """Make Debian's Python with nothing else in it (mmdebstrap, about half a minute), and the base image from it."""
    if shutil.which("mmdebstrap") is None:
        raise FileNotFoundError("mmdebstrap is not installed (apt-get install mmdebstrap)")
    packages = ":".join(f"{MOUNTED}/{part}" for part in ("site", "crds", "operator", "trainer", "sim"))
    with tempfile.TemporaryDirectory(dir=_archive(PYTHON).parent) as work:
        root = Path(work) / "root.tar"
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={DEBIAN_PACKAGES}", SUITE, str(root)]
        subprocess.run(command, check=True, env={**os.environ, "LC_ALL": "C"})
        links, pip = Path(work) / "links.tar", Path(work) / "pip.tar"
        write_layer(links, {}, {"/usr/bin/python": "python3"})
        # As in the official image of Python, which has a pip that the images must not have.
        write_layer(pip, {"/usr/local/bin/pip": Path("/bin/true")})
        unfinished = Path(work) / "image.tar"
        variables = {"PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"}
        write_image(unfinished, PYTHON, [root, links], environment=variables)
        unfinished.replace(_archive(PYTHON))
        write_image(unfinished, BASE, [root, links, pip])
        unfinished.replace(_archive(BASE))
