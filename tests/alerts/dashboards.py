"""The queries of the shipped dashboards, and whether a Prometheus has an answer to them."""

import json
import math
import time

from tests.alerts.prometheus import FACTOR, Prometheus
from tests.alerts.promtool import ROOT, faster

DASHBOARDS = ROOT / "charts" / "ada-operator" / "files" / "dashboards"
Where = tuple[str, str, str]  # dashboard, panel, letter of the query


def queries(experiments: str = "default/.*", factor: float = FACTOR) -> dict[Where, str]:
    """Return every query of every panel, variables filled in, its windows made short as those of the rules are."""
    found = {}
    for page in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(page.read_text())["panels"]:
            for target in panel.get("targets", []):
                expression = target["expr"].replace("$experiment", experiments).replace("$stage", ".*")
                found[page.stem, panel["title"], target["refId"]] = faster(expression, factor)
    return found


def answers(server: Prometheus, expression: str) -> bool:
    """Return whether an expression has a value that can be drawn."""
    return any(math.isfinite(float(one["value"][1])) for one in server.value_of(expression))


def never_shown(server: Prometheus, wanted: dict[Where, str], patience_s: float) -> dict[Where, str]:
    """Return the queries that show nothing at any time before patience ends: a panel shows more than one moment."""
    deadline = time.monotonic() + patience_s
    while wanted and time.monotonic() < deadline:
        time.sleep(1.0)
        wanted = {where: query for where, query in wanted.items() if not answers(server, query)}
    return wanted
