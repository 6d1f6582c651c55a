"""`ada validate`: one line if the experiment could run, else a line a problem."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ada_operator.cli import DONE, USAGE, parser


def main(arguments: Sequence[str]) -> int:
    """Check a file; returns 0, or 2 if it can't be used."""
    wanted = parser("validate", "ada validate experiment.yaml", "Check an experiment file without running anything.")
    wanted.add_argument("file", type=Path, help="YAML or JSON file with an AdaExperiment")
    wanted.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="change a field first")
    wanted.add_argument("--json", action="store_true", help="print the problems as JSON")
    options = wanted.parse_args(arguments)
    from ada_operator.cli.experiment_file import ExperimentFileError, read_experiment

    try:
        experiment = read_experiment(options.file, options.set)
    except ExperimentFileError as error:
        if options.json:
            print(json.dumps({"valid": False, "problems": error.problems}))
        else:
            print("\n".join(error.problems), file=sys.stderr)
        return USAGE
    stages = experiment.spec.stages
    if options.json:
        print(json.dumps({"valid": True, "problems": []}))
    else:
        frames = sum(stage.frames for stage in stages)
        names = ", ".join(stage.name for stage in stages)
        print(f"{options.file}: {experiment.metadata.name} is valid: {names}; {frames:,} frames in all")
    return DONE
