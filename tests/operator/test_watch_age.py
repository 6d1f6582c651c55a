"""When the watches count as deaf, and which experiment a child belongs to."""

import itertools

from ada_operator import names
from ada_operator.cluster import JOBS
from ada_operator.handlers import EndlessBackoff, Experiments, WatchAge, Wishes
from ada_operator.inventory import place_of


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_event_proves_that_the_watches_deliver():
    clock = Clock()
    age = WatchAge(clock)
    clock.now = 100
    assert age.age_s == 100
    age.saw("uid", "1")
    assert age.age_s == 0


def test_a_quiet_cluster_is_not_taken_for_deafness():
    clock = Clock()
    age = WatchAge(clock)
    age.saw("uid", "7")
    for _ in range(5):
        clock.now += 300
        age.compare({"uid": "7"})
        assert age.age_s == 0


def test_a_version_that_two_lists_show_and_no_watch_does_is_deafness():
    clock = Clock()
    age = WatchAge(clock)
    age.saw("uid", "7")
    clock.now = 300
    age.compare({"uid": "8"})  # may have been on its way
    assert age.age_s == 0
    clock.now = 600
    age.compare({"uid": "8"})
    assert age.age_s == 300
    age.saw("uid", "8")
    assert age.age_s == 0


def test_children_of_experiments_with_long_names_are_found_by_their_bounded_label():
    experiments, name = Experiments(), "n" * 200
    experiments.add("ns", name)
    child = {"namespace": "ns", "labels": names.labels(name, "trainer")}
    assert experiments.key(place_of(JOBS, child)) == ("ns", name)
    assert experiments.key(place_of(JOBS, {**child, "namespace": "elsewhere"})) is None
    experiments.remove("ns", name)
    assert experiments.key(place_of(JOBS, child)) is None


def test_backoffs_of_watches_never_end_and_start_anew_for_each_request():
    backoffs = EndlessBackoff()
    for _ in range(2):
        first = list(itertools.islice(backoffs, 100))
        assert len(first) == 100 and first[0] <= 0.5 and 30 <= first[-1] <= 60


def test_the_echo_of_our_own_status_write_is_no_news_but_a_changed_spec_is():
    wishes = Wishes()
    metadata = {"uid": "u", "generation": 1, "resourceVersion": "1"}
    assert wishes.changed(metadata)
    assert not wishes.changed({**metadata, "resourceVersion": "2"})
    assert wishes.changed({**metadata, "resourceVersion": "3", "generation": 2})
    assert wishes.changed({**metadata, "generation": 2, "deletionTimestamp": "2026-01-01T00:00:00Z"})
