"""The definition and the reference page are what the models say, and a model survives its way through JSON."""

import copy
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ada_api import crd, reference
from ada_api.experiment import AdaExperiment
from ada_api.progress import CommittedCheckpoint, TrialScore
from ada_api.rules import RULES
from ada_api.stages import CheckpointReference
from ada_api.status import Condition, ExperimentStatus, StageStatus
from ada_api.validation import validate

_SPEC = importlib.util.spec_from_file_location("bad_inputs", Path(__file__).with_name("bad_inputs.py"))
table = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(table)

SCHEMA = crd.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def objects(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every object in a schema that has named fields, with its path."""
    if "properties" in schema:
        yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from objects(field, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from objects(schema["items"], f"{path}.0")


def test_the_definition_in_the_repository_is_what_the_models_say():
    assert crd.CRD_PATH.read_text() == crd.text(), "run `make crds`"
    assert yaml.safe_load(crd.text()) == crd.definition()


def test_the_reference_page_in_the_repository_is_what_the_models_say():
    assert crd.REFERENCE_PATH.read_text() == reference.page(), "run `make crds`"


def test_every_field_has_a_description():
    bare = [
        f"{path}.{name}"
        for part in ("spec", "status")
        for path, found in objects(SCHEMA["properties"][part], part)
        for name, field in found["properties"].items()
        if not field.get("description")
    ]
    assert bare == []


def test_every_rule_hangs_in_the_schema():
    hung = [
        rule["rule"]
        for _, found in objects(SCHEMA["properties"]["spec"])
        for place in (found, *found["properties"].values())
        for rule in place.get("x-kubernetes-validations", [])
    ]
    assert {rule.cel for rule in RULES} <= set(hung)


@pytest.mark.parametrize("column", crd.COLUMNS, ids=lambda column: column[0])
def test_every_column_shows_a_field_of_the_schema(column):
    schema = SCHEMA
    path = column[2].split(".")[1:]
    for name in path if path[0] == "status" else []:
        schema = schema["properties"][name]
    assert "properties" not in schema or path[0] == "metadata"


def test_a_full_status_has_no_field_that_the_definition_lacks():
    commit = CommittedCheckpoint(uri="file:///a", digest="sha256:0", frames=1, time=1.0)
    pinned = CheckpointReference(uri="file:///a", digest="sha256:" + "0" * 64)
    stage = StageStatus(
        name="a", score=0.5, best_score=0.5, checkpoint=commit, earlier_checkpoint=commit, resume=commit,
        teacher=pinned,
        evaluation=[TrialScore(trials=1, median=0.1, mean=0.1, percentile20=0.1)], start_time="t", trained_time="t",
        completion_time="t",
    )  # fmt: skip
    condition = Condition(type="Ready", status="True", reason="R", last_transition_time="t")
    status = ExperimentStatus(
        score=0.5, checkpoint=commit, goodput=0.5, looked=1.0, start_time="t", completion_time="t", stages=[stage],
        conditions=[condition],
    )  # fmt: skip
    assert list(unknown(status.model_dump(mode="json", by_alias=True), SCHEMA["properties"]["status"])) == []


def unknown(value: Any, schema: dict[str, Any], path: str = "status") -> Iterator[str]:
    """Yield the paths of what a value has and its schema lacks."""
    if isinstance(value, dict):
        for name, child in value.items():
            if name not in schema["properties"]:
                yield f"{path}.{name}"
            else:
                yield from unknown(child, schema["properties"][name], f"{path}.{name}")
    elif isinstance(value, list):
        for child in value:
            yield from unknown(child, schema["items"], f"{path}[]")


# --- through JSON and back


def leaves() -> list[tuple[str, dict[str, Any]]]:
    """Return path and schema of the spec's fields that hold one number, word or switch."""
    return [
        (f"{path}.{name}", field)
        for path, found in objects(SCHEMA["properties"]["spec"], "spec")
        for name, field in found["properties"].items()
        if field.get("type") in ("integer", "number", "boolean") or "enum" in field
        if ".templates." not in path and ".gates." not in path and ".store" not in path
    ]


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for what a leaf's schema allows."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    low, high = schema.get("minimum"), schema.get("maximum")
    match schema["type"]:
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(low, high - bool(schema.get("exclusiveMaximum")))
    return st.floats(
        low,
        high,
        exclude_min=bool(schema.get("exclusiveMinimum")),
        exclude_max=bool(schema.get("exclusiveMaximum")),
    )


CHANGES = st.lists(
    st.sampled_from(leaves()).flatmap(lambda leaf: st.tuples(st.just(leaf[0]), values(leaf[1]))), min_size=1, max_size=4
)


@settings(max_examples=200, deadline=None)
@given(CHANGES)
def test_a_valid_experiment_is_the_same_after_json(changes):
    document = copy.deepcopy(table.good())
    for path, value in changes:
        table.put(path, value)(document)
    assume(validate(document) == [])
    experiment = AdaExperiment.model_validate(document)
    written = experiment.model_dump(mode="json", by_alias=True, exclude={"status"})
    assert AdaExperiment.model_validate_json(json.dumps(written)) == experiment
    written["metadata"] = document["metadata"]
    assert validate(written) == []
    for path, value in changes[-1:]:
        place = written
        for part in path.split("."):
            place = place[int(part)] if part.isdigit() else place[part]
        assert place == value
