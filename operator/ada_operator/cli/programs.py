"""Handing over to the other packages' programs, which this package knows by their command lines only."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

USAGE = 2
RUN_PROGRAMS = ("report", "evaluate", "checkpoints", "watch")
EXAMPLES = {
    "report": "ada report runs/quickstart",
    "evaluate": "ada evaluate runs/quickstart --stage student --checkpoint-uri URI --checkpoint-digest sha256:...",
    "checkpoints": "ada checkpoints runs/quickstart list",
    "tasks": "ada tasks examples/quickstart.yaml",
    "watch": "ada watch runs/quickstart --stage student",
}


def hand_over(name: str, program: Sequence[str], words: list[str]) -> int:
    """Run `python -m PACKAGE COMMAND` with our arguments.

    A run's directory as the first argument stands for its experiment file and, unless ADA_STORE is set, its store.
    """
    environment = dict(os.environ)
    if words and not words[0].startswith("-") and (Path(words[0]) / "experiment.json").is_file():
        directory = Path(words[0]).absolute()
        environment.setdefault("ADA_STORE", (directory / "store").as_uri())
        words = [*words[1:], "--experiment", str(directory / "experiment.json")]
        if name == "report" and "--output" not in words:
            words += ["--output", str(directory / "report.html")]
    if not words or words[0] in ("-h", "--help"):
        print(f"example:\n  {EXAMPLES[name]}\n", flush=True)
        if not words:
            words = ["--help"]
    command = [sys.executable, "-m", *program, *words]
    return run(command, environment)


def run(command: list[str], environment: dict[str, str]) -> int:
    """Run a program in the foreground; Ctrl-C is its business. Returns its exit code, 1 if a signal ended it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = subprocess.run(command, env=environment, check=False, preexec_fn=_default_interrupt).returncode
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 1


def _default_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
