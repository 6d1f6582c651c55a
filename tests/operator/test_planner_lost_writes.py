"""An operator that dies between two of its writes: what it concluded counts once, for the group it was about."""

import pytest

STALL = {"failurePolicy": {"stallSeconds": 600}}


def training(cluster, frames=100, **more):
    cluster.settle()
    cluster.learn("teacher", frames, **more)
    cluster.settle()
    assert cluster.status["phase"] == "Training"
    return cluster


def look_and_die_before_deleting(cluster):
    """Carry a plan out as far as its status."""
    objects, pods = dict(cluster.objects), dict(cluster.pods)
    decided = cluster.look()
    cluster.objects, cluster.pods = objects, pods
    return decided


def look_and_die_before_the_status(cluster):
    """Carry a plan out, all but its status."""
    before = cluster.status
    cluster.look()
    cluster.status = before


def teacher(cluster):
    return cluster.status["stages"][0]


def command(cluster):
    return cluster.job("teacher")["spec"]["template"]["spec"]["containers"][0]["command"]


@pytest.mark.parametrize("deaths", [0, 1, 3])
def test_a_stall_counts_once_however_often_the_operator_dies_before_it_deletes_the_job(make_cluster, deaths):
    cluster = training(make_cluster(**STALL))
    cluster.now += 700
    for _ in range(deaths):
        assert look_and_die_before_deleting(cluster).deletions
    cluster.settle()
    assert teacher(cluster)["restarts"]["stall"] == 1
    assert teacher(cluster)["generation"] == 2


def test_a_roll_back_is_not_forgotten_by_an_operator_that_dies_before_it_deletes_the_job(cluster):
    training(cluster)
    cluster.learn("teacher", 200)
    cluster.settle()
    cluster.learn("teacher", 210, commit=False, skipped_updates=20)
    look_and_die_before_deleting(cluster)
    cluster.settle()
    assert teacher(cluster)["restarts"]["notFinite"] == 1
    assert teacher(cluster)["generation"] == 2
    assert command(cluster)[command(cluster).index("--resume-uri") + 1] == "s3://ada/teacher/100"


def test_a_group_whose_start_was_not_written_down_uses_its_roll_back_up_all_the_same(cluster):
    """Else the group after it would go back again, to a checkpoint that is older still."""
    training(cluster)
    cluster.learn("teacher", 200)
    cluster.settle()
    cluster.learn("teacher", 210, commit=False, skipped_updates=20)
    cluster.look()
    cluster.run_controllers()
    assert teacher(cluster)["resume"] is not None
    look_and_die_before_the_status(cluster)
    assert cluster.job("teacher") is not None
    cluster.settle()
    assert teacher(cluster)["generation"] == 2
    assert teacher(cluster)["resume"] is None


def test_a_crash_of_a_group_whose_start_was_not_written_down_is_counted(make_cluster):
    cluster = training(make_cluster(**STALL))
    cluster.end_pods("trainer", 1)
    cluster.settle()
    cluster.now += 700
    cluster.look()  # given up
    cluster.run_controllers()
    look_and_die_before_the_status(cluster)  # the next group is made
    cluster.run_controllers()
    cluster.end_pods("trainer", 1)
    cluster.settle()
    assert teacher(cluster)["generation"] == 2
    assert teacher(cluster)["restarts"]["code"] == 2


def test_what_is_left_of_a_group_is_not_held_against_the_next_one(make_cluster):
    """A failed pod that is still to be collected carries the same labels as those of the new Job."""
    cluster = training(make_cluster(**STALL))
    cluster.end_pods("trainer", 1)
    cluster.settle()
    left = next(pod for pod in cluster.of_part("trainer") if pod["status"]["phase"] == "Failed")
    cluster.now += 700
    cluster.look()
    cluster.run_controllers()
    cluster.pods[left["metadata"]["name"] + "-left"] = {**left, "metadata": {**left["metadata"], "name": "left"}}
    cluster.settle()
    assert teacher(cluster)["generation"] == 2
    assert teacher(cluster)["restarts"]["code"] == 1


def test_a_crash_of_the_evaluation_is_counted_beside_one_of_the_training(cluster):
    training(cluster)
    cluster.end_pods("trainer", 1)
    cluster.settle()
    cluster.learn("teacher", 1000, phase="trained")
    cluster.end_pods("trainer", 0)
    cluster.settle()
    cluster.end_pods("evaluation", 1)
    cluster.settle()
    assert cluster.status["phase"] == "Evaluating"
    assert teacher(cluster)["restarts"]["code"] == 2
