"""The CustomResourceDefinition, made from the models. `python -m ada_api.crd` writes it and the reference page."""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ada_api.base import Model
from ada_api.environment import Bounds
from ada_api.experiment import LONGEST_NAME, AdaExperiment, ExperimentSpec
from ada_api.rules import FROZEN, RULES, STAGES_STAY_CEL, STAGES_STAY_MESSAGE
from ada_api.stages import NAME_PATTERN
from ada_api.status import ExperimentStatus

Schema = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
CRD_PATH = ROOT / "crds" / "ada.dev_adaexperiments.yaml"
REFERENCE_PATH = ROOT / "docs" / "reference" / "experiment.md"
HEADER = "# Written by `make crds` from the models in crds/ada_api. Don't edit.\n"

# Bounds on text and maps that the models leave open: CEL rules need them to know their cost.
OPEN_TEXT = 4096
OPEN_ENTRIES = 256
# Lists whose entries are named, so that appliers own entries, and a rule can compare an entry with its former self.
KEYS = {"stages": ["name"], "templates": ["name"], "gates": ["stage", "trials"], "conditions": ["type"]}
# Objects that say nothing where nobody wrote them: options that are off, pods as they are. The API server does not fill
# them in, since each of its dealings with an experiment costs by the number of fields; whoever reads knows the default.
LEFT_OUT = frozenset({"resets", "continualBackprop", "pod"})

COLUMNS = (
    ("Phase", "string", ".status.phase", 0),
    ("Stage", "string", ".status.stage", 0),
    ("Progress", "string", ".status.progress", 0),
    ("FPS", "integer", ".status.framesPerSecond", 0),
    ("Score", "number", ".status.score", 0),
    ("Nodes", "string", ".status.nodesReady", 0),
    ("Checkpoint", "string", ".status.checkpoint.uri", 1),
    ("Restarts", "integer", ".status.restarts", 1),
    ("Goodput", "number", ".status.goodput", 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)


def definition() -> dict[str, Any]:
    """Return the CustomResourceDefinition as a plain dict."""
    names = {
        "kind": "AdaExperiment",
        "listKind": "AdaExperimentList",
        "plural": "adaexperiments",
        "singular": "adaexperiment",
        "shortNames": ["adax"],
        "categories": ["ada"],
    }
    version = {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _root()},
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.nodes", "statusReplicasPath": ".status.nodes.ready"},
        },
        "additionalPrinterColumns": [_column(*column) for column in COLUMNS],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "adaexperiments.ada.dev"},
        "spec": {"group": "ada.dev", "scope": "Namespaced", "names": names, "versions": [version]},
    }


def text() -> str:
    """Return the file's content."""
    return HEADER + yaml.dump(definition(), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def main() -> None:
    """Write the definition and the reference page."""
    from ada_api.reference import page

    REFERENCE_PATH.parent.mkdir(parents=True, exist_ok=True)
    CRD_PATH.write_text(text())
    REFERENCE_PATH.write_text(page())


class _Dumper(yaml.SafeDumper):
    """YAML without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal parts out."""
        return True


def _column(name: str, kind: str, path: str, priority: int) -> dict[str, Any]:
    return {"name": name, "type": kind, "jsonPath": path, **({"priority": priority} if priority else {})}


def _root() -> Schema:
    """Return the schema of the whole object. The API server checks apiVersion, kind and metadata itself."""
    rules = [
        (f"self.metadata.name.size() <= {LONGEST_NAME}", f"the name must have at most {LONGEST_NAME} characters"),
        (f"self.metadata.name.matches('{NAME_PATTERN}')", f"the name must match {NAME_PATTERN}"),
    ]
    return {
        "type": "object",
        "description": _first_line(AdaExperiment),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": {"description": "What is wanted.", **_object(ExperimentSpec, with_defaults=True)},
            "status": {"description": "What is; written by the operator.", **_object(ExperimentStatus, False)},
        },
        "x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules],
    }


def _object(model: type[BaseModel], with_defaults: bool) -> Schema:
    """Return the structural schema of a model."""
    plain = model.model_json_schema(by_alias=True, mode="validation" if with_defaults else "serialization")
    properties: Schema = {}
    required = []
    for key, field in model.model_fields.items():
        name = field.alias or key
        properties[name] = _field(model, name, field, plain, with_defaults)
        if field.is_required():
            required.append(name)
    for key, computed in model.model_computed_fields.items():
        properties[computed.alias or key] = {"type": "string", "description": computed.description}
    rules = _rules(model, "")
    return {
        "type": "object",
        **({"required": required} if required else {}),
        "properties": properties,
        **({"x-kubernetes-validations": rules} if rules else {}),
    }


