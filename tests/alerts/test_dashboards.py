"""Every query of the dashboards finds something in what the programs' own code exposes; a real Prometheus answers."""

import json

from tests.alerts.dashboards import DASHBOARDS, never_shown, queries
from tests.alerts.pages import Life, living
from tests.alerts.prometheus import prometheus

PATIENCE_S = 90.0


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
        assert never_shown(server, wanted, PATIENCE_S) == {}


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
