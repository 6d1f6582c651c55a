"""Whether an object already is what a manifest asks for."""

import pytest

from ada_operator.cluster import covers

WANTED = {
    "metadata": {"labels": {"a": "b"}},
    "spec": {"replicas": 2, "containers": [{"name": "x", "resources": {"limits": {"cpu": 1}}, "env": []}]},
}


def observed(**spec):
    container = {"name": "x", "resources": {"limits": {"cpu": "1"}}, "terminationMessagePath": "/dev/termination-log"}
    return {
        "metadata": {"labels": {"a": "b", "theirs": "c"}, "uid": "u"},
        "spec": {"replicas": 2, "containers": [container], "defaulted": True, **spec},
        "status": {},
    }


def test_defaults_foreign_labels_and_status_are_no_difference():
    assert covers(observed(), WANTED)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"replicas": 3}, id="a-changed-number"),
        pytest.param({"replicas": None}, id="a-field-that-went-away"),
        pytest.param({"containers": []}, id="a-missing-list-item"),
        pytest.param({"containers": [{"name": "x", "resources": {"limits": {"cpu": "2"}}}]}, id="a-changed-quantity"),
        pytest.param({"containers": [{"name": "y", "resources": {"limits": {"cpu": "1"}}}]}, id="a-changed-text"),
    ],
)
def test_a_foreign_edit_of_our_field_is_a_difference(change):
    assert not covers(observed(**change), WANTED)


def test_false_and_absent_are_the_same_but_true_and_absent_are_not():
    assert covers({}, {"flag": False})
    assert not covers({}, {"flag": True})


def test_nothing_covers_a_manifest_but_an_empty_one():
    assert not covers(None, WANTED)
    assert covers(None, {"labels": {}, "items": [], "none": None, "text": ""})
