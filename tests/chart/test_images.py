"""The Dockerfile takes only what is there, and the build uses whatever builder the machine has."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from images import build

ROOT = Path(__file__).parents[2]


def instructions():
    """Return (instruction, rest) of the Dockerfile, continued lines joined."""
    text = build.DOCKERFILE.read_text(encoding="utf-8")
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1].strip()) for line in lines if line.strip()]


def stages():
    """Return the instructions of each stage, after those before the first."""
    found = [[]]
    for one in instructions():
        if one[0] == "FROM":
            found.append([])
        found[-1].append(one)
    return found[1:]


def requirements(lock):
    """Return the version of each package that a lock file names; several where they depend on the Python version."""
    text = (ROOT / "locks" / f"{lock}.txt").read_text(encoding="utf-8")
    found = {}
    for name, version in re.findall(r"^([a-z0-9-]+)(?:\[[^]]*\])?==(\S+)", text, re.MULTILINE):
        found.setdefault(name, set()).add(version)
    assert len(re.findall("--hash=sha256:", text)) >= len(found) > 0
    return found


@pytest.mark.parametrize("part", build.PARTS)
def test_everything_that_an_image_copies_is_there_and_not_ignored(part):
    kept = (build.DOCKERFILE.with_name("Dockerfile.dockerignore")).read_text().splitlines()
    assert kept[0] == "*"
    for name, rest in stages()[0]:
        if name != "COPY":
            continue
        for source in rest.replace("${PART}", part).split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(Path(source).match(line[1:]) for line in kept if line.startswith("!")), f"{source} is ignored"


def test_the_image_runs_as_nobody_in_particular_and_has_no_builder_in_it():
    *_, last = stages()
    assert ("USER", "65532:65532") in last
    assert not [rest for name, rest in last if name in ("HEALTHCHECK", "ADD", "ENTRYPOINT")]
    (only,) = [rest for name, rest in last if name == "RUN"]
    assert only.startswith("rm -rf /usr/local/bin/pip"), "the base image's pip is taken away, and nothing else is run"
    assert [rest for name, rest in last if name == "COPY"] == ["--from=build /opt/ada /opt/ada"]
    labels = next(rest for name, rest in last if name == "LABEL")
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in labels


def test_no_package_is_installed_without_its_hash():
    installs = [
        step for name, rest in instructions() if name == "RUN" for step in rest.split("&&") if " install " in step
    ]
    assert len(installs) == 3
    for step in installs:
        assert "--require-hashes" in step or "--no-index" in step


@pytest.mark.parametrize("lock", [*build.PARTS, "build"])
def test_images_have_the_versions_that_were_tested(lock):
    tested = requirements("dev")
    assert {name: versions for name, versions in requirements(lock).items() if tested.get(name) != versions} == {}


def test_only_the_trainer_has_torch_and_only_the_operator_kopf():
    assert {part for part in build.PARTS if "torch" in requirements(part)} == {"trainer"}
    assert {part for part in build.PARTS if "kopf" in requirements(part)} == {"operator"}


@pytest.mark.parametrize(
    ("there", "chosen"),
    [({"docker", "podman", "buildah"}, "docker"), ({"podman", "buildah"}, "podman"), ({"buildah"}, "buildah")],
    ids=["docker first", "podman without docker", "buildah alone"],
)
def test_the_first_builder_that_works_is_used(there, chosen):
    assert build.find_builder(there.__contains__) == chosen


def run_build(path, *arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "images" / "build.py"), *arguments],
        env={**os.environ, "PATH": str(path)},
        text=True,
        capture_output=True,
        check=False,
    )


def test_without_a_builder_the_error_says_which_ones_there_are(tmp_path):
    done = run_build(tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr == "images: images are built by docker (with its daemon running), podman or buildah: install one\n"
    )


def test_a_builder_is_told_what_to_build_and_its_failure_is_ours(tmp_path):
    builder = tmp_path / "buildah"
    builder.write_text('#!/bin/sh\nfor word; do echo "$word"; done\nexit 5\n')
    builder.chmod(0o755)
    done = run_build(
        tmp_path,
        "operator",
        "--registry=registry.example/ada/",
        "--tag=3",
        "--python-image=base@sha256:0",
        "--",
        "--layers",
    )
    assert done.returncode == 5
    words = done.stdout.splitlines()
    assert words[0] == "build" and words[-1] == str(ROOT)
    assert {"--tag=registry.example/ada/ada-operator:3", "--build-arg=PART=operator", "--layers"} <= set(words)
    assert {"--build-arg=VERSION=3", "--build-arg=PYTHON_IMAGE=base@sha256:0"} <= set(words)


def test_a_trainer_for_cpus_needs_a_lock_file_of_its_own(tmp_path):
    if (ROOT / "locks" / "trainer-cpu.txt").exists():
        assert build.lock_of("trainer", "cpu") == "trainer-cpu"
    else:
        with pytest.raises(FileNotFoundError, match="make lock-cpu"):
            build.lock_of("trainer", "cpu")
    assert build.lock_of("simulator", "cpu") == "simulator"


@pytest.mark.skipif(os.environ.get("ADA_TEST_LONG") != "1", reason="ADA_TEST_LONG=1 builds an image")
@pytest.mark.timeout(900)
def test_an_image_is_built_and_runs_without_a_network_of_registries(tmp_path):
    lacking = [name for name in ("buildah", "mmdebstrap") if shutil.which(name) is None]
    if lacking or os.geteuid() != 0:
        pytest.skip(f"needs root, buildah and mmdebstrap; lacking: {lacking}")
    root = tmp_path / "root.tar"
    packages = "python3,python3-venv,ca-certificates"
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", "bookworm", root], check=True
    )
    storage = ["--root", str(tmp_path / "storage"), "--runroot", str(tmp_path / "run"), "--storage-driver=vfs"]

    def buildah(*arguments):
        return subprocess.run(
            ["buildah", *storage, *map(str, arguments)], check=True, text=True, capture_output=True
        ).stdout.strip()

    base = buildah("from", "scratch")
    buildah("add", base, root)
    buildah("commit", base, "localhost/ada-test-base")
    wrapper = tmp_path / "bin" / "buildah"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("buildah")} {" ".join(storage)} "$@"\n')
    wrapper.chmod(0o755)
    path = f"{wrapper.parent}:{os.environ['PATH']}"
    flags = ["--isolation=chroot", "--network=host", "--volume=/etc/ssl/certs:/etc/ssl/certs:ro"]
    done = run_build(path, "operator", "--builder=buildah", "--python-image=localhost/ada-test-base", "--", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    container = buildah("from", f"localhost/ada-operator:{build.version()}")
    run = ("run", "--isolation=chroot", container, "--")
    assert "Run the operator against a Kubernetes cluster." in buildah(*run, "ada", "operator", "--help")
    assert buildah(*run, "id", "-u") == "65532"
