"""Handing over to the other packages' programs, which this package knows by their command lines only."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

EXAMPLES = {
    "report": "ada report runs/quickstart",
    "evaluate": "ada evaluate runs/quickstart --stage student",
    "checkpoints": "ada checkpoints runs/quickstart list",
    "tasks": "ada tasks stats --experiment examples/quickstart.yaml",
    "watch": "ada watch runs/quickstart --stage student",
}


def hand_over(name: str, program: Sequence[str], words: list[str]) -> int:
    """Run `python -m PACKAGE COMMAND` with our arguments; returns its exit code.

    A run's directory as the first argument stands for its experiment and its store.
    """
    environment = dict(os.environ)
    if words and (Path(words[0]) / "experiment.json").is_file():
        words, environment["ADA_STORE"] = of_run(name, Path(words[0]).absolute(), words[1:])
    if not words or words[0] in ("-h", "--help"):
        print(
            f"example:\n  {EXAMPLES[name]}\n\nA run's directory as the first argument stands for all of it.\n",
            flush=True,
        )
        words = ["--help"]
    return run([sys.executable, "-m", *program, *words], environment)


def of_run(name: str, directory: Path, words: list[str]) -> tuple[list[str], str]:
    """Return the arguments with the run's own added, and the store's URI."""
    from ada_api.experiment import AdaExperiment
    from ada_operator.local.runner import default_store
    from ada_operator.manifests.programs import s3_uri

    file = directory / "experiment.json"
    experiment = AdaExperiment.model_validate(json.loads(file.read_text()))
    store = experiment.spec.checkpoint.store
    uri = default_store(directory) if store is None else s3_uri(store)
    if name == "checkpoints":
        return [*words, "--store", below(uri, experiment.metadata.namespace, experiment.metadata.name)], uri
    words = [*words, "--experiment", str(file)]
    outputs = {"report": "report.html", "watch": "watch.gif"}
    if name in outputs and "--output" not in words:
        words += ["--output", str(directory / outputs[name])]
    return words, uri


def below(uri: str, *names: str) -> str:
    """Return the URI of a place inside a store."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(path="/".join([parts.path.rstrip("/"), *names])))


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
