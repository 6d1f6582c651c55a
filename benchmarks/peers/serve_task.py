"""Copies of a task for a process in another virtual environment: `serve_task.py TASK WORLDS SEED`; see tasks.serve."""

import sys

from tasks import make, serve

if __name__ == "__main__":
    serve(make(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])), int(sys.argv[2]))
