"""The chart's tests need Helm, and no cluster."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:  # tests/ is not a package: what tests share is imported from the repository's root
    sys.path.insert(0, str(ROOT))

from tests.cluster.build import missing_programs  # noqa: E402
from tests.cluster.helm import MONITORING, render  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def helm() -> None:
    """Skip where Helm was not built."""
    if missing_programs("helm"):
        pytest.skip("helm not built: run `python tests/cluster/build.py helm`")


@pytest.fixture(scope="session")
def everything(helm: None) -> Iterator[list[dict[str, Any]]]:
    """Every object that the chart can make at once."""
    values = {
        "dashboards": {"enabled": True},
        "developmentStore": {"enabled": True, "size": "1Gi", "namespaces": ["research"]},
        "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}}],
    }
    yield render(values, MONITORING)
