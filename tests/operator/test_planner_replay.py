"""Whole experiments, replayed: the plan is carried out until nothing changes, and what then stands is looked at."""

import pytest

from ada_operator.kubernetes_time import timestamp
from ada_operator.planner import LOOK_AGAIN_S
from ada_operator.view import LINGER_S


def test_an_experiment_runs_through_its_stages_and_leaves_only_its_configuration(cluster):
    cluster.finish("teacher")
    cluster.finish("student")
    assert cluster.status["phase"] == "Succeeded"
    assert cluster.kinds() == {"ConfigMap/quick-experiment"}
    assert not cluster.pods


def test_what_waits_for_a_pod_on_a_lost_node_goes_when_that_has_had_its_time(cluster):
    """Nothing is heard of such a pod: somebody has to look again."""
    cluster.finish("teacher")
    cluster.settle()
    cluster.learn("student", 1000, phase="trained")
    cluster.end_pods("trainer", 0)
    cluster.settle()
    cluster.evaluated("student", 0.5)
    (lost,) = cluster.of_part("evaluation")
    cluster.end_pods("evaluation", 0)
    running = {**lost, "status": {"phase": "Running"}}
    running["metadata"] = {**lost["metadata"], "deletionTimestamp": timestamp(cluster.now)}
    cluster.run_controllers()
    cluster.look()
    cluster.pods[lost["metadata"]["name"]] = running
    waiting = cluster.look()
    assert cluster.status["phase"] == "Succeeded"
    assert not waiting.deletions
    assert waiting.requeue_after == LOOK_AGAIN_S
    cluster.now += LINGER_S + 1
    assert cluster.look().deletions
    assert cluster.kinds() == {"ConfigMap/quick-experiment"}
    assert cluster.look().requeue_after is None


def test_phases_follow_one_another_and_never_go_back_within_a_stage(cluster):
    for stage in ("teacher", "student"):
        cluster.settle()
        cluster.learn(stage, 100)
        cluster.finish(stage)
    one_stage = ["Starting", "Training", "Evaluating"]
    assert cluster.phases == [*one_stage, *one_stage, "Succeeded"]


def test_looking_again_when_nothing_happened_changes_nothing(cluster):
    cluster.settle()
    before, events = cluster.fingerprint(), len(cluster.events)
    again = cluster.look()
    assert cluster.fingerprint() == before
    assert not again.deletions
    assert len(cluster.events) == events


