"""The template: a process of the node that has loaded all that a worker needs, and of which each worker is a copy.

Loading torch costs seconds of processor time, and every membership starts its workers anew: the whole group would wait.
`multiprocessing`'s fork server does the copying; it computes nothing and opens no device, so its copies are clean.
"""

import multiprocessing
import os
from multiprocessing import forkserver

from ada_trainer.elastic.names import TEMPLATE_VARIABLE
from ada_trainer.elastic.processes import die_with_parent, name_process

PRELOADED = "ada_trainer.elastic.preloaded"
WORKER_NAME = "ada-worker"  # as `ps -e` shows it; at most 15 letters


def start_template() -> None:
    """Start the template of this agent's workers; the environment must be complete. It ends with the agent."""
    forkserver.set_forkserver_preload([PRELOADED])
    forkserver.ensure_running()


def wait_for_template() -> None:
    """Wait until the template has loaded everything: who meets the others before that keeps all of them waiting."""
    copy = multiprocessing.get_context("forkserver").Process(target=be_ready)
    copy.start()
    copy.join()


def be_ready() -> None:
    """Do nothing, as a copy of the template, which makes none before it is loaded."""


def member(*arguments: str) -> None:
    """Be a worker with these arguments of `train`; returns if it is done, else ends the process with its exit code."""
    die_with_parent(int(os.environ[TEMPLATE_VARIABLE]))
    name_process(WORKER_NAME)
    from ada_trainer.loop import work  # loaded already, but not in the agent, which only names this function

    if (code := work(arguments)) != 0:
        # Threads of torch's collectives may still wait for peers that are gone; nothing is left to be done for them.
        os._exit(code)
