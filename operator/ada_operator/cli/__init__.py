"""The `ada` command. Each subcommand loads only what it needs, so that help and completion are quick."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

DONE, TROUBLE, USAGE = 0, 1, 2


@dataclass(frozen=True)
class Command:
    """A subcommand: the module with `add_arguments` and `run`, or the program that it hands over to."""

    purpose: str
    module: str | None = None
    program: tuple[str, ...] = ()
    example: str = ""


COMMANDS = {
    "run": Command("train an experiment on this machine", "ada_operator.cli.run"),
    "validate": Command("check an experiment file", "ada_operator.cli.validate"),
    "report": Command("write the HTML report of a run", program=("ada_trainer", "report")),
    "evaluate": Command("score a checkpoint on held-out tasks", program=("ada_trainer", "evaluate")),
    "operator": Command("run the operator in a cluster", "ada_operator.cli.operator"),
    "checkpoints": Command("list, verify, prune or copy checkpoints", program=("ada_trainer", "checkpoints")),
    "tasks": Command("look at tasks: words, pictures, figures", program=("ada_sim", "tasks")),
    "watch": Command("make a video of an agent at work", program=("ada_trainer", "watch")),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `ada`; returns 0 done, 1 trouble, 2 bad input."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return DONE if words else USAGE
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"ada {version('ada-operator')}")
        return DONE
    command = COMMANDS.get(words[0])
    if command is None:
        print(f"ada: there is no command {words[0]!r}; `ada --help` lists them", file=sys.stderr)
        return USAGE
    if command.module is None:
        from ada_operator.cli.programs import hand_over

        return hand_over(words[0], command.program, words[1:])
    module = importlib.import_module(command.module)
    return int(module.main(words[1:]))


def usage() -> str:
    """Return the list of commands."""
    lines = [f"  ada {name:<12} {command.purpose}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: ada COMMAND ...",
            "",
            "Train adaptive agents: meta-reinforcement learning over a procedurally generated task space.",
            "",
            *lines,
            "",
            "Each command explains itself: ada run --help",
            "Exit codes: 0 done, 1 trouble, 2 bad input, 75 stopped on request (started again, the run goes on).",
        ]
    )


def parser(name: str, example: str, description: str) -> argparse.ArgumentParser:
    """Return a parser for a subcommand, with an example at the end of its help."""
    return argparse.ArgumentParser(
        prog=f"ada {name}",
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
