"""`helm test`: wait until all replicas behind a name are healthy and one of them leads. Arguments: name, replicas."""

import socket
import sys
import time
import urllib.error
import urllib.request

PORT = 8080
PATIENCE_S = 120.0
LEADS = "ada_operator_leading 1.0"


def get(address: str, path: str) -> str:
    """Return what a replica answers."""
    host = f"[{address}]" if ":" in address else address
    with urllib.request.urlopen(f"http://{host}:{PORT}{path}", timeout=5) as response:
        text: str = response.read().decode()
        return text


def trouble(name: str, replicas: int) -> str | None:
    """Return what is not as it should be, or None."""
    try:
        found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(name, PORT, type=socket.SOCK_STREAM)})
    except OSError as error:
        return f"{name} has no address: {error}"
    if len(found) != replicas:
        return f"{len(found)} of {replicas} replicas are ready"
    leaders = 0
    for address in found:
        try:
            get(address, "/healthz")
            leaders += LEADS in get(address, "/metrics").splitlines()
        except (OSError, urllib.error.URLError) as error:
            return f"the replica at {address} does not answer: {error}"
    return None if leaders == 1 else f"{leaders} of {replicas} replicas lead"


def main() -> int:
    """Look until all is well or patience ends."""
    name, replicas = sys.argv[1], int(sys.argv[2])
    end = time.monotonic() + PATIENCE_S
    while (found := trouble(name, replicas)) and time.monotonic() < end:
        time.sleep(1)
    sys.stdout.write(f"{found or f'{replicas} replicas are healthy, one of them leads'}\n")
    return int(found is not None)


raise SystemExit(main())
