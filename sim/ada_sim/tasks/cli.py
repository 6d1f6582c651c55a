"""`python -m ada_sim tasks stats | show | check | probes`: look at tasks without training anything."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from pydantic import ValidationError

from ada_api.environment import Environment
from ada_api.experiment import AdaExperiment
from ada_sim.constants import TIMESTEP_S
from ada_sim.tasks.metrics import METRICS, PAPER_MEANS, shortest_plan
from ada_sim.tasks.probes import probe, probe_names
from ada_sim.tasks.source import TaskSource
from ada_sim.tasks.task import Task
from ada_sim.tasks.template import read_template
from ada_sim.tasks.text_map import text_map
from ada_sim.tasks.words import describe

OK, BAD_INPUT = 0, 2


class BadInputError(ValueError):
    """Something on the command line can't be used."""


def main(argv: Sequence[str]) -> int:
    """Run one command; return the exit code: 0 done, 2 bad input."""
    arguments = _parser().parse_args(argv)
    commands = {"stats": _stats, "show": _show, "check": _check, "probes": _probes}
    try:
        sys.stdout.write(commands[arguments.command](arguments) + "\n")
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_INPUT
    return OK


def read_environment(path: Path | None) -> Environment:
    """Return `spec.environment` of an experiment file (YAML or JSON), or the default one; raises BadInputError."""
    if path is None:
        return Environment()
    try:
        return AdaExperiment.model_validate(yaml.safe_load(path.read_text())).spec.environment
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise BadInputError(f"can't use experiment {path}: {error}") from error


def pool_means(source: TaskSource, count: int, held_out: bool, seed: int) -> dict[str, float]:
    """Return the means of the twelve figures over `count` drawn tasks."""
    rng = np.random.default_rng(seed)
    totals = dict.fromkeys(METRICS, 0.0)
    for _ in range(count):
        for name, value in source.metrics(source.draw(rng, held_out)).items():
            totals[name] += value
    return {name: total / count for name, total in totals.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ada_sim tasks", description="Look at tasks.")
    commands = parser.add_subparsers(dest="command", required=True)
    stats = commands.add_parser("stats", help="means over drawn tasks beside the paper's")
    stats.add_argument("--count", type=_positive, default=1000, help="tasks to draw (default 1000)")
    stats.add_argument("--json", action="store_true", help="print JSON")
    stats.add_argument("--held-out", action="store_true", help="draw from the held-out tasks")
    stats.add_argument("--seed", type=int, default=0, help="seed of the draw, not of the pool (default 0)")
    show = commands.add_parser("show", help="one task in words and as a drawing")
    show.add_argument("number", type=lambda text: int(text, 0), help="the task's number, decimal or 0x...")
    show.add_argument("--png", type=Path, help="also write a top view to this file")
    for command in (stats, show):
        command.add_argument("--experiment", type=Path, help="experiment whose tasks to draw (default: the defaults)")
    check = commands.add_parser("check", help="read a template and draw a task from it")
    check.add_argument("file", type=Path, help="the template")
    check.add_argument("--number", type=int, default=0, help="which of its tasks to show (default 0)")
    probes = commands.add_parser("probes", help="the probe tasks, or one of them in words and as a drawing")
    probes.add_argument("name", nargs="?", help="the probe task to show (default: list all)")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _stats(arguments: argparse.Namespace) -> str:
    source = TaskSource(read_environment(arguments.experiment))
    means = pool_means(source, arguments.count, arguments.held_out, arguments.seed)
    if arguments.json:
        return json.dumps({"means": means})
    lines = [f"{'mean over ' + str(arguments.count) + ' tasks':28}{'ours':>8}{'AdA':>8}"]
    lines += [f"{name.replace('_', ' '):28}{means[name]:8.2f}{PAPER_MEANS[name]:8.2f}" for name in METRICS]
    return "\n".join(lines)


def _show(arguments: argparse.Namespace) -> str:
    source = TaskSource(read_environment(arguments.experiment))
    task = source.task(arguments.number)
    if arguments.png is not None:
        _write_top_view(source, arguments.number, arguments.png)
    heading = f"task {arguments.number}" + (f" ({task.name})" if task.name else "")
    trials = source.trials(arguments.number)
    return f"{heading}: {trials} trials of {task.trial_timesteps * TIMESTEP_S:.3g} s\n\n{_task_text(task)}"


def _check(arguments: argparse.Namespace) -> str:
    try:
        text = arguments.file.read_text()
    except OSError as error:
        raise BadInputError(f"can't read template {arguments.file}: {error.strerror}") from error
    tasks = read_template(arguments.file.stem, text)
    task = tasks.task(arguments.number)
    notes = []
    if not tasks.has_held_out:
        notes.append("Note: too few different tasks to hold any out.")
    if shortest_plan(task) is None:
        notes.append("Warning: no sequence of rules makes the objects that the goal needs.")
    return "\n".join([f"{arguments.file}: fine. Task {arguments.number} of it:", "", _task_text(task), *notes])


def _probes(arguments: argparse.Namespace) -> str:
    if arguments.name is not None:
        return _task_text(probe(arguments.name))
    return "\n".join(f"{name} ({players})" for players in (1, 2) for name in probe_names(players))


def _task_text(task: Task) -> str:
    lines: list[str] = []
    for player in range(len(task.spawns)):
        words = describe(task, player)
        lines.append(f"Goal: {words.goal}" if len(task.spawns) == 1 else f"Goal of player {player + 1}: {words.goal}")
        lines += [f"  {index + 1}. {rule}" for index, rule in enumerate(words.rules)]
    return "\n".join([*lines, "", text_map(task), ""])


def _write_top_view(source: TaskSource, number: int, path: Path) -> None:
    """Write a picture of the task as its first trial begins; OSError becomes bad input."""
    from PIL import Image  # these load compiled parts: not for --help

    from ada_sim.batch import BatchSim

    sim = BatchSim(1, source.environment, source)
    world = np.zeros(1, np.int64)
    sim.assign(world, np.array([number], np.uint64), np.ones(1, np.int64), np.zeros(1, np.uint64))
    sim.reset(world)
    try:
        Image.fromarray(sim.top_view(0)).save(path)
    except OSError as error:
        raise BadInputError(f"can't write {path}: {error}") from error
