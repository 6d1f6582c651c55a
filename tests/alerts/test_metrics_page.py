"""What the programs expose is what `docs/metrics.md` lists, and alerts and dashboards use nothing else."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.alerts.documented import documented, used_in  # noqa: E402
from tests.alerts.pages import Life  # noqa: E402
from tests.alerts.promtool import RULES  # noqa: E402

UNITS = {
    "s": "_seconds",
    "s since 1970": "_timestamp_seconds",
    "bytes": "_bytes",
    "nats": "_nats",
    "frames/s": "_frames_per_second",
}


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    life = Life(tmp_path_factory.mktemp("worker"))
    for _ in range(40):
        life.step()
    registries = (life.operator.registry, life.curriculum, life.node._registry, life.simulator._registry)
    return [family for registry in registries for family in registry.collect()]


def name_of(family):
    return f"{family.name}_total" if family.type == "counter" else family.name


def test_every_metric_is_listed_with_its_type_and_labels(families):
    exposed = {
        name_of(family): (family.type, frozenset(key for one in family.samples for key in one.labels) - {"le"})
        for family in families
        if family.samples
    }
    listed = {name: (row.kind, row.labels) for name, row in documented().items()}
    assert exposed == {name: row for name, row in listed.items() if name in exposed}
    assert set(listed) - set(exposed) <= MEASURED_IN_THE_BACKGROUND


MEASURED_IN_THE_BACKGROUND = {"ada_curriculum_task_metric"}


def test_every_metric_is_explained_where_it_is_exposed(families):
    assert [family.name for family in families if not family.documentation.endswith((".", "learned from."))] == []


def test_names_carry_their_unit():
    for name, row in documented().items():
        ending = UNITS.get(row.unit)
        assert ending is None or name.removesuffix("_total").endswith(ending), name
        assert (row.kind == "counter") == name.endswith("_total"), name


def test_alerts_use_listed_metrics_only():
    assert used_in(RULES.read_text()) <= set(documented())


def test_dashboards_use_listed_metrics_only():
    pages = sorted((RULES.parents[1] / "dashboards").glob("*.json"))
    assert [page.stem for page in pages] == ["platform", "training"]
    for page in pages:
        assert used_in(page.read_text()) <= set(documented())


def test_a_metric_that_is_not_listed_is_found():
    assert used_in("rate(ada_trainer_nonsense_total[5m])") - set(documented()) == {"ada_trainer_nonsense_total"}
    assert used_in("ada_simulator_step_seconds_bucket") == {"ada_simulator_step_seconds"}
