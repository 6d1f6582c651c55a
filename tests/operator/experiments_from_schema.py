"""Experiments as anyone could type them: drawn from the installed schema, bounds and patterns included."""

import copy
from typing import Any

from hypothesis import strategies as st

from ada_api import crd

Schema = dict[str, Any]
SPEC: Schema = crd.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
LEARNING = {"environment", "curriculum", "evaluation", "model", "algorithm"}  # no business of the planner's
LETTERS = st.characters(codec="ascii", min_codepoint=32, max_codepoint=126)
MANY, LONG = 3, 12  # items and letters that are drawn at most, where the schema allows more


def values(schema: Schema) -> st.SearchStrategy[Any]:
    """Return a strategy for everything that a schema allows, within reason in size."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(int(schema.get("minimum", 0)), int(min(schema.get("maximum", 10**6), 10**6)))
        case "number":
            return st.floats(
                schema.get("minimum", 0),
                min(schema.get("maximum", 1e6), 1e6),
                exclude_min=bool(schema.get("exclusiveMinimum")),
                exclude_max=bool(schema.get("exclusiveMaximum")),
            )
        case "string":
            if "pattern" in schema:
                return st.from_regex(schema["pattern"], fullmatch=True, alphabet=st.characters(codec="ascii")).filter(
                    lambda text: len(text) <= schema.get("maxLength", LONG)
                )
            least = schema.get("minLength", 0)
            return st.text(LETTERS, min_size=least, max_size=max(least, min(schema.get("maxLength", LONG), LONG)))
        case "array":
            least = schema.get("minItems", 0)
            return st.lists(values(schema["items"]), min_size=least, max_size=max(least, MANY))
        case "object" if "properties" in schema:
            return fields(schema, tuple(schema["properties"]))
    return st.just({})  # open text: what stands there is Kubernetes' business


def fields(schema: Schema, names: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for an object of these fields, most of which are left to their defaults."""
    required = set(schema.get("required", ()))
    chosen = {name: values(schema["properties"][name]) for name in names}
    return st.fixed_dictionaries(
        {name: one for name, one in chosen.items() if name in required},
        optional={name: st.one_of(one) for name, one in chosen.items() if name not in required},
    )


def without_learning(schema: Schema) -> Schema:
    """Return a schema less the fields that say how is learned, in which the planner has no part."""
    if "items" in schema:
        return {**schema, "items": without_learning(schema["items"])}
    if "properties" not in schema:
        return schema
    kept = {name: without_learning(one) for name, one in schema["properties"].items() if name not in LEARNING}
    return {**schema, "properties": kept}


def experiments(schema: Schema = SPEC, namespace: str = "lab", name: str = "quick") -> st.SearchStrategy[Schema]:
    """Return a strategy for experiments, right and wrong: each field is right by itself."""
    identity = {
        "apiVersion": "ada.dev/v1alpha1",
        "kind": "AdaExperiment",
        "metadata": {"name": name, "namespace": namespace},
    }
    return values(schema).map(lambda spec: {**identity, "spec": spec})


def planned_experiments() -> st.SearchStrategy[Schema]:
    """Return a strategy for experiments of which most are right, in the fields that the planner reads."""
    return experiments(without_learning(SPEC)).map(mended)


def mended(document: dict[str, Any]) -> dict[str, Any]:
    """Return an experiment whose fields also fit one another, as far as a person would see at once."""
    spec = dict(document["spec"])
    stages = [dict(stage) for stage in spec["stages"]]
    for number, stage in enumerate(stages):
        stage["name"] = f"{stage['name'][:30].rstrip('-')}{number}"
        trainer, simulators = dict(stage.get("trainer", {})), dict(stage.get("simulators", {}))
        nodes = trainer.get("nodes", {})
        low, high = sorted((nodes.get("min", 1) % 5 + 1, nodes.get("max", 1) % 5 + 1))
        trainer |= {"nodes": {"min": low, "max": high}, "workersPerNode": 1}
        stage |= {"trainer": trainer, "simulators": {**simulators, "replicas": high}}
        teach = stage.pop("distillation", None)
        if teach is not None and number > 0:
            stage["distillation"] = {"teacher": stages[number - 1]["name"]}
    return {**document, "spec": {**spec, "stages": stages}}


Path = tuple[str | int, ...]
Broken = tuple[Schema, Path]  # an experiment, and where it is wrong


def places(schema: Schema, path: Path = ()) -> list[tuple[Path, Schema]]:
    """Return every field of a schema that is not open, with its path; the first item stands for all of a list."""
    found = [(path, schema)] if path else []
    for name, one in schema.get("properties", {}).items():
        found += places(one, (*path, name))
    if schema.get("type") == "array":
        found += places(schema["items"], (*path, 0))
    return found


def wrong_values(schema: Schema) -> list[Any]:
    """Return values that a field can't have: of another type, beyond its bounds, not of its pattern."""
    kind = schema.get("type")
    if kind is None or schema.get("x-kubernetes-int-or-string"):
        return []
    wrong: list[Any] = [one for own, one in EXAMPLES_OF_TYPES.items() if own != kind and (own, kind) not in ALIKE]
    if "enum" in schema:
        wrong.append("no-such-choice")
    if "minimum" in schema:
        wrong.append(int(schema["minimum"]) - 1)
    if "maximum" in schema:
        wrong.append(int(schema["maximum"]) + 1)
    if "pattern" in schema:
        wrong.append("Not Of The Pattern!\n")
    if schema.get("minLength"):
        wrong.append("")
    if "maxLength" in schema:
        wrong.append("x" * (schema["maxLength"] + 1))
    if schema.get("minItems"):
        wrong.append([])
    return wrong


EXAMPLES_OF_TYPES: dict[str, Any] = {
    "string": "text",
    "integer": 7,
    "number": 0.5,
    "boolean": True,
    "array": [],
    "object": {},
}
ALIKE = {("integer", "number")}


def put(document: Any, path: Path, value: Any) -> None:
    """Set a field, making the objects and lists on the way to it."""
    (first, *rest) = path
    if isinstance(first, int) and len(document) <= first:
        document.append({})
    if not rest:
        document[first] = value
        return
    if not isinstance(first, int) and document.get(first) is None:
        document[first] = [] if isinstance(rest[0], int) else {}
    put(document[first], tuple(rest), value)


@st.composite
def broken_experiments(draw: st.DrawFn, good: Schema) -> Broken:
    """Return a good experiment with one field wrong: a value that it can't have, or a name that is no field's."""
    document = copy.deepcopy(good)
    path, schema = draw(st.sampled_from([one for one in places(SPEC) if wrong_values(one[1])]))
    if "properties" in schema and draw(st.booleans()):
        name = draw(st.text("abcdefghij", min_size=3, max_size=8).filter(lambda one: one not in schema["properties"]))
        path = (*path, name)
        put(document["spec"], path, draw(st.sampled_from([1, "text", {}, []])))
    else:
        put(document["spec"], path, draw(st.sampled_from(wrong_values(schema))))
    return document, ("spec", *path)
