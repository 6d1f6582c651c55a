"""Where a run's numbers come from: code, packages, seeds, machine. Written to the store as `run/STAGE-ATTEMPT.json`."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from ada_api.experiment import AdaExperiment

MAX_DIFF_BYTES = 200_000
GIT_TIMEOUT_S = 10
PACKAGES = ("ada-operator", "torch", "numpy", "numba", "safetensors", "pydantic", "aiohttp", "minio")


def capture(experiment: AdaExperiment, stage: str) -> dict[str, object]:
    """Return the record of this process's code and machine as plain JSON values."""
    source = Path(__file__).resolve().parent
    diff = _git(source, "diff", "HEAD", "--", ".")
    return {
        "stage": stage,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git(source, "rev-parse", "HEAD").strip() or "not in a git checkout",
        "diff": diff[:MAX_DIFF_BYTES],
        "diff_cut": len(diff) > MAX_DIFF_BYTES,
        "seed": experiment.spec.seed,
        "task_pool_seed": experiment.spec.environment.task_pool.seed,
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        },
    }


def _git(folder: Path, *arguments: str) -> str:
    try:
        command = ["git", "-C", str(folder), *arguments]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return finished.stdout if finished.returncode == 0 else ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()