def test_the_student_gets_the_teachers_last_checkpoint_by_uri_and_digest(cluster):
    cluster.finish("teacher")
    cluster.settle()
    command = cluster.job("student")["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[command.index("--teacher-uri") + 1] == "s3://ada/teacher/1000"
    assert command[command.index("--teacher-digest") + 1] == f"sha256:{1000:064x}"
    assert cluster.status["stages"][1]["teacher"]["digest"] == f"sha256:{1000:064x}"


def test_simulators_wait_for_the_curriculum_and_the_trainer_waits_for_simulators(cluster):
    cluster.look()
    assert "StatefulSet/quick-curriculum" in cluster.kinds()
    assert "StatefulSet/quick-teacher-simulator" not in cluster.kinds()
    cluster.run_controllers()
    cluster.run_controllers()
    cluster.look()
    assert "StatefulSet/quick-teacher-simulator" in cluster.kinds()
    assert cluster.job("teacher") is None
    cluster.settle()
    assert cluster.job("teacher") is not None


def test_the_token_never_changes_once_it_is_there(cluster):
    cluster.settle()
    tokens = {repr(found["data"]) for one, found in cluster.objects.items() if one.name == "quick-token"}
    cluster.look()
    cluster.look()
    assert tokens == {repr(found["data"]) for one, found in cluster.objects.items() if one.name == "quick-token"}


def test_a_stage_waits_for_its_job_although_its_frames_are_done(cluster):
    cluster.settle()
    cluster.learn("teacher", 1000, phase="trained")
    cluster.settle()
    assert cluster.status["phase"] != "Evaluating"
    assert cluster.job("teacher") is not None


@pytest.mark.parametrize("part", ["trainer", "evaluation"])
def test_what_a_lost_operator_deleted_is_not_made_again_before_the_service_was_heard(cluster, part):
    """The Job was through and is deleted, the operator died before it wrote so, and the next one knows nothing yet."""
    cluster.settle()
    cluster.learn("teacher", 1000, phase="trained")
    if part == "evaluation":
        cluster.end_pods("trainer", 0)
        cluster.settle()
        cluster.evaluated("teacher", 0.5)
    cluster.end_pods(part, 0)
    cluster.run_controllers()
    written = cluster.status
    assert ("Job", f"quick-teacher-{part}") in {(gone.kind, gone.name) for gone in cluster.look().deletions}
    cluster.status, cluster.progress_age_s = written, None
    cluster.settle()
    assert cluster.job("teacher", part) is None
    assert condition(cluster, "Training")["message"] == "waiting for the curriculum service"
    cluster.progress_age_s = 1.0
    cluster.settle()
    assert cluster.job("teacher", part) is None
    assert cluster.job(*(("teacher", "evaluation") if part == "trainer" else ("student", "trainer"))) is not None


def test_an_appended_stage_continues_a_finished_experiment(cluster):
    cluster.finish("teacher")
    cluster.finish("student")
    cluster.edit(stages=[*cluster.document["spec"]["stages"], {"name": "third", "frames": 10}])
    cluster.settle()
    assert cluster.job("third") is not None
    assert cluster.job("teacher") is None
    cluster.finish("third")
    assert cluster.status["phase"] == "Succeeded"


def test_a_gate_that_is_not_reached_fails_the_experiment_and_says_by_how_much(make_cluster):
    cluster = make_cluster(evaluation={"gates": [{"stage": "teacher", "trials": 5, "score": 0.8}]})
    cluster.finish("teacher", score=0.5)
    assert cluster.status["phase"] == "Failed"
    failed = condition(cluster, "Failed")
    assert failed["reason"] == "GateNotReached"
    assert "0.500" in failed["message"]
    assert "0.8" in failed["message"]
    assert not cluster.pods


def test_lowering_the_gate_lets_a_failed_experiment_go_on(make_cluster):
    cluster = make_cluster(evaluation={"gates": [{"stage": "teacher", "trials": 5, "score": 0.8}]})
    cluster.finish("teacher", score=0.5)
    cluster.edit(evaluation={"gates": [{"stage": "teacher", "trials": 5, "score": 0.4}]})
    cluster.settle()
    assert cluster.job("student") is not None


def test_an_experiment_without_a_store_starts_nothing_and_says_what_to_do(make_cluster):
    cluster = make_cluster(checkpoint={})
    cluster.settle()
    assert cluster.status["phase"] == "Pending"
    assert condition(cluster, "Accepted")["reason"] == "StoreMissing"
    assert not cluster.kinds()


def test_a_missing_secret_is_named_and_nothing_is_lost_when_it_goes_missing_later(cluster):
    cluster.settle()
    secret = next(one for one in cluster.objects if one.name == "store")
    kept = cluster.objects.pop(secret)
    before = cluster.kinds()
    cluster.settle()
    assert "there is no Secret store" in condition(cluster, "Accepted")["message"]
    assert cluster.kinds() == before
    cluster.objects[secret] = kept
    cluster.settle()
    assert condition(cluster, "Accepted")["status"] == "True"


def test_every_event_is_told_once(cluster):
    cluster.finish("teacher")
    cluster.finish("student")
    said = [(event.reason, event.message) for event in cluster.events]
    assert len(said) == len(set(said))
    assert ("StageSucceeded", "stage teacher is trained and evaluated") in said


def test_a_finished_experiment_is_deleted_when_its_time_is_over(make_cluster):
    cluster = make_cluster(ttlSecondsAfterFinished=100)
    cluster.finish("teacher")
    cluster.finish("student")
    last = cluster.look()
    assert last.requeue_after == pytest.approx(100, abs=10)
    cluster.now += 101
    assert ("AdaExperiment", "quick") in {(gone.kind, gone.name) for gone in cluster.look().deletions}


def test_a_deadline_fails_the_experiment(make_cluster):
    cluster = make_cluster(activeDeadlineSeconds=1000)
    cluster.settle()
    cluster.now += 1001
    cluster.settle()
    assert condition(cluster, "Failed")["reason"] == "DeadlineExceeded"
    assert not cluster.pods


def condition(cluster, kind):
    return next(one for one in cluster.status["conditions"] if one["type"] == kind)


def test_the_deadline_of_an_appended_stage_counts_from_then_on(make_cluster):
    cluster = make_cluster(activeDeadlineSeconds=1000)
    cluster.finish("teacher")
    cluster.finish("student")
    cluster.now += 5000
    cluster.edit(stages=[*cluster.document["spec"]["stages"], {"name": "third", "frames": 10}])
    cluster.settle()
    assert cluster.status["phase"] == "Starting"
