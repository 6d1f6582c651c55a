"""Build the container images with docker, podman or buildah: `make images`, or `python3 images/build.py [PART ...]`.

Needs nothing but the Python standard library. What stands after `--` goes to the builder as it is.
"""

import argparse
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = ROOT / "images" / "Dockerfile"
PARTS = ("operator", "curriculum", "simulator", "trainer")
BUILDERS = ("docker", "podman", "buildah")
CPU_LOCK = "run `make lock-cpu` first, where PyTorch's package index can be reached"


def is_usable(builder: str) -> bool:
    """Return whether a builder is installed and, for docker, has a daemon that answers."""
    if shutil.which(builder) is None:
        return False
    return builder != "docker" or subprocess.run([builder, "info"], capture_output=True, check=False).returncode == 0


def find_builder(usable: Callable[[str], bool] = is_usable) -> str:
    """Return the first builder that can be used.

    Raises:
        FileNotFoundError: none can.
    """
    for builder in BUILDERS:
        if usable(builder):
            return builder
    raise FileNotFoundError("images are built by docker (with its daemon running), podman or buildah: install one")


def lock_of(part: str, accelerator: str) -> str:
    """Return the name of the lock file, without its ending, that an image's packages come from.

    Raises:
        FileNotFoundError: there is no such file.
    """
    lock = f"{part}-cpu" if part == "trainer" and accelerator == "cpu" else part
    if not (ROOT / "locks" / f"{lock}.txt").exists():
        raise FileNotFoundError(f"locks/{lock}.txt is missing: {CPU_LOCK if accelerator == 'cpu' else '`make lock`'}")
    return lock


def command(builder: str, image: str, arguments: dict[str, str], flags: list[str]) -> list[str]:
    """Return the command line that builds one image."""
    settings = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    ignored = [] if builder == "docker" else [f"--ignorefile={DOCKERFILE}.dockerignore"]
    return [builder, "build", f"--file={DOCKERFILE}", f"--tag={image}", *settings, *ignored, *flags, str(ROOT)]


def version() -> str:
    """Return the project's version."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def revision() -> str:
    """Return the commit that is checked out, marked if files differ from it; `unknown` without git or a repository."""
    if shutil.which("git") is None:
        return "unknown"
    described = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def parse(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the command line, understood, and what goes to the builder."""
    ours, theirs = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    parser = argparse.ArgumentParser("images/build.py", description="Build the container images.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which ones: {', '.join(PARTS)}; all, if none named")
    parser.add_argument("--registry", default="", metavar="R", help="put before the images' names")
    parser.add_argument("--tag", default=version(), metavar="T", help="tag; the project's version, if not given")
    parser.add_argument(
        "--accelerator", choices=("cuda", "cpu"), default="cuda", help="what the trainer's torch is for"
    )
    parser.add_argument("--python-image", metavar="I", help="base image; give it by digest to have the same one always")
    parser.add_argument("--builder", choices=BUILDERS, help="the first that is there, if not given")
    found = parser.parse_args(ours)
    unknown = sorted(set(found.parts) - set(PARTS))
    if unknown:
        parser.error(f"no such image: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return found, theirs


def main(words: list[str]) -> int:
    """Build what was asked for; 0 if all went well."""
    options, flags = parse(words)
    try:
        builder = options.builder or find_builder()
        for part in options.parts or PARTS:
            arguments = {
                "PART": lock_of(part, options.accelerator),
                "VERSION": options.tag,
                "REVISION": revision(),
                **({"PYTHON_IMAGE": options.python_image} if options.python_image else {}),
            }
            registry = f"{options.registry.rstrip('/')}/" if options.registry else ""
            image = f"{registry}ada-{part}:{options.tag}"
            sys.stderr.write(f"images: {image} with {builder}\n")
            done = subprocess.run(command(builder, image, arguments, flags), check=False).returncode
            if done:
                return done
    except FileNotFoundError as error:
        sys.stderr.write(f"images: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
