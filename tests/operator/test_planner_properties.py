"""Whatever happens in whatever order, the plan settles, forgets nothing, and finishes once the world behaves."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EVENTS = st.sampled_from(
    [
        *["trainer crashes", "node is drained", "rendezvous restarts", "curriculum pod goes", "simulators go"],
        *["frames", "commit", "suspend", "resume", "scale to 1", "scale to 3", "job is deleted", "time passes"],
        *["curriculum cannot be asked", "curriculum can be asked", "trained", "a look", "operator forgets its look"],
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENTS, max_size=14))
def test_any_history_keeps_the_invariants_and_ends_well(make_cluster, events):
    cluster = make_cluster(failurePolicy={"maxCodeFailures": 1000, "stallSeconds": 3600})
    frames = 0
    for event in events:
        before = cluster.status
        frames = happen(cluster, event, frames)
        keep_invariants(before, cluster)
    behave(cluster)


def happen(cluster, event, frames):
    """Let one thing happen, then look once or until nothing changes."""
    stage = running_stage(cluster)
    match event:
        case "trainer crashes":
            cluster.end_pods("trainer", 1)
        case "node is drained":
            cluster.end_pods("trainer", 143, disrupted=True)
        case "rendezvous restarts" | "curriculum pod goes" | "simulators go":
            part = {"r": "rendezvous", "c": "curriculum", "s": "simulator"}[event[0]]
            for pod in cluster.of_part(part):
                del cluster.pods[pod["metadata"]["name"]]
        case "frames" | "commit":
            frames += 7
            cluster.learn(stage, min(frames, 999), commit=event == "commit")
        case "suspend":
            cluster.edit(suspend=True)
        case "resume":
            cluster.edit(suspend=False)
        case "scale to 1" | "scale to 3":
            cluster.edit(nodes=int(event[-1]))
        case "job is deleted":
            for reference in [one for one in cluster.objects if one.kind == "Job"]:
                del cluster.objects[reference]
            for pod in cluster.of_part("trainer") + cluster.of_part("evaluation"):
                del cluster.pods[pod["metadata"]["name"]]
        case "time passes":
            cluster.now += 400
        case "curriculum cannot be asked":
            cluster.progress_age_s = None
        case "curriculum can be asked":
            cluster.progress_age_s = 1.0
        case "trained":
            if cluster.of_part("trainer"):
                cluster.learn(stage, 1000, phase="trained")
                cluster.end_pods("trainer", 0)
        case "operator forgets its look":
            # It was killed after it had applied the plan and before it could write the status.
            before = cluster.status
            cluster.look()
            cluster.status = before
            return frames
    cluster.look()
    cluster.run_controllers()
    return frames


def running_stage(cluster):
    stages = (cluster.status or {}).get("stages", [])
    return next((stage["name"] for stage in stages if stage["phase"] != "Succeeded"), "teacher")


def keep_invariants(before, cluster):
    """Compare two statuses in a row."""
    after = cluster.status
    if before is None or after is None:
        return
    assert after["phase"] != "Failed", after["conditions"]
    for old, new in zip(before["stages"], after["stages"], strict=True):
        assert new["generation"] >= old["generation"]
        assert not (old["phase"] == "Succeeded" and new["phase"] != "Succeeded")
        assert not (old["phase"] == "Evaluating" and new["phase"] not in ("Evaluating", "Succeeded"))
        assert all(new["restarts"][cause] >= number for cause, number in old["restarts"].items())
        assert old["teacher"] is None or new["teacher"] == old["teacher"]
    teacher, student = after["stages"]
    assert not cluster.job("student") or teacher["phase"] == "Succeeded"
    transitions = {one["type"]: one for one in before["conditions"]}
    for condition in after["conditions"]:
        old = transitions.get(condition["type"])
        if old and old["status"] == condition["status"]:
            assert old["lastTransitionTime"] == condition["lastTransitionTime"]
    assert student["frames"] == 0 or teacher["phase"] == "Succeeded"


def behave(cluster):
    """From now on everything works: the experiment must succeed and leave nothing."""
    cluster.edit(suspend=False)
    cluster.progress_age_s = 1.0
    for stage in ("teacher", "student"):
        if running_stage(cluster) == stage:
            cluster.settle()
            cluster.finish(stage)
    cluster.settle()
    assert cluster.status["phase"] == "Succeeded", cluster.status
    assert cluster.kinds() == {"ConfigMap/quick-experiment"}
    before = cluster.fingerprint()
    assert not cluster.look().deletions
    assert cluster.fingerprint() == before


@pytest.mark.parametrize("looks", range(1, 14))
def test_an_operator_that_is_lost_at_any_look_is_taken_over_without_a_difference(make_cluster, looks):
    ends = []
    for lost in (False, True):
        cluster = make_cluster()
        for number in range(14):
            before = cluster.status
            cluster.look()
            if lost and number == looks:
                cluster.status = before
            cluster.run_controllers()
        cluster.finish("teacher")
        cluster.finish("student")
        stages = [{key: stage[key] for key in ("phase", "generation", "teacher")} for stage in cluster.status["stages"]]
        ends.append((cluster.status["phase"], stages, cluster.kinds()))
    assert ends[0] == ends[1]
