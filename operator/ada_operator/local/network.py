"""Loopback addresses in place of a cluster's DNS: 127.X.WORKLOAD.ORDINAL, where X belongs to this run alone."""

import random
import re
import socket

from ada_operator import names

PORTS = sorted({names.CURRICULUM_PORT, names.RENDEZVOUS_PORT, names.SIMULATOR_PORT, *names.HEALTH_PORTS.values()})
LARGEST_OCTET = 255
POD_ADDRESS = re.compile(r"([a-z0-9][a-z0-9-]*)-(\d+|\{ordinal\})\.\1\.[a-z0-9-]+\.svc")


class NoAddressError(RuntimeError):
    """The machine has no loopback addresses left for us."""


class Network:
    """The addresses of one run, held until closed."""

    def __init__(self, rng: random.Random) -> None:
        """Reserve a block of addresses on which none of our ports is taken."""
        self._blocks: dict[str, int] = {}
        candidates = list(range(1, LARGEST_OCTET))
        rng.shuffle(candidates)
        for candidate in candidates:
            held = _reserve(f"127.{candidate}.255.254")
            if held is not None:
                self._octet, self._held = candidate, held
                return
        raise NoAddressError(
            f"no loopback address has the ports {', '.join(map(str, PORTS))} free: a program that listens on "
            "all addresses holds one of them (`ss -ltnp` names it)"
        )

    def close(self) -> None:
        """Give the block back."""
        self._held.close()

    def address(self, workload: str, ordinal: int | str) -> str:
        """Return the address of a workload's pod."""
        if not isinstance(ordinal, str) and ordinal > LARGEST_OCTET:
            raise NoAddressError(f"{workload} asks for pod {ordinal}; one machine runs at most {LARGEST_OCTET + 1}")
        block = self._blocks.setdefault(workload, len(self._blocks))
        if block >= LARGEST_OCTET:
            raise NoAddressError(f"{workload} is workload {block}; one machine runs at most {LARGEST_OCTET}")
        return f"127.{self._octet}.{block}.{ordinal}"

    def resolved(self, text: str) -> str:
        """Return the text with every DNS name of a pod replaced by its address."""
        return POD_ADDRESS.sub(lambda found: self.address(found[1], found[2]), text)


def _reserve(address: str) -> socket.socket | None:
    """Bind the first of our ports if all are free at the address; the socket marks the block as taken."""
    held: list[socket.socket] = []
    try:
        for port in PORTS:
            one = socket.socket()
            held.append(one)
            one.bind((address, port))
    except OSError:
        for one in held:
            one.close()
        return None
    for one in held[1:]:
        one.close()
    return held[0]
