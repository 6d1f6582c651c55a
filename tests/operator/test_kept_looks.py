"""What is kept of the API server's answers: of two versions the newer counts, and what is doubted is read anew."""

import asyncio
from typing import Any

import pytest

from ada_operator.kept import LONGEST_KEPT_S, KeptLooks, pack

HERE, ELSEWHERE, KIND = ("ns", "run"), ("ns", "other"), "Job"


def job(uid: str, version: int, **more: Any) -> dict[str, Any]:
    return {"kind": KIND, "metadata": {"uid": uid, "resourceVersion": str(version), **more}}


@pytest.fixture
def kept(clock) -> KeptLooks:
    found = KeptLooks(clock)
    found.lists_hold_s = 100.0
    return found


def versions(kept: KeptLooks, read: list[dict[str, Any]] | None = None) -> dict[str, int]:
    """Return uid and version of what a look at `HERE` sees; reading is an error unless there is something to read."""

    async def reading() -> list[dict[str, Any]]:
        assert read is not None, "it was asked for though it is known"
        return read

    found = asyncio.run(kept.items(HERE, KIND, reading))
    return {one["metadata"]["uid"]: int(one["metadata"]["resourceVersion"]) for one in found}


def test_what_was_read_is_not_read_again_until_it_is_old(kept, clock):
    assert versions(kept, [job("a", 5)]) == {"a": 5}
    clock.now += LONGEST_KEPT_S - 1
    assert versions(kept) == {"a": 5}
    clock.now += 2
    assert versions(kept, [job("a", 6)]) == {"a": 6}


@pytest.mark.parametrize("order", [(5, 6), (6, 5), (6, 6, 5), (5, 6, 5)])
def test_the_newer_version_counts_in_whatever_order_they_are_heard_of(kept, order):
    versions(kept, [])
    news = [kept.heard(HERE, KIND, pack(job("a", version, generation=version))) for version in order]
    assert versions(kept) == {"a": 6}
    assert news.count(True) == (2 if order[0] == 5 else 1), "what is known already is no news"


@pytest.mark.parametrize(
    ("kind", "before", "after", "news"),
    [
        ("Job", {"active": 1, "ready": 1}, {"active": 1, "ready": 0}, False),
        ("Job", {"active": 1}, {"conditions": [{"type": "Failed", "status": "True"}]}, True),
        ("StatefulSet", {"updatedReplicas": 1}, {"updatedReplicas": 2}, False),
        ("StatefulSet", {"readyReplicas": 1}, {"readyReplicas": 2}, True),
        ("PodDisruptionBudget", {"currentHealthy": 1}, {"currentHealthy": 0}, False),
        ("Pod", {"phase": "Pending"}, {"phase": "Running"}, True),
    ],
)
def test_a_change_of_what_nobody_reads_is_known_but_no_news(kept, kind, before, after, news):
    def said(version: int, status: dict[str, Any]) -> dict[str, Any]:
        metadata = {"uid": "a", "resourceVersion": str(version)}
        return {"kind": kind, "metadata": metadata, "status": status}

    assert kept.heard(HERE, kind, pack(said(5, before)))
    assert kept.heard(HERE, kind, pack(said(6, after))) is news
    assert kept.knows(HERE, kind, said(6, after))
    assert not kept.knows(HERE, kind, said(7, after))


def test_what_went_stays_gone_though_an_older_version_is_heard_of_later(kept):
    versions(kept, [job("a", 5), job("b", 5)])
    assert kept.heard(HERE, KIND, pack(job("a", 8)), gone=True)
    assert not kept.heard(HERE, KIND, pack(job("a", 7)))
    assert versions(kept) == {"b": 5}
    assert kept.heard(HERE, KIND, pack(job("c", 9))), "another of the same name is another object"
    assert versions(kept) == {"b": 5, "c": 9}


def test_the_answer_to_a_write_counts_and_its_echo_is_no_news(kept):
    versions(kept, [])
    kept.wrote(HERE, KIND, job("a", 7))
    assert not kept.heard(HERE, KIND, pack(job("a", 7)))
    assert versions(kept) == {"a": 7}


def test_a_read_that_a_change_overtakes_is_not_kept(kept):
    async def overtaken() -> list[dict[str, Any]]:
        kept.heard(HERE, KIND, pack(job("a", 6)))
        return [job("a", 5)]

    asyncio.run(kept.items(HERE, KIND, overtaken))
    assert versions(kept, [job("a", 6)]) == {"a": 6}


def test_after_a_whole_list_a_place_of_which_nothing_was_heard_is_known_to_be_empty(kept, clock):
    kept.heard(ELSEWHERE, KIND, pack(job("x", 3)))
    assert kept.listed(KIND, clock.now, 4, {ELSEWHERE: {"x"}}) == []
    assert versions(kept) == {}
    clock.now += 101
    assert versions(kept, [job("a", 6)]) == {"a": 6}, "the list is too old to be believed"


def test_a_whole_list_takes_away_what_is_not_in_it_but_not_what_is_newer_than_it(kept, clock):
    for uid, version in (("lost", 5), ("listed", 5), ("newer", 9)):
        kept.heard(HERE, KIND, pack(job(uid, version)))
    assert kept.listed(KIND, clock.now, 8, {HERE: {"listed"}}) == [HERE]
    assert versions(kept) == {"listed": 5, "newer": 9}
    assert kept.listed(KIND, clock.now, 8, {HERE: {"listed"}}) == []


def test_what_is_doubted_is_read_anew_also_where_a_list_began_before_the_doubt(kept, clock):
    kept.listed(KIND, clock.now, 8, {})
    clock.now += 1
    kept.doubt(HERE)
    assert versions(kept, [job("a", 9)]) == {"a": 9}
    clock.now += 1
    kept.doubt(HERE, KIND)
    kept.doubt(HERE, "Pod")
    assert versions(kept, [job("a", 10)]) == {"a": 10}
    assert versions(kept) == {"a": 10}


def test_nothing_stays_in_memory_of_an_experiment_that_is_gone_with_its_children(kept):
    versions(kept, [job("a", 5)])
    kept.heard(HERE, "AdaExperiment", pack(job("e", 4)))
    kept.leave(HERE, "AdaExperiment")
    assert len(kept) == 1, "a child is still there"
    kept.heard(HERE, KIND, pack(job("a", 6)), gone=True)
    assert len(kept) == 0
