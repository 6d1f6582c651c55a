"""The account of an experiment's time: all of it is booked, to training or to what it was lost to, and none twice."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ada_operator.kubernetes_time import timestamp

LOSSES = ("code", "outOfMemory", "stall", "notFinite", "collapse", "disruption")


def begin(cluster):
    """Bring the teacher to where it trains; 10 s after its group was made it first learned."""
    cluster.settle()
    cluster.now += 10
    cluster.learn("teacher", 100)
    cluster.look()
    assert cluster.status["phase"] == "Training"
    return cluster


def learn_on(cluster, after_s, frames, **more):
    cluster.now += after_s
    cluster.learn("teacher", frames, **more)
    cluster.look()


def lost(cluster):
    return {
        cause: seconds for cause, seconds in cluster.status["lostSeconds"].items() if seconds and cause != "starting"
    }


def test_the_time_up_to_the_first_frames_is_lost_to_the_start(cluster):
    begin(cluster)
    assert cluster.status["lostSeconds"]["starting"] == pytest.approx(12, abs=3)
    assert cluster.status["goodput"] == 0.0
    learn_on(cluster, 50, 200)
    assert cluster.status["trainingSeconds"] == 50
    assert not lost(cluster)


@pytest.mark.parametrize(
    ("cause", "code", "more"),
    [
        pytest.param("code", 1, {}, id="a crash"),
        pytest.param("outOfMemory", 137, {"reason": "OOMKilled"}, id="no memory"),
        pytest.param("disruption", 143, {"disrupted": True}, id="a drained node"),
    ],
)
def test_the_time_from_the_last_frames_before_a_failure_to_the_first_after_it_is_lost_to_its_cause(
    cluster, cause, code, more
):
    begin(cluster)
    learn_on(cluster, 50, 200)
    cluster.now += 5
    cluster.end_pods("trainer", code, **more)
    cluster.look()
    cluster.run_controllers()
    learn_on(cluster, 20, 150)  # back to a commit
    learn_on(cluster, 10, 210)
    assert lost(cluster) == {cause: 35}
    learn_on(cluster, 40, 300)
    assert lost(cluster) == {cause: 35}
    assert cluster.status["trainingSeconds"] == 90


def test_a_stall_costs_its_silence_and_the_new_group_its_start(make_cluster):
    cluster = begin(make_cluster(failurePolicy={"stallSeconds": 600}))
    cluster.now += 700
    cluster.settle()
    learn_on(cluster, 30, 110)
    assert cluster.status["stages"][0]["generation"] == 2
    assert set(lost(cluster)) == {"stall"}
    assert 730 <= cluster.status["lostSeconds"]["stall"] <= 750


def test_suspension_and_queue_are_lost_to_themselves_and_what_follows_to_the_start(cluster):
    begin(cluster)
    began = cluster.status["lostSeconds"]["starting"]
    cluster.edit(suspend=True)
    cluster.look()
    cluster.now += 2
    cluster.learn("teacher", 150)
    cluster.settle()
    cluster.now += 1000
    cluster.edit(suspend=False)
    cluster.settle()
    assert 1000 <= cluster.status["lostSeconds"]["suspended"] <= 1020
    cluster.job("teacher")["spec"]["suspend"] = True
    cluster.look()
    cluster.now += 500
    cluster.look()
    cluster.job("teacher")["spec"]["suspend"] = False
    cluster.look()
    learn_on(cluster, 20, 160)
    assert cluster.status["lostSeconds"]["queued"] == 500
    assert 20 <= cluster.status["lostSeconds"]["starting"] - began <= 40


def test_an_operator_that_was_away_counts_as_training_what_the_frames_account_for(cluster):
    begin(cluster)
    learn_on(cluster, 600, 4100, frames_per_second=10.0)
    assert cluster.status["trainingSeconds"] == 400
    assert lost(cluster) == {"unobserved": 200}


def test_slow_updates_are_training_from_the_one_to_the_next(cluster):
    begin(cluster)
    for number in range(1, 4):
        for _ in range(20):
            cluster.now += 15
            cluster.look()
        cluster.learn("teacher", 100 + number)
        cluster.look()
    assert cluster.status["trainingSeconds"] == 900
    assert not lost(cluster)


def test_a_failed_experiment_has_the_time_up_to_its_end_booked_and_none_after_it(make_cluster):
    cluster = begin(make_cluster(failurePolicy={"maxCodeFailures": 0}))
    cluster.now += 30
    cluster.end_pods("trainer", 1)
    cluster.settle()
    before = cluster.status["lostSeconds"]
    assert before["code"] == 30
    cluster.now += 1000
    cluster.settle()
    assert cluster.status["lostSeconds"] == before
    assert cluster.status["looked"] is None


EVENTS = st.one_of(
    st.tuples(st.just("pass"), st.floats(0.1, 500)),
    st.tuples(st.just("learn"), st.integers(1, 40)),
    st.tuples(st.sampled_from(["crash", "drain", "no memory", "not finite", "job goes"]), st.none()),
    st.tuples(st.sampled_from(["suspend", "resume", "queue", "admit", "silent", "heard", "trained"]), st.none()),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENTS, max_size=25))
def test_whatever_happens_all_time_is_booked_once_and_no_entry_ever_falls(make_cluster, events):
    cluster = make_cluster(failurePolicy={"maxCodeFailures": 1000, "stallSeconds": 600})
    cluster.settle()
    frames, passed_s, seen_at = 0, booked_s(cluster.status) + pending_s(cluster), cluster.now
    for what, number in [*events, ("resume", None), ("learn", 1)]:
        before = cluster.status
        frames = happen(cluster, what, number, frames)
        if before["looked"] is not None:
            passed_s += cluster.now - seen_at
        else:
            passed_s = booked_s(before)
        seen_at = cluster.now
        cluster.look()
        cluster.run_controllers()
        after = cluster.status
        assert booked_s(after) + pending_s(cluster) == pytest.approx(passed_s, abs=1e-6)
        assert after["trainingSeconds"] >= before["trainingSeconds"]
        assert all(after["lostSeconds"][cause] >= known for cause, known in before["lostSeconds"].items())
        if booked_s(after):
            assert after["goodput"] == pytest.approx(after["trainingSeconds"] / booked_s(after), abs=0.001)


def booked_s(status):
    return status["trainingSeconds"] + sum(status["lostSeconds"].values())


def pending_s(cluster):
    """Return the time that is still to be booked."""
    return cluster.now - cluster.status["looked"] if cluster.status["looked"] is not None else 0.0


def happen(cluster, what, number, frames):
    """Let one thing happen."""
    stage = next((one["name"] for one in cluster.status["stages"] if one["phase"] != "Succeeded"), "student")
    job = cluster.job(stage)
    match what:
        case "pass":
            cluster.now += number
        case "learn" if cluster.of_part("trainer"):
            frames = min(frames + number, 999)
            cluster.learn(stage, frames)
        case "crash" | "drain" | "no memory":
            code, more = {
                "crash": (1, {}),
                "drain": (143, {"disrupted": True}),
                "no memory": (137, {"reason": "OOMKilled"}),
            }[what]
            cluster.end_pods("trainer", code, **more)
        case "not finite" if cluster.of_part("trainer"):
            skipped = cluster.stages.get(stage, {}).get("skipped_updates", 0) + 20
            cluster.learn(stage, frames, skipped_updates=skipped)
        case "job goes" if job is not None:
            cluster.objects = {one: found for one, found in cluster.objects.items() if found is not job}
            for pod in cluster.of_part("trainer"):
                del cluster.pods[pod["metadata"]["name"]]
        case "suspend" | "resume":
            cluster.edit(suspend=what == "suspend")
        case "queue" | "admit" if job is not None:
            job["spec"]["suspend"] = what == "queue"
        case "silent" | "heard":
            cluster.progress_age_s = 1000.0 if what == "silent" else 1.0
        case "trained" if cluster.of_part("trainer"):
            cluster.learn(stage, 1000, phase="trained")
            cluster.end_pods("trainer", 0)
    return frames


def test_an_hour_of_waiting_is_not_written_down_look_by_look(cluster):
    begin(cluster)
    cluster.end_pods("trainer", 1)
    for pod in cluster.of_part("trainer"):
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = timestamp(cluster.now)
    cluster.settle()
    before = cluster.status
    for _ in range(3):
        cluster.now += 100
        cluster.look()
        assert cluster.status["lostSeconds"] == before["lostSeconds"]
        assert cluster.status["looked"] == before["looked"]
