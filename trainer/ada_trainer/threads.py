"""How many threads a process computes with, where nobody has set OMP_NUM_THREADS."""

import os
from collections.abc import Mapping

from ada_trainer.exits import ConfigurationError

OMP_VARIABLE = "OMP_NUM_THREADS"
# Set in a cluster, where a pod must not take the cores of its neighbours: the threads of each process.
SHARE_VARIABLE = "ADA_THREADS"


def threads(environment: Mapping[str, str], processes: int = 1) -> int:
    """Return the threads of each of so many processes: the given share, or else this machine's cores among them.

    Raises:
        ConfigurationError: the share is no number from 1.
    """
    share = environment.get(SHARE_VARIABLE)
    if not share:
        return max(1, len(os.sched_getaffinity(0)) // processes)
    if not (share.isascii() and share.isdigit() and int(share) > 0):
        raise ConfigurationError(f"{SHARE_VARIABLE} is {share!r}, not a number from 1")
    return int(share)
