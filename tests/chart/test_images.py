"""The Dockerfile takes only what is there, and the build uses whatever builder the machine has."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from images import build
from tests.cluster import built

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


@pytest.fixture(scope="module")
def operator_image():
    reason = built.why_not()
    if reason:
        pytest.skip(reason)
    archive = built.built("operator")
    with built.storage() as buildah:
        yield built.Unpacked(buildah, archive)


@pytest.mark.timeout(900)
def test_the_image_that_is_built_says_what_it_is_and_runs_as_nobody(operator_image):
    config = operator_image.config
    assert config["User"] == "65532:65532"
    assert (config["Cmd"], config.get("Entrypoint")) == (["ada", "--help"], None)
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert (labels["title"], labels["version"]) == ("ada-operator", build.version())
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", labels["revision"])
    assert operator_image.run("id", "-u").stdout == "65532\n"
    assert "Run the operator against a Kubernetes cluster." in operator_image.run("ada", "operator", "--help").stdout


def test_what_is_in_the_image_can_neither_be_changed_nor_build_anything(operator_image):
    writable = "import os; print([p for p, _, _ in os.walk('/') if os.access(p, os.W_OK) and p.count('/') < 4])"
    allowed = {"/tmp", "/var/tmp", "/dev", "/proc", "/run/lock"}
    found = set(ast.literal_eval(operator_image.run("python", "-c", writable).stdout))
    assert {place for place in found if not place.startswith(("/proc/", "/dev/", "/sys/"))} <= allowed
    assert operator_image.run("sh", "-c", "command -v pip pip3 gcc cc wheel").stdout == ""
    for python in ("/opt/ada/bin/python", "/usr/bin/python3"):
        assert "No module named 'pip'" in operator_image.run(python, "-c", "import pip").stderr


def test_the_image_holds_what_its_part_needs_and_little_more(operator_image):
    ours = operator_image.folder / "opt" / "ada"
    size = sum(path.lstat().st_size for path in ours.rglob("*"))
    assert size < 220e6, f"{size / 1e6:.0f} MB"
    assert operator_image.run("python", "-c", "import ada_operator.program, ada_api.experiment").returncode == 0
    assert operator_image.run("python", "-c", "import numba").returncode != 0
