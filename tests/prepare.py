"""Install what the tests need beyond the virtual environment, once: `make test` runs this first.

Builds the test cluster's programs and the object store from Go modules (kept in a cache folder) and, as root on
Debian, installs a browser. What can't be had is said here, and the tests that need it say so again.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def install_browser() -> None:
    """Install Debian's Chromium if there is none and this machine lets us."""
    if shutil.which("chromium") or shutil.which("google-chrome"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print("prepare: no Chromium found, and it can't be installed here: the tests in tests/browser will not run")
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment, stdout=subprocess.DEVNULL)
    install = ["apt-get", "install", "-qq", "--no-install-recommends", "chromium"]
    subprocess.run(install, check=True, env=environment, stdout=subprocess.DEVNULL)


def main() -> int:
    """Prepare everything; trouble with one thing does not keep the others from being prepared."""
    failed = []
    builds = subprocess.run([sys.executable, str(TESTS / "cluster" / "build.py")], check=False)
    if builds.returncode:
        failed.append("the test cluster's programs")
    try:
        install_browser()
    except subprocess.CalledProcessError as error:
        failed.append(f"Chromium ({error})")
    for what in failed:
        print(f"prepare: could not prepare {what}: the tests that need it will not run")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
