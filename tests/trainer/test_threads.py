"""How many threads a process computes with."""

import os

import pytest

from ada_trainer.exits import ConfigurationError
from ada_trainer.threads import threads


def test_processes_share_the_cores_that_they_may_use() -> None:
    cores = len(os.sched_getaffinity(0))
    assert (threads({}), threads({}, cores), threads({}, 10 * cores)) == (cores, 1, 1)


def test_a_share_that_is_given_counts() -> None:
    assert threads({"ADA_THREADS": "3"}, 100) == 3


@pytest.mark.parametrize("share", ["none", "0", "-1", "1.5", "²"])
def test_a_share_that_is_no_number_is_refused_by_name(share: str) -> None:
    with pytest.raises(ConfigurationError, match="ADA_THREADS"):
        threads({"ADA_THREADS": share})
