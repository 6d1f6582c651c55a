"""`python -m ada_trainer launch`: one node of a training group, as torchrun would run it.

    check the configuration -> serve health and metrics -> join the rendezvous -> start workers, keep them going
    -> leave with 0 (trained), 75 (told to stop), 78 (can't work) or 1

The rendezvous store is a program of its own, so losing any node leaves the others a place to meet. Losing the store
itself stops the workers, with a commit, until it is back.
"""

import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ada_trainer.elastic.memory import SLOTS_VARIABLE, make_slots
from ada_trainer.elastic.names import AGENT_VARIABLE
from ada_trainer.elastic.processes import own_address, split_address, wait_for_listener
from ada_trainer.elastic.template import member, start_template, wait_for_template
from ada_trainer.elastic.verdict import agent_exit_code
from ada_trainer.exits import EXIT_CONFIGURATION, EXIT_DONE, EXIT_STOPPED, EXIT_TROUBLE, ConfigurationError
from ada_trainer.metrics import METRICS_DIRECTORY_VARIABLE, NodePage
from ada_trainer.settings import Settings, parse, read_settings, to_arguments
from ada_trainer.threads import OMP_VARIABLE, threads

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

WORKER_RESTARTS = 3  # of this node's workers, for failures of their own, before the node gives up
MONITOR_INTERVAL_S = 0.25
SHUTDOWN_S = 120  # a worker's time to finish its step and commit; shorter than the pod's grace period
EXIT_BARRIER_S = 30.0
STORE_PATIENCE_S = 300.0
STORE_PAUSE_S = 1.0
# torch's own defaults notice a dead node after 15 s and wait 30 s for more nodes than the fewest; values are whole
# seconds. A node's heartbeat comes from a thread of the agent, which does nothing else.
RENDEZVOUS = {
    "is_host": "0",
    "read_timeout": 20,
    "join_timeout": 600,
    "last_call_timeout": 3,
    "close_timeout": 5,
    "heartbeat_timeout": 5,
    "keep_alive_interval": 1,
    "keep_alive_max_attempt": 5,
    "timeout": 600,
}

logger = logging.getLogger("ada_trainer.launch")


class ToldToStop(Exception):  # noqa: N818 - not an error
    """SIGTERM came while no worker ran."""


class StoreLostError(Exception):
    """The rendezvous store does not answer, or not what it was asked."""


