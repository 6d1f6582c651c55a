"""Every switch makes and leaves out what it says, and every pod is restricted."""

from typing import Any

import pytest
from tests.cluster.helm import MONITORING, NAMESPACE, render

from ada_operator.manifests.pods import RESTRICTED_CONTAINER, RESTRICTED_POD

Objects = list[dict[str, Any]]
PODS = {"Deployment": lambda one: one["spec"]["template"]["spec"], "Pod": lambda one: one["spec"]}


def kinds(objects: Objects) -> set[tuple[str, str]]:
    return {(one["kind"], one["metadata"]["name"]) for one in objects}


def find(objects: Objects, kind: str, name: str = "ada-ada-operator") -> dict[str, Any]:
    return next(one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name))


def operator_pod(values: dict[str, Any]) -> dict[str, Any]:
    return dict(find(render(values), "Deployment")["spec"]["template"]["spec"])


NAME, STORE = "ada-ada-operator", "ada-ada-operator-store"
SWITCHES = [
    ({"crds": {"enabled": False}}, [], {("CustomResourceDefinition", "adaexperiments.ada.dev")}),
    ({"serviceAccount": {"create": False, "name": "mine"}}, [], {("ServiceAccount", NAME)}),
    ({"podDisruptionBudget": {"enabled": False}}, [], {("PodDisruptionBudget", NAME)}),
    ({"operator": {"replicas": 1}}, [], {("PodDisruptionBudget", NAME)}),
    ({"networkPolicy": {"enabled": False}}, [], {("NetworkPolicy", NAME)}),
    ({"serviceMonitor": {"enabled": False}}, [MONITORING], {("ServiceMonitor", NAME)}),
    ({"podMonitor": {"enabled": False}}, [MONITORING], {("PodMonitor", f"{NAME}-experiments")}),
    ({"prometheusRule": {"enabled": False}}, [MONITORING], {("PrometheusRule", NAME)}),
]


@pytest.mark.parametrize(("values", "flags", "gone"), SWITCHES, ids=lambda value: None)
def test_a_switch_takes_away_its_objects_and_no_others(values, flags, gone):
    assert kinds(render({}, *flags)) - kinds(render(values, *flags)) == gone


def test_what_is_off_until_asked_for():
    more = {
        "dashboards": {"enabled": True},
        "developmentStore": {"enabled": True, "size": "1Gi"},
        "extraObjects": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-extra"}},
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: as-text}",
        ],
    }
    assert kinds(render(more)) - kinds(render()) == {
        ("ConfigMap", f"{NAME}-dashboard-platform"),
        ("ConfigMap", f"{NAME}-dashboard-training"),
        ("ConfigMap", "ada-extra"),
        ("ConfigMap", "as-text"),
        *((kind, STORE) for kind in ("Secret", "Service", "PersistentVolumeClaim", "Deployment", "NetworkPolicy")),
    }


def test_kinds_that_the_cluster_does_not_know_are_left_out():
    monitoring = {kind for kind, _ in kinds(render({}, MONITORING))} - {kind for kind, _ in kinds(render())}
    assert monitoring == {"ServiceMonitor", "PodMonitor", "PrometheusRule"}