def _field(model: type[BaseModel], name: str, field: FieldInfo, plain: Schema, with_defaults: bool) -> Schema:
    child = field_model(field.annotation)
    own = plain["properties"][name]
    schema = _of_models(child, own, with_defaults) if child else _plain(own, with_defaults)
    for bounds in field.metadata:
        if isinstance(bounds, Bounds):
            for end in ("min", "max"):
                schema["properties"][end] |= {"minimum": bounds.low, "maximum": bounds.high}
    if name in KEYS:
        schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": KEYS[name]}
    if with_defaults and name not in LEFT_OUT and (default := _default(field)) is not None:
        schema["default"] = default
    if rules := _rules(model, name):
        schema["x-kubernetes-validations"] = [*schema.get("x-kubernetes-validations", []), *rules]
    return {"description": field.description, **schema}


def _of_models(child: type[BaseModel], own: Schema, with_defaults: bool) -> Schema:
    """Return the schema of a field that holds a model, or a list of them."""
    inner = _object(child, with_defaults)
    if own.get("type") != "array":
        return inner
    most = {"maxItems": own["maxItems"]} if "maxItems" in own else {}
    least = {"minItems": own["minItems"]} if "minItems" in own else {}
    return {"type": "array", **least, **most, "items": inner}


def _plain(own: Schema, bounded: bool) -> Schema:
    """Return the structural form of a JSON schema without models: no null, OpenAPI 3.0's exclusive bounds."""
    choices = [one for one in own.get("anyOf", []) if one.get("type") != "null"]
    if len(choices) == 1:
        own = {**own, **choices[0]}
    if {one.get("type") for one in choices} == {"integer", "string"}:
        return {"x-kubernetes-int-or-string": True}
    keep = ("type", "enum", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern")
    schema = {key: own[key] for key in keep if key in own}
    if "const" in own:
        schema["enum"] = [own["const"]]
    for end in ("minimum", "maximum"):
        exclusive = f"exclusive{end.capitalize()}"
        if exclusive in own:
            schema |= {end: own[exclusive], exclusive: True}
    match schema["type"]:
        case "integer":
            schema["format"] = "int64"
        case "array":
            schema["items"] = _plain(own["items"], bounded)
        case "object" if own.get("additionalProperties") in (True, None):
            schema["x-kubernetes-preserve-unknown-fields"] = True
        case "object":
            schema["additionalProperties"] = _plain(own["additionalProperties"], bounded)
            schema |= {"maxProperties": OPEN_ENTRIES} if bounded else {}
        case "string" if bounded and "enum" not in schema:
            schema.setdefault("maxLength", OPEN_TEXT)
    return schema


def _default(field: FieldInfo) -> Any:
    """Return the default in full: the API server checks it against the rules before it fills in what is missing."""
    if field.default is PydanticUndefined or field.default is None:
        return None
    if isinstance(field.default, Model):
        return _filled_in(field.default.model_dump(mode="json", by_alias=True, exclude_none=True))
    return field.default


def _filled_in(written: Any) -> Any:
    """Return a default without what is left out."""
    if not isinstance(written, dict):
        return written
    return {name: _filled_in(value) for name, value in written.items() if name not in LEFT_OUT}


def _rules(model: type[BaseModel], field: str) -> list[Schema]:
    """Return the CEL rules that hang on a model's object, or on one of its fields."""
    found = [(rule.cel, rule.message) for rule in RULES if rule.about is model and rule.field == field]
    if not field:
        found += [(frozen.cel, frozen.message) for frozen in FROZEN if frozen.about is model]
    if model is ExperimentSpec and field == "stages":
        found.append((STAGES_STAY_CEL, STAGES_STAY_MESSAGE))
    return [{"rule": cel, "message": message} for cel, message in found]


def field_model(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside an annotation such as `list[Stage]` or `Store | None`; None if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if found := field_model(argument):
            return found
    return None


def _first_line(model: type[BaseModel]) -> str:
    return re.split(r"\n", model.__doc__ or "")[0]


if __name__ == "__main__":
    main()
