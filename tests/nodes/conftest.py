"""A cluster with a real node, once a session."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:  # tests/ is not a package: what tests share is imported from the repository's root
    sys.path.insert(0, str(ROOT))

from tests.cluster.nodes import NodeCluster, why_not  # noqa: E402


@pytest.fixture(scope="session")
def cluster() -> Iterator[NodeCluster]:
    """A control plane and one real node, and another that is switched off; skips where containers can't run."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with NodeCluster(2, powered=1) as running:
        yield running
