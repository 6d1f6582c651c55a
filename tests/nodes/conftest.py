"""A cluster with a real node, once a session."""

from collections.abc import Iterator

import pytest
from tests.cluster.nodes import NodeCluster, why_not


@pytest.fixture(scope="session")
def cluster() -> Iterator[NodeCluster]:
    """A control plane and one real node; skips where containers can't run."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with NodeCluster(1) as running:
        yield running
