"""Copies of a task for a process in another virtual environment: `serve_task.py TASK WORLDS SEED`.

Prints `ready NUMBERS ACTIONS BEST`, then for each B bytes of actions on standard input writes the step as float32:
[B, numbers] to look at, [B, numbers] last seen, reward, ended and cut, [B] each. The first observation comes unasked.
"""

import sys

import numpy as np
from tasks import make


def main() -> None:
    worlds = int(sys.argv[2])
    task = make(sys.argv[1], worlds, int(sys.argv[3]))
    out = sys.stdout.buffer
    out.write(f"ready {task.numbers} {task.actions} {task.best}\n".encode())
    out.write(task.look().astype(np.float32).tobytes())
    out.flush()
    while len(told := sys.stdin.buffer.read(worlds)) == worlds:
        step = task.step(np.frombuffer(told, np.uint8).astype(np.int64))
        for part in (task.look(), step.last, step.reward, step.ended, step.cut):
            out.write(part.astype(np.float32).tobytes())
        out.flush()


if __name__ == "__main__":
    main()
