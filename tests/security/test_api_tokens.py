"""An API token is mounted into the operator's pod and into no other."""

import pytest
from tests.cluster.build import missing_programs
from tests.cluster.helm import render
from tests.operator.conftest import FakeCluster


def pods_in(item):
    """Yield every pod's spec in an object."""
    spec = item.get("spec", {})
    if item["kind"] == "Pod":
        yield spec
    elif "template" in spec:
        yield spec["template"]["spec"]


def has_token(pod):
    sources = [
        source for volume in pod.get("volumes", []) for source in (volume.get("projected") or {}).get("sources", [])
    ]
    return pod.get("automountServiceAccountToken", True) or any("serviceAccountToken" in source for source in sources)


def test_no_pod_of_an_experiment_has_one():
    cluster = FakeCluster()
    cluster.settle()
    seen = {}
    for _ in range(2):
        for stage in ("teacher", "student"):
            cluster.settle()
            seen |= {(one["kind"], one["metadata"]["name"]): one for one in cluster.objects.values() if "spec" in one}
            if stage not in cluster.stages:
                cluster.finish(stage)
    specs = {name: pod for (_, name), item in seen.items() for pod in pods_in(item)}
    assert any("trainer" in name for name in specs)
    assert any("simulator" in name for name in specs)
    assert [name for name, pod in specs.items() if has_token(pod)] == []


def test_of_the_charts_pods_the_operators_has_one():
    if missing_programs("helm"):
        pytest.skip("helm not built: run `python tests/cluster/build.py helm`")
    made = render({"developmentStore": {"enabled": True, "size": "1Gi", "namespaces": ["research"]}})
    with_token = [item["kind"] for item in made for pod in pods_in(item) if has_token(pod)]
    assert with_token == ["Deployment"]
    assert len([pod for item in made for pod in pods_in(item)]) >= 3
    accounts = [item for item in made if item["kind"] == "ServiceAccount"]
    assert all(one["automountServiceAccountToken"] is False for one in accounts)
