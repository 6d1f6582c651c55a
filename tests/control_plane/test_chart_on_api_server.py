"""The API server takes every object that the chart makes, asked with --dry-run=server."""

import json

import pytest
import yaml
from tests.cluster.build import missing_programs
from tests.cluster.helm import CHART, render, run_helm

# As Prometheus Operator's, so far as Helm and the API server need them to know the kinds; not its schemas.
MONITORING_KINDS = {
    "ServiceMonitor": "servicemonitors",
    "PodMonitor": "podmonitors",
    "PrometheusRule": "prometheusrules",
}
EVERYTHING = {
    "dashboards": {"enabled": True},
    "developmentStore": {"enabled": True, "size": "1Gi"},
    "platform": {"defaultStoreSecret": None, "allowedImages": ["registry.example/*"]},
    "podDisruptionBudget": {"maxUnavailable": "50%"},
    "networkPolicy": {"metricsFrom": [{"namespaceSelector": {"matchLabels": {"team": "ops"}}}]},
    "operator": {
        "affinity": {"nodeAffinity": {}},
        "tolerations": [{"key": "ops", "operator": "Exists"}],
        "topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}],
        "extraEnv": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    },
}


@pytest.fixture(autouse=True)
def helm():
    if missing_programs("helm"):
        pytest.skip("helm not built: run `python tests/cluster/build.py helm`")


def in_namespace(values, namespace):
    """Return the chart's objects, all of those that have a namespace in one that exists."""
    objects = render(values)
    for one in objects:
        if "namespace" in one["metadata"]:
            one["metadata"]["namespace"] = namespace
    return objects


@pytest.mark.parametrize("mode", ["cluster-wide", "a list of namespaces"])
def test_the_api_server_takes_every_object_of_the_chart(plane, namespace, mode):
    values = {} if mode == "cluster-wide" else {**EVERYTHING, "namespaces": [namespace]}
    objects = in_namespace(values, namespace)
    sent = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    flags = ("--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict")
    said = plane.kubectl("apply", *flags, "--filename=-", "--output=name", stdin=sent)
    assert len(said.split()) == len(objects)


def test_monitors_and_rules_are_made_where_the_cluster_knows_their_kinds(plane):
    definitions = [
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.monitoring.coreos.com"},
            "spec": {
                "group": "monitoring.coreos.com",
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural},
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                    }
                ],
            },
        }
        for kind, plural in MONITORING_KINDS.items()
    ]

    def kinds():
        # The resource of the test session is not this release's: Helm would refuse to touch it.
        arguments = ("install", "monitored", CHART, "--dry-run=server", "--namespace=default")
        done = run_helm(*arguments, values={"crds": {"enabled": False}}, config=plane.kubectl.config)
        assert done.returncode == 0, done.stderr
        manifest = done.stdout.partition("MANIFEST:\n")[2].partition("NOTES:\n")[0]
        return {one["kind"] for one in yaml.safe_load_all(manifest) if one}

    assert not kinds() & set(MONITORING_KINDS)
    try:
        plane.kubectl.apply(*definitions)
        plane.kubectl(
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            *(f"crd/{one['metadata']['name']}" for one in definitions),
        )
        assert set(MONITORING_KINDS) <= kinds()
    finally:
        for one in definitions:
            plane.kubectl.run("delete", "crd", one["metadata"]["name"], "--wait=false")
