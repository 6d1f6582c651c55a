"""The reference page of the resource, made from the models; `python -m ada_api.crd` writes it."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from ada_api.crd import COLUMNS, definition, field_model
from ada_api.experiment import ExperimentSpec
from ada_api.rules import FROZEN, RULES
from ada_api.status import ExperimentStatus

INTRODUCTION = """\
# AdaExperiment reference

<!-- Written by `make crds` from the models in crds/ada_api. Don't edit. -->

`ada.dev/v1alpha1`, kind `AdaExperiment`, plural `adaexperiments`, short name `adax`, category `ada`, namespaced.
Unknown fields are refused. A field that is null counts as not set. `kubectl explain adax.spec` says the same.

`kubectl scale adax/NAME --replicas N` sets `spec.nodes`: the trainer nodes wanted now, within the stage's bounds.
As long as `spec.nodes` is not set, a stage asks for its `trainer.nodes.max`.
"""


def page() -> str:
    """Return the page as Markdown."""
    lines = [INTRODUCTION, "## spec\n", *_tables("spec", ExperimentSpec, _schema("spec"))]
    lines += ["## Rules between fields\n", *(f"* {name}: {message}." for name, message in _rules()), ""]
    lines += ["## What can't change after creation\n"]
    lines += [f"* `{_owner(frozen.about)}.{frozen.field}`" for frozen in FROZEN]
    lines += ["* the order and names of stages; new ones may be appended", ""]
    lines += ["## status\n", *_tables("status", ExperimentStatus, _schema("status"))]
    lines += ["## Columns of `kubectl get`\n", "| column | from | |", "|---|---|---|"]
    lines += [f"| {name} | `{path}` | {'with `-o wide`' if wide else ''} |" for name, _, path, wide in COLUMNS]
    return "\n".join(lines) + "\n"


def _schema(part: str) -> dict[str, Any]:
    version = definition()["spec"]["versions"][0]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"][part]
    return found


def _rules() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield f"`{rule.about.__name__}`" + (f" (`{rule.field}`)" if rule.field else ""), rule.message


def _owner(model: type[BaseModel]) -> str:
    return "spec" if model is ExperimentSpec else "spec.stages[]"


def _tables(path: str, model: type[BaseModel], schema: dict[str, Any]) -> Iterator[str]:
    """Yield a table of the object's fields, then those of the objects below it."""
    yield f"### `{path}`\n\n{model.__doc__ or ''}\n\n| field | type | default | |\n|---|---|---|---|"
    below = []
    for name, field in schema["properties"].items():
        default = _default(field) if name not in schema.get("required", []) else "required"
        description = field["description"].replace("|", "\\|")
        yield f"| `{name}` | {_type(field)} | {default} | {description} |"
        inner = field.get("items", field)
        if "properties" in inner:
            below.append((f"{path}.{name}" + ("[]" if "items" in field else ""), name, inner))
    yield ""
    children = {field.alias or key: field_model(field.annotation) for key, field in model.model_fields.items()}
    for place, name, inner in below:
        child = children[name]
        if child is not None:
            yield from _tables(place, child, inner)


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return ""
    if field["type"] == "object" and "required" not in field:
        return ""  # its own fields say theirs
    return f"`{json.dumps(field['default'])}`"


def _type(field: dict[str, Any]) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "integer or string"
    kind = str(field["type"])
    if kind == "array":
        return f"list of {_type(field['items'])}{_bounds(field, 'Items')}"
    if kind == "object" and "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'])}"
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"])
    if kind == "string":
        pattern = f" matching `{field['pattern']}`".replace("|", "\\|") if "pattern" in field else ""
        return f"string{pattern}"
    return kind + _range(field)


def _bounds(field: dict[str, Any], what: str) -> str:
    least, most = field.get(f"min{what}", 0), field.get(f"max{what}")
    return f", {least} to {most}" if most is not None else ""


def _range(field: dict[str, Any]) -> str:
    """Return the bounds of a number in words."""
    least, most = field.get("minimum"), field.get("maximum")
    low = "" if least is None else f"{'>' if field.get('exclusiveMinimum') else '≥'} {least:g}"
    high = "" if most is None else f"{'<' if field.get('exclusiveMaximum') else '≤'} {_count(most)}"
    return "".join(f", {end}" for end in (low, high) if end)


def _count(value: float) -> str:
    return f"{int(value):_}" if float(value).is_integer() else f"{value:g}"
