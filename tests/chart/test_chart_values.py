"""Good values are taken, bad ones refused by name; what is generated is up to date."""

import json
from dataclasses import fields
from typing import Any

import pytest
import yaml
from charts.generate import generated
from pydantic.alias_generators import to_camel
from tests.cluster.helm import CHART, render, run_helm

from ada_operator.observed import Platform
from ada_operator.program import read_platform


def nested(path: str, value: Any) -> dict[str, Any]:
    """Return values in which one is set."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


def test_lint_has_nothing_to_say():
    linted = run_helm("lint", "--strict", CHART, values={})
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert "WARNING" not in linted.stdout and "ERROR" not in linted.stdout


def test_what_the_chart_takes_from_elsewhere_is_up_to_date():
    stale = [str(path) for path, text in generated().items() if path.read_text(encoding="utf-8") != text]
    assert not stale, "run `make chart`"


def test_the_schema_is_closed_everywhere_and_knows_exactly_the_values_there_are():
    def compare(schema: dict[str, Any], defaults: dict[str, Any], path: str) -> None:
        assert schema["additionalProperties"] is False, path
        assert set(schema["properties"]) - {"global"} == set(defaults), path
        for key, default in defaults.items():
            inner = schema["properties"][key]
            if "properties" in inner and key != "resources":
                compare(inner, default, f"{path}.{key}")

    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    compare(schema, yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")), "")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("operator.replicas", 0),
        ("operator.replicas", "two"),
        ("operator.logLevel", "LOUD"),
        ("operator.leaseSeconds", 0.5),
        ("operator.resources.request", {"cpu": 1}),
        ("namespaces", ["Not_A_Namespace"]),
        ("namespaces", ["twice", "twice"]),
        ("images.trainer.digest", "sha256:short"),
        ("images.trainer.repository", "ada-trainer:1.0"),
        ("images.pullPolicy", "Sometimes"),
        ("images.pullSecrets", [{"name": "secret"}]),
        ("platform.defaultStore", "https://store.example/bucket"),
        ("platform.allowedImages", "registry.example/*"),
        ("platform.defaultImage", "registry.example/ada"),
        ("serviceMonitor.interval", "often"),
        ("developmentStore.secretKey", "short"),
        ("developmentStore.size", "ten"),
        ("podDisruptionBudget.maxUnavailable", "some"),
        ("extraObjects", [1]),
        ("operatr", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_bad_value_is_refused_by_name(path, value):
    with pytest.raises(ValueError, match="values don't meet the specifications") as refusal:
        render(nested(path, value))
    parent, _, key = path.rpartition(".")
    place = path.replace(".", "/")
    assert f"'/{place}" in str(refusal.value) or (
        f"'{key}' not allowed" in str(refusal.value) and f"'/{parent.replace('.', '/')}'" in f"{refusal.value}''/'"
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("operator.resources", {"limits": {"cpu": 2, "nvidia.com/gpu": "1"}}),
        ("podDisruptionBudget.maxUnavailable", "50%"),
        ("images.operator.digest", f"sha256:{'0a' * 32}"),
        ("images.operator.repository", "registry.example:5000/team/ada-operator"),
        ("developmentStore.size", "1.5Ti"),
        ("serviceMonitor.interval", "1m30s"),
        ("platform.allowedImages", []),
        ("global", {"anything": 1}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_good_value_is_taken(path, value):
    assert render(nested(path, value))


def test_another_release_of_kubernetes_is_refused_by_its_number():
    with pytest.raises(ValueError, match=r"requires kubeVersion: >=1\.33\.0-0 .* v1\.32\.0"):
        render({}, "--kube-version=1.32.0")


def platform_of(values: dict[str, Any], tmp_path: Any) -> Platform:
    text = next(
        one["data"]["platform.yaml"]
        for one in render(values)
        if one["kind"] == "ConfigMap" and "platform.yaml" in one.get("data", {})
    )
    file = tmp_path / "platform.yaml"
    file.write_text(text)
    return read_platform(file)


def test_the_chart_writes_every_field_of_the_platform_file():
    rendered = next(one for one in render() if one["kind"] == "ConfigMap")
    written = yaml.safe_load(rendered["data"]["platform.yaml"])
    assert set(written) == {to_camel(field.name) for field in fields(Platform)}


def test_without_values_the_platform_restricts_nothing_but_who_asks_curriculum_services(tmp_path):
    expected = Platform(
        curriculum_image="ada-curriculum:0.1.0",
        trainer_image="ada-trainer:0.1.0",
        simulator_image="ada-simulator:0.1.0",
        operator_namespace="ada-system",
    )
    assert platform_of({}, tmp_path) == expected


def test_what_is_said_of_the_platform_reaches_the_operator(tmp_path):
    digest = f"sha256:{'0a' * 32}"
    values = {
        "images": {
            "registry": "registry.example/",
            "trainer": {"tag": "7", "digest": digest},
            "simulator": {"tag": "8"},
            "pullPolicy": "Always",
            "pullSecrets": ["registry"],
        },
        "platform": {
            "serviceAccount": "trainer",
            "defaultStore": "s3://ada?endpoint=https://minio.example:9000",
            "defaultStoreSecret": "store",
            "restrictCurriculum": False,
            "allowedImages": ["registry.example/*"],
            "allowedStoreEndpoints": [],
            "allowedPriorityClasses": ["low"],
            "python": ["python3", "-B"],
        },
    }
    expected = Platform(
        curriculum_image="registry.example/ada-curriculum:0.1.0",
        trainer_image=f"registry.example/ada-trainer@{digest}",
        simulator_image="registry.example/ada-simulator:8",
        image_pull_policy="Always",
        image_pull_secrets=("registry",),
        service_account="trainer",
        default_store="s3://ada?endpoint=https://minio.example:9000",
        default_store_secret="store",
        operator_namespace=None,
        python=("python3", "-B"),
        allowed_images=("registry.example/*",),
        allowed_store_endpoints=(),
        allowed_priority_classes=("low",),
    )
    assert platform_of(values, tmp_path) == expected


def test_the_development_store_is_the_default_store_unless_another_is_named(tmp_path):
    values: dict[str, Any] = {"developmentStore": {"enabled": True}}
    found = platform_of(values, tmp_path)
    assert found.default_store == "s3://ada?endpoint=http://ada-ada-operator-store.ada-system.svc:9000&path_style=true"
    assert found.default_store_secret == "ada-ada-operator-store"
    values["platform"] = {"defaultStore": "s3://mine?endpoint=https://minio.example"}
    assert platform_of(values, tmp_path).default_store == "s3://mine?endpoint=https://minio.example"
