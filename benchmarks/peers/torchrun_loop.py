"""What one first writes for an elastic group: an all-reduce a step, with torch's defaults.

torchrun starts it, in our own environment.
Each step leaves a line in a file: the process, and how many workers its group has.
"""

import os
import sys
import time

import torch
import torch.distributed


def main(path: str) -> None:
    """Step until ended."""
    torch.distributed.init_process_group("gloo")
    gradient = torch.ones(100_000)
    with open(path, "a", encoding="utf-8", buffering=1) as log:  # noqa: PTH123 - line by line
        launcher = os.getppid()
        while os.getppid() == launcher:  # nobody is left to end a worker whose launcher is gone
            torch.distributed.all_reduce(gradient.fill_(1))
            log.write(f"{os.getpid()} {torch.distributed.get_world_size()}\n")
            time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1])
