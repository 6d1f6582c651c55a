"""`ada run`: train an experiment on this machine, from the first stage to the report."""

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ada_operator.cli import DONE, TROUBLE, USAGE, parser

if TYPE_CHECKING:
    from ada_api.status import ExperimentStatus
    from ada_operator.local.metrics import MetricsPage
    from ada_operator.local.runner import Look, Show

STOPPED = 75
LAST_LINES = 5


def arguments_parser() -> argparse.ArgumentParser:
    """Return the parser of `ada run`."""
    wanted = parser(
        "run",
        "ada run examples/quickstart.yaml --set spec.seed=3",
        "Train an experiment on this machine. What it learned is kept in the run's directory; the same command goes on "
        "where it stopped. Ctrl-C commits and stops; a second Ctrl-C kills.",
    )
    wanted.add_argument("file", type=Path, help="YAML or JSON file with an AdaExperiment")
    wanted.add_argument("--directory", type=Path, help="where the run is kept (default: runs/NAME)")
    wanted.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="change a field of the file")
    wanted.add_argument("--fresh", action="store_true", help="delete what a former run left in the directory")
    wanted.add_argument("--plain", action="store_true", help="print lines instead of a live display")
    wanted.add_argument("--json", action="store_true", help="print the last status as JSON, progress on stderr")
    wanted.add_argument(
        "--metrics",
        action="store_true",
        help="serve the experiment's metrics, and list all that Prometheus can scrape in DIRECTORY/"
        "prometheus-targets.json",
    )
    wanted.add_argument("--no-report", action="store_true", help="write no report at the end")
    return wanted


def main(arguments: Sequence[str]) -> int:
    """Run; returns 0 succeeded, 1 failed, 2 bad input, 75 stopped on request."""
    options = arguments_parser().parse_args(arguments)
    from ada_operator.cli.display import display
    from ada_operator.cli.experiment_file import ExperimentFileError, read_experiment
    from ada_operator.local.directory import DirectoryError, RunDirectory
    from ada_operator.local.metrics import MetricsPage
    from ada_operator.local.network import NoAddressError
    from ada_operator.local.runner import Runner

    if not sys.platform.startswith("linux"):
        print("ada run: needs Linux (loopback addresses 127.x.y.z, prctl)", file=sys.stderr)
        return USAGE
    try:
        experiment = read_experiment(options.file, options.set)
        path = options.directory or Path("runs") / experiment.metadata.name
        directory = RunDirectory(path, experiment, fresh=options.fresh)
    except (ExperimentFileError, DirectoryError) as error:
        print(f"ada run: {error}", file=sys.stderr)
        return USAGE
    try:
        with contextlib.ExitStack() as stack:
            show = stack.enter_context(display(experiment, live=not (options.plain or options.json), output=sys.stderr))
            if options.metrics:
                show = watched(stack.enter_context(MetricsPage(experiment, directory.path)), show)
            runner = Runner(experiment, directory, show)
            status = runner.run()
        code = explain(status, directory.path, interrupted=runner.was_interrupted)
        if code == DONE and not options.no_report:
            code = write_report(directory.path)
    except (NoAddressError, OSError) as error:
        print(f"ada run: {error}", file=sys.stderr)
        return TROUBLE
    finally:
        directory.close()
    if options.json:
        print(json.dumps(status.model_dump(mode="json", by_alias=True)))
    return code


def watched(page: "MetricsPage", show: "Show") -> "Show":
    """Return a way of showing that keeps the metrics up to date as well."""

    def both(look: "Look") -> None:
        page.show(look.status, look.targets)
        show(look)

    return both


def explain(status: "ExperimentStatus", directory: Path, *, interrupted: bool) -> int:
    """Say how the run ended; returns the exit code."""
    from ada_operator import conditions
    from ada_operator.cli.display import score_table

    refused = conditions.find(status.conditions, "Accepted")
    if refused is not None and refused.status == "False":
        print(f"ada run: {refused.message}{credentials_hint(refused.message)}", file=sys.stderr)
        return USAGE
    if status.phase == "Succeeded":
        print(score_table(status), file=sys.stderr)
        return DONE
    failed = conditions.find(status.conditions, "Failed")
    if failed is not None and failed.status == "True":
        print(f"ada run: failed: {failed.reason}: {failed.message}", file=sys.stderr)
        print(f"ada run: logs are in {directory / 'logs'}", file=sys.stderr)
        return TROUBLE
    if status.phase == "Suspended":
        how = "stopped" if interrupted else "suspended by spec.suspend"
        print(f"ada run: {how}; the same command goes on from {committed(status)}", file=sys.stderr)
    else:
        print(f"ada run: killed; the same command goes on from {committed(status)}", file=sys.stderr)
    return STOPPED


def committed(status: "ExperimentStatus") -> str:
    """Return what is safe, in words."""
    if status.checkpoint is None:
        return f"the start of stage {status.stage}"
    return f"frame {status.checkpoint.frames:,} of stage {status.stage}"


def credentials_hint(message: str) -> str:
    """Return what to do about a missing Secret or ConfigMap where there is no cluster."""
    if "Secret" in message:
        return ". On one machine: set ADA_STORE_ACCESS_KEY and ADA_STORE_SECRET_KEY"
    if "ConfigMap" in message:
        return ". On one machine: set ADA_STORE_CA to the store's CA file; write a template's text into the experiment"
    return ""


def write_report(directory: Path) -> int:
    """Write the report; returns the exit code."""
    from ada_operator.cli.programs import of_run

    output = directory / "report.html"
    words, uri = of_run("report", directory, [])
    command = [sys.executable, "-m", "ada_trainer", "report", *words]
    done = subprocess.run(command, env={**os.environ, "ADA_STORE": uri}, capture_output=True, text=True, check=False)
    if done.returncode == 0 and output.exists():
        print(f"report: {output}", file=sys.stderr)
        return DONE
    said = "\n".join((done.stderr.strip() or "it said nothing").splitlines()[-LAST_LINES:])
    print(f"ada run: training succeeded, but the report failed (exit code {done.returncode}): {said}", file=sys.stderr)
    print(f"ada run: try it again with: ada report {directory}", file=sys.stderr)
    return TROUBLE
