"""Install what the tests need beyond the virtual environment, once: `make test` runs this first.

Installs a browser, Prometheus and what real nodes need, as root on Debian, and builds the test cluster's programs and
the object store from Go modules (kept in a cache folder). What can't be had is said here, and the tests that need it
say so again.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


# Debian package and the file that says it is there: a browser, what real nodes need, what tests the alerts, and what
# builds the images.
PACKAGES = {
    "chromium": "/usr/bin/chromium",
    "iproute2": "/usr/sbin/ip",
    "nftables": "/usr/sbin/nft",
    "iptables": "/usr/sbin/iptables",
    "ipset": "/usr/sbin/ipset",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "libseccomp-dev": "/usr/include/seccomp.h",
    "pkg-config": "/usr/bin/pkg-config",
    "gcc": "/usr/bin/gcc",
    "prometheus": "/usr/bin/promtool",
    "buildah": "/usr/bin/buildah",
}


def install_packages() -> None:
    """Install the Debian packages that are missing, if this machine lets us."""
    lacking = [package for package, file in PACKAGES.items() if not Path(file).exists()]
    if not lacking:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print(f"prepare: not installed, and not to be installed here: {', '.join(lacking)}")
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment, stdout=subprocess.DEVNULL)
    install = ["apt-get", "install", "-qq", "--no-install-recommends", *lacking]
    subprocess.run(install, check=True, env=environment, stdout=subprocess.DEVNULL)


def main() -> int:
    """Prepare everything; trouble with one thing does not keep the others from being prepared."""
    failed = []
    try:
        install_packages()
    except subprocess.CalledProcessError as error:
        failed.append(f"Debian packages ({error})")
    builds = subprocess.run([sys.executable, str(TESTS / "cluster" / "build.py")], check=False)
    if builds.returncode:
        failed.append("the test cluster's programs")
    for what in failed:
        print(f"prepare: could not prepare {what}: the tests that need it will not run")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