def test_the_definition_of_the_resource_is_kept_on_uninstall():
    definition = find(render(), "CustomResourceDefinition", "adaexperiments.ada.dev")
    assert definition["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_every_pod_is_restricted_as_those_of_experiments_are(everything):
    seen = []
    for one in everything:
        if one["kind"] not in PODS:
            continue
        pod = PODS[one["kind"]](one)
        seen.append(one["metadata"]["name"])
        assert pod["securityContext"] == RESTRICTED_POD
        assert pod["enableServiceLinks"] is False
        # Only the operator asks the API server anything.
        assert pod["automountServiceAccountToken"] == (one["metadata"]["name"] == NAME)
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"] == RESTRICTED_CONTAINER
    assert seen == [NAME, STORE, f"{NAME}-test"]


def test_every_object_is_labelled_and_every_namespaced_one_names_its_namespace(everything):
    cluster_wide = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
    for one in everything:
        if one["metadata"]["name"] == "extra":
            continue
        assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == "ada"
        if one["kind"] not in cluster_wide:
            assert one["metadata"]["namespace"] in (NAMESPACE, "research")


def test_selectors_find_the_pods_that_they_are_meant_for(everything):
    labels = {
        name: find(everything, "Deployment", name)["spec"]["template"]["metadata"]["labels"] for name in (NAME, STORE)
    }

    def selected(selector: dict[str, str]) -> set[str]:
        return {name for name, own in labels.items() if selector.items() <= own.items()}

    for name in (NAME, STORE):
        assert selected(find(everything, "Deployment", name)["spec"]["selector"]["matchLabels"]) == {name}
        assert selected(find(everything, "Service", name)["spec"]["selector"]) == {name}
        assert selected(find(everything, "NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"]) == {name}
    assert selected(find(everything, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]) == {NAME}
    service = find(everything, "Service")["metadata"]["labels"]
    assert find(everything, "ServiceMonitor")["spec"]["selector"]["matchLabels"].items() <= service.items()


def test_settings_of_the_operator_reach_its_command_line():
    values = {
        "namespaces": ["a", "b"],
        "operator": {"leaseSeconds": 20, "resyncSeconds": 60.5, "workers": 3, "extraArgs": ["--port=8080"]},
    }
    arguments = operator_pod(values)["containers"][0]["args"]
    assert arguments == [
        "--platform=/etc/ada/platform.yaml",
        *("--lease-namespace=ada-system", "--lease-seconds=20", "--resync-seconds=60.5", "--workers=3"),
        *("--namespace=a", "--namespace=b", "--port=8080"),
    ]
    assert "--all-namespaces" in operator_pod({})["containers"][0]["args"]


def test_settings_of_the_pod_reach_the_pod():
    toleration = {"key": "ops", "operator": "Exists"}
    spread = {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    pod = operator_pod(
        {
            "images": {"pullSecrets": ["one", "two"], "pullPolicy": "Always", "operator": {"tag": "3"}},
            "serviceAccount": {"name": "mine"},
            "operator": {
                "logLevel": "DEBUG",
                "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy"}],
                "nodeSelector": {"pool": "ops"},
                "tolerations": [toleration],
                "affinity": {"nodeAffinity": {}},
                "topologySpreadConstraints": [spread],
                "priorityClassName": "high",
                "terminationGracePeriodSeconds": 7,
                "resources": {"limits": {"cpu": "1"}},
            },
        }
    )
    container = pod["containers"][0]
    assert pod["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]
    assert (container["image"], container["imagePullPolicy"]) == ("ada-operator:3", "Always")
    assert pod["serviceAccountName"] == "mine"
    assert {entry["name"]: entry["value"] for entry in container["env"]} == {
        "ADA_LOG_LEVEL": "DEBUG",
        "HOME": "/tmp",
        "HTTPS_PROXY": "http://proxy",
    }
    assert (pod["nodeSelector"], pod["tolerations"], pod["affinity"]) == (
        {"pool": "ops"},
        [toleration],
        {"nodeAffinity": {}},
    )
    assert (pod["topologySpreadConstraints"], pod["priorityClassName"]) == ([spread], "high")
    assert pod["terminationGracePeriodSeconds"] == 7
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "512Mi"}


def test_another_platform_file_restarts_the_operator_and_the_store_is_left_alone():
    store = {"developmentStore": {"enabled": True, "secretKey": "12345678"}}
    before, after = render(store), render({**store, "platform": {"allowedImages": []}, "commonLabels": {"team": "rl"}})

    def annotations(objects: Objects) -> dict[str, str]:
        return dict(find(objects, "Deployment")["spec"]["template"]["metadata"]["annotations"])

    assert annotations(before) != annotations(after)
    assert find(before, "Deployment", STORE)["spec"] == find(after, "Deployment", STORE)["spec"]


def test_names_stay_within_63_letters_and_can_be_chosen():
    for values in ({"fullnameOverride": "f" * 50}, {"nameOverride": "n" * 63}):
        for kind, name in kinds(render({**values, "dashboards": {"enabled": True}})):
            assert len(name) <= 63 or kind.startswith("ClusterRole"), (kind, name)
    assert find(render({"fullnameOverride": "mine"}), "Deployment", "mine")


def test_metrics_can_be_kept_from_others_and_helm_test_still_reads_them():
    scrapers = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    rule = find(render({"networkPolicy": {"metricsFrom": [scrapers]}}), "NetworkPolicy")["spec"]["ingress"][0]
    test = find(render(), "Pod", f"{NAME}-test")["metadata"]["labels"]
    assert rule["from"][0] == scrapers
    assert rule["from"][1]["podSelector"]["matchLabels"].items() <= test.items()


def test_pods_of_experiments_are_scraped_where_the_operator_serves():
    everywhere = find(render({}, MONITORING), "PodMonitor", f"{NAME}-experiments")["spec"]
    some = find(render({"namespaces": ["a"]}, MONITORING), "PodMonitor", f"{NAME}-experiments")["spec"]
    assert everywhere["namespaceSelector"] == {"any": True}
    assert some["namespaceSelector"] == {"matchNames": ["a"]}
    # Such labels would hide those of the metrics.
    assert "podTargetLabels" not in everywhere


def test_keys_of_the_development_store_go_where_experiments_need_them():
    values = {"namespaces": ["a"], "developmentStore": {"enabled": True, "namespaces": ["b", "a"]}}
    secrets = [one for one in render(values) if one["kind"] == "Secret"]
    assert {one["metadata"]["namespace"] for one in secrets} == {NAMESPACE, "a", "b"}
    assert len({one["stringData"]["secretKey"] for one in secrets}) == 1
