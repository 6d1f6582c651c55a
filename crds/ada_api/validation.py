"""Reads an experiment as strictly as the API server; says of each wrong field where, what and what would be right."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import ValidationError

from ada_api.base import Model
from ada_api.experiment import AdaExperiment
from ada_api.rules import broken

MAX_BYTES = 1 << 20
MAX_VALUES = 100_000  # after aliases are written out
MAX_DEPTH = 64
LONGEST_SHOWN = 80
ABSENT = object()


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in an experiment."""

    path: str  # as in spec.stages[1].distillation.teacher; empty for the whole document
    value: object
    message: str

    def __str__(self) -> str:
        """Return it as a sentence."""
        shown = "" if self.value is ABSENT else f" is {_shown(self.value)}:"
        return f"{self.path or 'the experiment'}{shown} {self.message}"


class InvalidExperiment(ValueError):  # noqa: N818
    """A document is no valid experiment; `problems` says why, field by field."""

    def __init__(self, problems: list[Problem], source: str = "experiment") -> None:
        self.problems = problems
        super().__init__("\n  ".join([f"{source} can't be used:", *map(str, problems)]))


def load(path: Path | str) -> AdaExperiment:
    """Read an experiment from a YAML or JSON file of at most 1 MiB.

    Raises:
        OSError: the file can't be read.
        InvalidExperiment: what it holds is no valid experiment.
    """
    with Path(path).open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    try:
        document = parse(content)
        problems = validate(document)
    except _UnreadableError as error:
        problems = [Problem("", ABSENT, str(error))]
    if problems:
        raise InvalidExperiment(problems, str(path))
    return _model(document)


def parse(content: bytes) -> object:
    """Return the one YAML or JSON document in `content`. Raises ValueError saying where and why it can't be read."""
    if len(content) > MAX_BYTES:
        raise _UnreadableError(f"the file is larger than {MAX_BYTES} bytes")
    try:
        document = yaml.load(content.decode(), _Loader)
    except UnicodeDecodeError as error:
        raise _UnreadableError(f"byte {error.start} is not UTF-8 text") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _UnreadableError(f"not YAML or JSON: {' '.join(str(error).split())}") from None
    _check_extent(document)
    return document


def validate(document: object) -> list[Problem]:
    """Return everything that is wrong with a document; an empty list if it is a valid experiment."""
    try:
        experiment = _model(document)
    except ValidationError as error:
        found = {problem.path: problem for problem in _problems(error, _as_stored(document))}
        return list(found.values())
    return [Problem(*found) for found in broken(experiment, "")]


def _model(document: object) -> AdaExperiment:
    return AdaExperiment.model_validate(_as_stored(document), strict=True, by_alias=True, by_name=False)


def _as_stored(value: object) -> object:
    """Return what the API server makes of a value: null is not set, and 3.0 is a whole number."""
    match value:
        case dict():
            return {key: _as_stored(child) for key, child in value.items() if child is not None}
        case list():
            return [_as_stored(child) for child in value]
        case float() if value.is_integer():
            return int(value)
    return value


class _UnreadableError(ValueError):
    """Content that can't be read at all."""


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it: dates stay text, 1e-3 is a number, 1:30 is text; a key twice is an error."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (as in the base class)
        first: [(tag, pattern) for tag, pattern in known if not tag.endswith((":timestamp", ":int", ":float"))]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping whose keys are text, each there once."""
        keys: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key.start_mark)
            if key.value in keys:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
            keys.add(key.value)
        return {str(key): value for key, value in super().construct_mapping(node, deep).items()}


_FLOAT = r"^[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"^[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(_FLOAT), list("-+0123456789."))


def _check_extent(document: object) -> None:
    """Refuse documents that are small only by their aliases, or deep; they would cost more than they say."""
    values = 0
    waiting = [(document, 1)]
    while waiting:
        value, depth = waiting.pop()
        values += 1
        if values > MAX_VALUES or depth > MAX_DEPTH:
            raise _UnreadableError(f"more than {MAX_VALUES} values, or nested deeper than {MAX_DEPTH}")
        if isinstance(value, dict):
            waiting.extend((child, depth + 1) for child in value.values())
        elif isinstance(value, list):
            waiting.extend((child, depth + 1) for child in value)


def _problems(error: ValidationError, document: object) -> Iterator[Problem]:
    for found in error.errors(include_url=False):
        path, names, value = _place(found["loc"], document, missing=found["type"] == "missing")
        in_union = len(names) < len(found["loc"])
        yield Problem(path, value, "must be a whole number or text" if in_union else _remedy(found, names))


def _place(loc: tuple[int | str, ...], document: object, missing: bool) -> tuple[str, list[str], object]:
    """Return path, field names and value; drops the parts of `loc` that name members of a union, not fields."""
    path, names, value = "", [], document
    for part in loc:
        if isinstance(part, int) and isinstance(value, list):
            path, value = f"{path}[{part}]", value[part]
        elif isinstance(value, dict) and part in value:
            path, value = f"{path}.{part}" if path else str(part), value[part]
        elif missing and part == loc[-1]:
            path, value = f"{path}.{part}" if path else str(part), ABSENT
        else:
            break
        names.append(str(part))
    return path, names, value


def _remedy(found: Mapping[str, Any], names: list[str]) -> str:
    kind, context = found["type"], found.get("ctx", {})
    match kind:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return _unknown(names)
        case "greater_than_equal":
            return f"must be at least {_number(context['ge'])}"
        case "greater_than":
            return f"must be more than {_number(context['gt'])}"
        case "less_than_equal":
            return f"must be at most {_number(context['le'])}"
        case "less_than":
            return f"must be less than {_number(context['lt'])}"
        case "literal_error":
            return f"must be {context['expected']}{_nearest(found['input'], _quoted(context['expected']))}"
        case "string_pattern_mismatch":
            return f"must match {context['pattern']}"
        case "string_too_short":
            return f"must have at least {context['min_length']} characters"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
        case "too_short":
            return f"must have at least {context['min_length']} entries"
        case "too_long":
            return f"must have at most {context['max_length']} entries"
        case "finite_number":
            return "must be a finite number"
    return f"must be {EXPECTED[kind]}" if kind in EXPECTED else str(found["msg"])


EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number of 64 bits",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


def _unknown(names: list[str]) -> str:
    known = sorted(_fields_at(AdaExperiment, names[:-1]))
    nearest = _nearest(names[-1], known)
    return f"unknown field{nearest or ' (known here: ' + ', '.join(known) + ')'}"


def _fields_at(model: type[Model], names: list[str]) -> list[str]:
    """Return the names of the fields of the model that the field names lead to."""
    for name in names:
        if not name.isdigit():
            model = next(_models(f.annotation) for key, f in model.model_fields.items() if (f.alias or key) == name)
    return [field.alias or key for key, field in model.model_fields.items()]


def _models(annotation: Any) -> Any:
    """Return the model inside an annotation such as `list[Stage]` or `Store | None`."""
    while get_origin(annotation) in (list, Union, UnionType, Annotated):
        annotation = get_args(annotation)[0]
    return annotation


def _nearest(value: object, known: list[str]) -> str:
    folded = {name.lower(): name for name in known}
    text = re.sub("[_ ]", "", str(value)).lower()
    nearest = difflib.get_close_matches(text, folded, n=1)
    return f", did you mean {folded[nearest[0]]}?" if nearest else ""


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."
