"""Whatever a person types and the schema takes, the plan can be made, is the same either way, and comes to rest."""

import copy
import importlib.util
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings

from ada_api.validation import validate
from ada_operator.planner import first_child, plan

_SPEC = importlib.util.spec_from_file_location("drawn", Path(__file__).with_name("experiments_from_schema.py"))
drawn = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(drawn)

LONG = bool(os.environ.get("ADA_TEST_LONG"))
EXAMPLES = 2000 if LONG else 10
pytestmark = pytest.mark.timeout(7200 if LONG else 300)
SLOW = (
    HealthCheck.function_scoped_fixture,
    HealthCheck.too_slow,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
)
QUIET = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=SLOW)


def cluster_of(make_cluster, document):
    """Return a cluster with this experiment, and with everything that it names."""
    cluster = make_cluster()
    cluster.document["spec"] = {**document["spec"], "suspend": False}
    cluster.document["spec"].pop("activeDeadlineSeconds", None)
    store = document["spec"].get("checkpoint", {}).get("store") or {}
    cluster.platform = type(cluster.platform)(default_store="s3://ada?endpoint=https://store.example")
    for kind, name in (("Secret", store.get("secretName")), ("ConfigMap", store.get("caConfigMap"))):
        if name:
            cluster.given(kind, name)
    return cluster


def children(cluster):
    """Return what there is, without what names one object or one moment."""
    found = {}
    for one, item in cluster.objects.items():
        if "labels" in item["metadata"]:
            found[one] = copy.deepcopy(item.get("spec"))
    return found


@QUIET
@given(drawn.planned_experiments())
def test_any_valid_experiment_comes_to_rest_and_leaves_only_its_settings(make_cluster, document):
    assume(not validate(document))
    cluster = cluster_of(make_cluster, document)
    experiment, observed = cluster.experiment(), cluster.observe()
    planned = plan(experiment, observed, cluster.now).objects
    assert first_child(experiment, observed, cluster.now) == (planned[0] if planned else None)
    cluster.settle(80)
    accepted = next(one for one in cluster.status["conditions"] if one["type"] == "Accepted")
    if accepted["status"] == "False":
        assert not cluster.pods
        return
    for stage in document["spec"]["stages"]:
        cluster.settle(80)
        cluster.learn(stage["name"], stage["frames"], phase="trained")
        cluster.end_pods("trainer", 0)
        cluster.settle(80)
        cluster.evaluated(stage["name"], 10.0)
        cluster.end_pods("evaluation", 0)
        cluster.settle(80)
    assert cluster.status["phase"] == "Succeeded", cluster.status["conditions"]
    assert not cluster.pods


@QUIET
@given(drawn.planned_experiments(), drawn.planned_experiments())
def test_a_spec_that_was_reached_by_a_change_has_the_children_of_one_that_was_made_so(make_cluster, first, second):
    """Before the group starts: what a running group keeps, and why, is tested elsewhere."""
    assume(not validate(first) and not validate(second))
    made, changed = cluster_of(make_cluster, second), cluster_of(make_cluster, first)
    changed.look()
    changed.objects |= made.objects
    changed.document["spec"] = made.document["spec"]
    changed.document["metadata"]["generation"] += 1
    for cluster in (made, changed):
        cluster.look()
    assert children(changed).keys() >= children(made).keys()
    assert {one: item for one, item in children(changed).items() if one in children(made)} == children(made)
