"""The API server itself refuses what is wrong, without any webhook, and says where; kubectl knows every field."""

import copy
import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from tests.cluster.processes import wait_until

ROOT = Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location("bad_inputs", ROOT / "tests" / "api" / "bad_inputs.py")
assert _SPEC is not None and _SPEC.loader is not None
table = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(table)

Document = dict[str, Any]
PLACE = {"group": "ada.dev", "version": "v1alpha1", "plural": "adaexperiments"}
DRY = {"dry_run": "All", "field_validation": "Strict"}


@pytest.fixture(scope="module")
def api(plane) -> Iterator[client.CustomObjectsApi]:
    connection = config.new_client_from_config(str(plane.kubeconfig))
    yield client.CustomObjectsApi(connection)
    connection.close()


@pytest.fixture(scope="module")
def kept(api) -> Iterator[Document]:
    """An experiment that is there, as the API server returns it."""
    yield api.create_namespaced_custom_object(**PLACE, namespace="default", body=table.good())
    api.delete_namespaced_custom_object(**PLACE, namespace="default", name=table.good()["metadata"]["name"])


def changed(change: Callable[[Document], object], document: Document) -> Document:
    document = copy.deepcopy(document)
    change(document)
    return document


def refusal(ask: Callable[[], Any]) -> str | None:
    """Return what the API server says against a request, or None if it takes it."""
    try:
        ask()
    except client.ApiException as error:
        assert error.status in (400, 403, 422), error
        return str(json.loads(error.body)["message"])
    return None


def names_the_field(said: str, path: str) -> bool:
    """Return whether a refusal names a field: by its path, or, as a rule between fields, from an object around it."""
    around = ["<nil>", *(path[: place.start()] for place in re.finditer(r"[.\[]", path))]  # <nil> is the root
    last = re.findall(r"[^.\[\]]*[^.\[\]\d][^.\[\]]*", path)[-1]  # the last that is not an index
    return path in said or (last in said and any(f"{place}: " in said for place in around))


@pytest.mark.parametrize(("change", "path"), [pytest.param(row[1], row[2], id=row[0]) for row in table.BAD_INPUTS])
def test_a_wrong_experiment_is_refused_and_the_field_is_named(api, change, path):
    body = changed(change, table.good())
    said = refusal(lambda: api.create_namespaced_custom_object(**PLACE, namespace="default", body=body, **DRY))
    assert said is not None, "it was taken"
    assert names_the_field(said, path), said


@pytest.mark.parametrize("change", [pytest.param(row[1], id=row[0]) for row in table.GOOD_INPUTS])
def test_a_right_experiment_is_taken(api, change):
    body = changed(change, table.good())
    assert refusal(lambda: api.create_namespaced_custom_object(**PLACE, namespace="default", body=body, **DRY)) is None


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_taken(api, path):
    body = yaml.safe_load(path.read_text())
    assert refusal(lambda: api.create_namespaced_custom_object(**PLACE, namespace="default", body=body, **DRY)) is None


def replace(api: client.CustomObjectsApi, body: Document) -> Callable[[], Any]:
    name = body["metadata"]["name"]
    return lambda: api.replace_namespaced_custom_object(**PLACE, namespace="default", name=name, body=body, **DRY)


@pytest.mark.parametrize("change", [pytest.param(row[1], id=row[0]) for row in table.BAD_UPDATES])
def test_what_makes_an_experiment_another_one_is_refused_as_an_update(api, kept, change):
    said = refusal(replace(api, changed(change, kept)))
    assert said is not None, "it was taken"
    assert "spec" in said


@pytest.mark.parametrize("change", [pytest.param(row[1], id=row[0]) for row in table.GOOD_UPDATES])
def test_what_may_change_is_taken_as_an_update(api, kept, change):
    assert refusal(replace(api, changed(change, kept))) is None


def test_kubectl_explains_the_fields(plane):
    # the API server publishes the schema a moment after it serves the resource
    said = wait_until("published schema", lambda: plane.kubectl.run("explain", "adaexperiment.spec").stdout)
    assert "What is wanted." in said
    assert re.search(r"stages\s+<\[\]Object> -required-\n\s+Training runs, in order\.", said)
    said = plane.kubectl("explain", "adaexperiment.spec.stages.trainer.nodes.min")
    assert "FIELD: min <integer>" in said and "Fewest nodes that train." in said


def test_the_scale_subresource_sets_the_number_of_nodes(plane, kept):
    plane.kubectl("scale", "adaexperiment", kept["metadata"]["name"], "--namespace=default", "--replicas=1")
    found = plane.kubectl.json("get", "adaexperiment", kept["metadata"]["name"], "--namespace=default")
    assert found["spec"]["nodes"] == 1
