"""The chart installs the alerts and dashboards as they are, where there is somebody to read them."""

import json

import pytest
import yaml
from tests.alerts.promtool import ROOT, RULES, alerts
from tests.cluster.build import missing_programs
from tests.cluster.helm import MONITORING, render


@pytest.fixture(autouse=True)
def helm():
    if missing_programs("helm"):
        pytest.skip("helm not built: run `python tests/cluster/build.py helm`")


def of_kind(objects, kind):
    return [one for one in objects if one["kind"] == kind]


def test_the_rules_are_those_of_the_file():
    (rule,) = of_kind(render({}, MONITORING), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(RULES.read_text())


def test_runbooks_are_where_the_values_say():
    values = {"prometheusRule": {"runbookBaseUrl": "https://wiki.example/ada/"}}
    (rule,) = of_kind(render(values, MONITORING), "PrometheusRule")
    urls = {
        one["annotations"]["runbook_url"]
        for group in rule["spec"]["groups"]
        for one in group["rules"]
        if "alert" in one
    }
    pages = {alert["annotations"]["runbook_url"].rpartition("/")[2] for alert in alerts().values()}
    assert urls == {f"https://wiki.example/ada/{page}" for page in pages}


def test_there_are_no_rules_without_prometheus_operator_or_when_switched_off():
    assert of_kind(render({}), "PrometheusRule") == []
    assert of_kind(render({"prometheusRule": {"enabled": False}}, MONITORING), "PrometheusRule") == []


def test_dashboards_are_those_of_the_files_and_carry_the_label_that_grafana_looks_for():
    found = {}
    for one in of_kind(render({"dashboards": {"enabled": True}}), "ConfigMap"):
        if one["metadata"]["labels"].get("grafana_dashboard") == "1":
            found |= one["data"]
    files = {path.name: path for path in (ROOT / "charts" / "ada-operator" / "files" / "dashboards").glob("*.json")}
    assert {name: json.loads(text) for name, text in found.items()} == {
        name: json.loads(path.read_text()) for name, path in files.items()
    }


def test_dashboards_are_left_out_unless_they_are_wanted():
    assert [one for one in of_kind(render({}), "ConfigMap") if "dashboard" in one["metadata"]["name"]] == []
