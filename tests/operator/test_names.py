"""Names: short, legal, telling, and never those of another experiment's children."""

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ada_operator import names

EXPERIMENTS = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,60}[a-z0-9])?", fullmatch=True)
STAGES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True)
PARTS = ("curriculum", "rendezvous", "simulator", "trainer", "evaluation")
LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def test_ordinary_names_are_what_one_would_guess():
    assert names.workload("quickstart", "curriculum") == "quickstart-curriculum"
    assert names.workload("quickstart", "trainer", "teacher") == "quickstart-teacher-trainer"
    assert names.curriculum_address("q", "lab") == "q-curriculum-0.q-curriculum.lab.svc:7001"
    assert names.simulator_addresses("q", "s", "lab") == "q-s-simulator-{ordinal}.q-s-simulator.lab.svc:7003"


@given(experiment=EXPERIMENTS, stage=st.none() | STAGES)
def test_every_name_is_a_dns_label_with_room_for_what_kubernetes_adds(experiment, stage):
    for part in PARTS:
        name = names.workload(experiment, part, stage)
        assert LABEL.fullmatch(name), name
        assert len(f"{name}-9999-abcde") <= 63
    for value in names.labels(experiment, "trainer", stage).values():
        assert len(value) <= 63


PIECES = st.lists(st.sampled_from(["a", "b", "trainer", "token"]), min_size=1, max_size=3).map("-".join)


@settings(max_examples=500)
@given(first=st.tuples(PIECES, PIECES), second=st.tuples(PIECES, PIECES))
@example(("a", "b-c"), ("a-b", "c"))
@example(("a", "trainer"), ("a-trainer", "a"))
def test_the_children_of_two_experiments_never_share_a_name(first, second):
    if first[0] != second[0]:
        assert children(*first).isdisjoint(children(*second))


def children(experiment, stage):
    """Return the names of an experiment with one stage."""
    shared = {names.workload(experiment, part) for part in ("curriculum", "rendezvous")}
    of_stage = {names.workload(experiment, part, stage) for part in ("simulator", "trainer", "evaluation")}
    return shared | of_stage | {names.config(experiment), names.token(experiment)}
