"""Experiments as anyone could type them: the API server's verdict is that of `ada validate`, and it names a field."""

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from kubernetes import client, config

from ada_api.validation import validate

TESTS = Path(__file__).parents[1]


def load(path: Path) -> Any:
    """Return a module that tests of another folder share."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


drawn = load(TESTS / "operator" / "experiments_from_schema.py")
table = load(TESTS / "api" / "bad_inputs.py")

EXAMPLES = 500 if os.environ.get("ADA_TEST_LONG") else 24
PLACE = {"group": "ada.dev", "version": "v1alpha1", "plural": "adaexperiments", "namespace": "default"}
DRY = {"dry_run": "All", "field_validation": "Strict"}
SLOW = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large)


@pytest.fixture(scope="module")
def api(plane) -> Iterator[client.CustomObjectsApi]:
    connection = config.new_client_from_config(str(plane.kubeconfig))
    yield client.CustomObjectsApi(connection)
    connection.close()


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=SLOW)
@given(drawn.experiments(namespace="default"))
def test_the_api_server_takes_what_ada_validate_takes_and_names_a_field_of_the_rest(
    api: client.CustomObjectsApi, document: dict[str, Any]
) -> None:
    problems = validate(document)
    try:
        api.create_namespaced_custom_object(**PLACE, body=document, **DRY)
    except client.ApiException as error:
        assert error.status in (400, 422), error
        said = json.loads(error.body)["message"]
        assert problems, f"only the API server refuses this: {said}"
        assert "spec" in said, said
    else:
        assert not problems, "\n".join(map(str, problems))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=SLOW)
@given(drawn.broken_experiments(table.good()))
def test_a_field_that_is_wrong_by_itself_is_refused_and_named_with_its_path(
    api: client.CustomObjectsApi, broken: tuple[dict[str, Any], tuple[str | int, ...]]
) -> None:
    document, path = broken
    document["metadata"]["namespace"] = "default"
    try:
        api.create_namespaced_custom_object(**PLACE, body=document, **DRY)
    except client.ApiException as error:
        assert error.status in (400, 422), error
        said = json.loads(error.body)["message"]
    else:
        raise AssertionError(f"{path} was taken: {document}")
    named = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    assert named in said, said
    assert validate(document), f"`ada validate` takes what the API server refuses: {said}"
