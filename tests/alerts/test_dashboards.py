"""Every query of the dashboards finds something in what the programs' own code exposes; a real Prometheus answers."""

import json
import math
import time

from tests.alerts.pages import Life, living
from tests.alerts.prometheus import FACTOR, prometheus
from tests.alerts.promtool import ROOT, faster

DASHBOARDS = ROOT / "charts" / "ada-operator" / "files" / "dashboards"
PATIENCE_S = 90.0


def queries():
    """Return every query of every panel, variables filled in."""
    found = {}
    for page in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(page.read_text())["panels"]:
            for target in panel.get("targets", []):
                expression = target["expr"].replace("$experiment", "default/.*").replace("$stage", ".*")
                found[page.stem, panel["title"], target["refId"]] = faster(expression, FACTOR)
    return found


def answers(server, expression):
    values = [float(one["value"][1]) for one in server.value_of(expression)]
    return any(math.isfinite(value) for value in values)


def test_every_query_of_the_dashboards_returns_something(tmp_path):
    wanted = queries()
    assert len(wanted) > 60
    life = Life(tmp_path)
    for _ in range(40):
        life.step()
    targets = tmp_path / "targets.json"
    pages = [{"targets": [address], "labels": {"program": part}} for part, address in life.serve().items()]
    targets.write_text(json.dumps(pages))
    with living(life, 0.3), prometheus(tmp_path / "prometheus", targets) as server:
        deadline = time.monotonic() + PATIENCE_S
        while wanted and time.monotonic() < deadline:
            time.sleep(2.0)
            wanted = {where: query for where, query in wanted.items() if not answers(server, query)}
    assert wanted == {}


def test_dashboards_are_whole():
    for page in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(page.read_text())
        identities = [panel["id"] for panel in board["panels"]]
        assert len(set(identities)) == len(identities)
        assert board["uid"] == f"ada-{page.stem}"
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
        assert len(set(places)) == len(places), "two panels in one place"
        for panel in board["panels"]:
            assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
            if panel["type"] in ("timeseries", "stat"):
                assert panel["title"]
                assert panel["targets"], panel["title"]
                assert panel["datasource"]["uid"] == "${datasource}"
