"""Reading an experiment from a file, with `--set`, and saying what is wrong with it in a person's words."""

from pathlib import Path

from ada_api.experiment import AdaExperiment
from ada_api.validation import InvalidExperiment, Problem, load, parse, validate
from ada_operator.cli.paths import PathError, with_value


class ExperimentFileError(ValueError):
    """The file can't be used; one problem a line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read_experiment(path: Path, settings: list[str]) -> AdaExperiment:
    """Return the experiment of a YAML or JSON file, with `PATH=VALUE` settings applied.

    Raises:
        ExperimentFileError: if it can't be read, or is not an experiment that could run.
    """
    try:
        return _changed(path, settings) if settings else load(path)
    except InvalidExperiment as error:
        raise ExperimentFileError([str(problem) for problem in error.problems]) from None
    except OSError as error:
        raise ExperimentFileError([f"{path}: {error.strerror}"]) from None


def _changed(path: Path, settings: list[str]) -> AdaExperiment:
    try:
        document = parse(path.read_bytes())
    except ValueError as error:
        raise ExperimentFileError([f"{path}: {error}"]) from None
    for setting in settings:
        try:
            document = with_value(document, setting)
        except PathError as error:
            raise ExperimentFileError([f"--set {setting}: {error}"]) from None
    problems: list[Problem] = validate(document)
    if problems:
        raise InvalidExperiment(problems, str(path))
    return AdaExperiment.model_validate(_without_nulls(document))


def _without_nulls(value: object) -> object:
    """Drop fields that are null: they are not set."""
    if isinstance(value, dict):
        return {key: _without_nulls(child) for key, child in value.items() if child is not None}
    return [_without_nulls(child) for child in value] if isinstance(value, list) else value