def main(arguments: Sequence[str]) -> int:
    """Run the program; returns its exit code."""
    options = parse("launch", arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _answer_signals()
    scratch = Path(tempfile.mkdtemp(prefix="ada-launch-"))
    try:
        settings = read_settings(options)
        if is_trained(settings):
            logger.info("stage %s is trained already", settings.stage.name)
            return EXIT_DONE
        page = NodePage(scratch, settings.name, settings.stage.name)
        page.serve(settings.host, settings.port)
        logger.info("stage %s: waiting for the group at %s", settings.stage.name, settings.rendezvous_address)
        prepare_environment(settings, scratch)
        start_template()
        return keep_going(settings, to_arguments(options), scratch, page)
    except ToldToStop:
        return EXIT_STOPPED
    except ConfigurationError as error:
        say(str(error))
        return EXIT_CONFIGURATION
    except (OSError, StoreLostError) as error:
        say(f"{type(error).__name__}: {error}")
        return EXIT_TROUBLE
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def is_trained(settings: Settings) -> bool:
    """Return whether the curriculum service says that the stage has all its frames; False if it can't be asked."""
    from ada_curriculum.client import CurriculumClient, CurriculumError

    try:
        with CurriculumClient(settings.curriculum_address, settings.token, patience_s=5.0) as client:
            stages = client.progress().stages
    except CurriculumError as error:
        logger.warning("%s", error)
        return False
    return any(
        progress.stage == settings.stage.name
        and progress.phase == "trained"
        and progress.frames >= settings.stage.frames
        and settings.resume is None
        for progress in stages
    )


def prepare_environment(settings: Settings, scratch: Path) -> None:
    """Set what torch's agent and the workers find in the environment."""
    # Without this a node that comes back waits for an address that is never published again (seen with torch 2.15).
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    os.environ[METRICS_DIRECTORY_VARIABLE] = str(scratch)
    os.environ[AGENT_VARIABLE] = str(os.getpid())
    workers = settings.stage.trainer.workers_per_node
    os.environ[SLOTS_VARIABLE] = make_slots(workers)
    os.environ.setdefault(OMP_VARIABLE, str(threads(os.environ, workers)))
    host, port = split_address(settings.rendezvous_address)
    address = own_address(settings.host, host, port)
    if address.startswith("127.") or address == "::1":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")


def keep_going(settings: Settings, arguments: list[str], scratch: Path, page: NodePage) -> int:
    """Run agents until one ends for good: a lost rendezvous store is waited for, anything else is an answer."""
    while True:
        _answer_signals()  # torch's agent leaves its own handlers behind
        wait_for_store(settings)
        try:
            return run_agent(settings, arguments, scratch, page)
        except StoreLostError as error:
            logger.warning("%s; meeting again when it is there", error)


def wait_for_store(settings: Settings) -> None:
    """Wait, bounded, until the rendezvous store listens. Raises StoreLostError."""
    host, port = split_address(settings.rendezvous_address)
    give_up = time.monotonic() + STORE_PATIENCE_S
    while not wait_for_listener(host, port, timeout_s=5.0):
        if time.monotonic() > give_up:
            raise StoreLostError(
                f"the rendezvous store at {settings.rendezvous_address} did not listen for {STORE_PATIENCE_S:g} s"
            )
        time.sleep(STORE_PAUSE_S)


def run_agent(settings: Settings, arguments: list[str], scratch: Path, page: NodePage) -> int:
    """Join the rendezvous, start workers and watch them until they are done or can't go on; returns the exit code."""
    from torch.distributed.elastic.agent.server.api import WorkerSpec
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters, registry
    from torch.distributed.elastic.rendezvous.api import (
        RendezvousClosedError,
        RendezvousConnectionError,
        RendezvousTimeoutError,
    )

    from ada_trainer.elastic.agent import MeetingBrokenError, TrainerAgent, forget, leave_out_call_stacks

    leave_out_call_stacks()
    wait_for_template()
    host, port = split_address(settings.rendezvous_address)
    handler: RendezvousHandler | None = None
    try:
        handler = registry.get_rendezvous_handler(
            RendezvousParameters(
                backend="c10d",
                endpoint=settings.rendezvous_address,
                run_id=settings.rendezvous_id,
                min_nodes=settings.min_nodes,
                max_nodes=settings.max_nodes,
                local_addr=own_address(settings.host, host, port),
                **RENDEZVOUS,
            )
        )
        spec = WorkerSpec(
            role="trainer",
            local_world_size=settings.stage.trainer.workers_per_node,
            entrypoint=member,
            args=tuple(arguments),
            rdzv_handler=handler,
            max_restarts=WORKER_RESTARTS,
            monitor_interval=MONITOR_INTERVAL_S,
        )
        logs = DefaultLogsSpecs(log_dir=str(scratch / "workers"))
        agent = TrainerAgent(
            spec,
            logs,
            start_method="forkserver",
            restarts=page.restarts,
            exit_barrier_timeout=EXIT_BARRIER_S,
            shutdown_timeout=SHUTDOWN_S,
        )
        page.ready = lambda: agent.started
        result = agent.run()
    except SignalException as error:
        logger.info("told to stop by signal %s; the workers have left", error.sigval)
        return EXIT_STOPPED
    except RendezvousConnectionError as error:
        forget(handler)
        raise StoreLostError(f"the rendezvous store at {settings.rendezvous_address} is lost: {error}") from error
    except MeetingBrokenError as error:
        forget(handler)
        raise StoreLostError(f"the meeting at {settings.rendezvous_address} broke off: {error}") from error
    except (RendezvousClosedError, RendezvousTimeoutError) as error:
        say(f"rendezvous {settings.rendezvous_id}: {type(error).__name__}: {error}")
        return EXIT_TROUBLE
    finally:
        page.ready = lambda: False
    if not result.is_failed():
        return EXIT_DONE
    return explain(result.failures.values())


def explain(failures: Iterable["ProcessFailure"]) -> int:
    """Say on the last line of stderr why the workers ended; returns the agent's exit code."""
    ordered = sorted(failures, key=lambda failure: failure.timestamp)
    code = agent_exit_code([failure.exitcode for failure in ordered])
    first = next((failure for failure in ordered if failure.exitcode == code), ordered[0])
    say(f"worker {first.local_rank} ended with {first.exitcode}: {first.message}")
    return code


def say(message: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write("ada_trainer launch: " + " ".join(message.split()) + "\n")
    sys.stderr.flush()


def _answer_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)


def _stop(number: int, frame: object) -> None:
    raise ToldToStop
