"""`python -m ada_trainer COMMAND`: every program of the trainer. Each command loads only what it needs."""

import importlib
import sys
from collections.abc import Sequence

from ada_trainer.exits import EXIT_DONE, EXIT_USAGE

COMMANDS = {
    "rendezvous": ("ada_trainer.rendezvous", "the store where trainer nodes meet"),
    "launch": ("ada_trainer.launch", "one trainer node: starts its workers and keeps them going"),
    "train": ("ada_trainer.loop", "one worker; started by launch"),
    "evaluate": ("ada_trainer.evaluation.program", "scores of a checkpoint on held-out tasks"),
    "report": ("ada_trainer.report.program", "one HTML page about an experiment"),
    "watch": ("ada_trainer.watch", "a video of the agent at work"),
    "checkpoints": ("ada_trainer.checkpoints_cli", "list, verify, prune or copy checkpoints"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; returns the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return EXIT_DONE if words else EXIT_USAGE
    if words[0] not in COMMANDS:
        sys.stderr.write(f"ada_trainer: no command {words[0]!r}; there are {', '.join(COMMANDS)}\n")
        return EXIT_USAGE
    module = importlib.import_module(COMMANDS[words[0]][0])
    code: int = module.main(words[1:])
    return code


def usage() -> str:
    """Return the list of commands."""
    lines = [f"  {name:<12} {purpose}" for name, (_, purpose) in COMMANDS.items()]
    return "\n".join(["usage: python -m ada_trainer COMMAND ...", "", *lines, ""])


if __name__ == "__main__":
    raise SystemExit(main())
