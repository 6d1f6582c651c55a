"""What the plan makes of failures, loss, silence and changes of mind."""

import pytest

from ada_operator import names
from ada_operator.kubernetes_time import timestamp
from ada_operator.observed import Reference


def condition(cluster, kind):
    return next(one for one in cluster.status["conditions"] if one["type"] == kind)


def training(cluster, frames=100):
    """Bring the cluster to where the teacher trains."""
    cluster.settle()
    cluster.learn("teacher", frames)
    cluster.settle()
    assert cluster.status["phase"] == "Training"
    return cluster


def student_training(cluster):
    """Bring the cluster to where the student, of one to four nodes, trains."""
    cluster.finish("teacher")
    cluster.settle()
    cluster.learn("student", 100)
    cluster.settle()
    return cluster


def test_a_configuration_that_cannot_work_fails_at_once_and_says_why(cluster):
    training(cluster).end_pods("trainer", 78, message="stage teacher has 1 simulators for up to 4 workers")
    cluster.settle()
    failed = condition(cluster, "Failed")
    assert failed["reason"] == "ConfigurationError"
    assert "1 simulators for up to 4 workers" in failed["message"]
    assert cluster.kinds() == {"ConfigMap/quick-experiment"}


def test_crashes_are_mended_until_the_budget_is_used_up(make_cluster):
    cluster = training(make_cluster(failurePolicy={"maxCodeFailures": 2}))
    for _ in range(2):
        cluster.end_pods("trainer", 1, message="ValueError: no")
        cluster.settle()
        assert cluster.status["phase"] in ("Training", "Starting")
    cluster.end_pods("trainer", 1, message="ValueError: no")
    cluster.settle()
    assert condition(cluster, "Failed")["reason"] == "TooManyFailures"
    assert "ValueError: no" in condition(cluster, "Failed")["message"]


def test_a_commit_gives_the_whole_budget_back(make_cluster):
    cluster = training(make_cluster(failurePolicy={"maxCodeFailures": 1}))
    for frames in (200, 300, 400):
        cluster.end_pods("trainer", 1)
        cluster.settle()
        cluster.learn("teacher", frames)
        cluster.settle()
    assert cluster.status["phase"] == "Training"
    assert cluster.status["stages"][0]["restarts"]["code"] == 3


@pytest.mark.parametrize(
    ("code", "disrupted"),
    [
        pytest.param(143, True, id="a drained node"),
        pytest.param(1, True, id="a preempted pod that crashed on its way out"),
        pytest.param(137, False, id="a process killed from outside"),
        pytest.param(75, False, id="a node that was told to stop"),
    ],
)
def test_disruptions_never_use_up_the_budget(make_cluster, code, disrupted):
    cluster = training(make_cluster(failurePolicy={"maxCodeFailures": 0}))
    for _ in range(5):
        cluster.end_pods("trainer", code, disrupted=disrupted)
        cluster.settle()
    assert cluster.status["phase"] == "Training"
    assert cluster.status["stages"][0]["restarts"]["code"] == 0


def test_running_out_of_memory_is_named_and_counted(make_cluster):
    cluster = training(make_cluster(failurePolicy={"maxCodeFailures": 0}))
    cluster.end_pods("trainer", 137, reason="OOMKilled")
    cluster.settle()
    assert condition(cluster, "Failed")["reason"] == "OutOfMemory"
    assert "raise its memory limit" in condition(cluster, "Failed")["message"]


def test_a_crash_that_all_nodes_of_a_group_feel_is_one_failure(make_cluster):
    cluster = student_training(make_cluster(failurePolicy={"maxCodeFailures": 1}))
    assert len(cluster.of_part("trainer")) == 4
    cluster.end_pods("trainer", 1)
    cluster.settle()
    assert cluster.status["stages"][1]["restarts"]["code"] == 1
    assert cluster.status["phase"] != "Failed"


def test_failed_pods_that_are_collected_are_not_forgotten(cluster):
    training(cluster).end_pods("trainer", 1)
    cluster.settle()
    for name in [name for name, pod in cluster.pods.items() if pod["status"]["phase"] == "Failed"]:
        del cluster.pods[name]
    cluster.settle()
    assert cluster.status["stages"][0]["restarts"]["code"] == 1


def test_a_failed_experiment_is_tried_again_when_its_spec_changes(make_cluster):
    cluster = training(make_cluster(failurePolicy={"maxCodeFailures": 0}))
    cluster.end_pods("trainer", 1)
    cluster.settle()
    assert cluster.status["phase"] == "Failed"
    cluster.edit(failurePolicy={"maxCodeFailures": 1})
    cluster.settle()
    assert cluster.job("teacher") is not None
    assert cluster.status["stages"][0]["generation"] == 2


def test_a_crash_loop_of_a_server_fails_the_experiment_and_quotes_it(cluster):
    cluster.settle()
    for pod in cluster.of_part("curriculum"):
        ended = {"exitCode": 1, "message": "no module named numpy"}
        state = {"waiting": {"reason": "CrashLoopBackOff"}}
        pod["status"]["containerStatuses"] = [
            {"name": "curriculum", "state": state, "lastState": {"terminated": ended}, "restartCount": 7}
        ]
    cluster.settle()
    assert condition(cluster, "Failed")["reason"] == "CrashLoop"
    assert "no module named numpy" in condition(cluster, "Failed")["message"]


def test_an_image_that_cannot_be_pulled_is_a_condition_not_a_failure(cluster):
    cluster.settle()
    for pod in cluster.of_part("trainer"):
        waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image ada-trainer"}}
        pod["status"] = {"phase": "Pending", "containerStatuses": [{"name": "trainer", "state": waiting}]}
    cluster.settle()
    assert condition(cluster, "Degraded")["reason"] == "PodsBlocked"
    assert "no such image ada-trainer" in condition(cluster, "Degraded")["message"]
    assert cluster.status["phase"] == "Starting"


@pytest.mark.parametrize("restart", [True, False])
def test_silence_is_a_stall_and_the_next_group_has_the_next_number(make_cluster, restart):
    cluster = training(make_cluster(failurePolicy={"stallSeconds": 600, "onStall": "restart" if restart else "fail"}))
    cluster.now += 500
    cluster.settle()
    assert cluster.status["stages"][0]["generation"] == 1
    cluster.now += 200
    cluster.settle()
    if restart:
        assert cluster.status["stages"][0]["generation"] == 2
        assert cluster.status["stages"][0]["restarts"]["stall"] == 1
        command = cluster.job("teacher")["spec"]["template"]["spec"]["containers"][0]["command"]
        assert command[command.index("--rendezvous-id") + 1] == "quick-teacher-2"
    else:
        assert condition(cluster, "Failed")["reason"] == "Stalled"


def test_nobody_is_blamed_for_silence_while_the_curriculum_service_cannot_be_asked(cluster):
    training(cluster)
    cluster.progress_age_s = 1000.0
    cluster.now += 5000
    cluster.settle()
    assert cluster.status["stages"][0]["generation"] == 1


@pytest.mark.parametrize("lost", [pytest.param(True, id="the service is not ready"), pytest.param(False, id="silent")])
def test_simulators_outlive_a_curriculum_service_that_is_not_to_be_had_while_no_group_is_there(cluster, lost):
    training(cluster)
    simulators = Reference("StatefulSet", names.workload("quick", "simulator", "teacher"))
    del cluster.objects[Reference("Job", names.workload("quick", "trainer", "teacher"))]
    for pod in cluster.of_part("trainer"):
        del cluster.pods[pod["metadata"]["name"]]
    if lost:
        for pod in cluster.of_part("curriculum"):
            pod["status"] = {"phase": "Pending"}
    else:
        cluster.progress_age_s = None
    for _ in range(5):
        cluster.run_controllers()
        planned = cluster.look()
        assert simulators not in planned.deletions
        assert cluster.status["phase"] == "Starting"
    assert simulators in cluster.objects


def test_updates_that_are_not_finite_roll_back_to_the_commit_before(cluster):
    training(cluster)
    cluster.learn("teacher", 200)
    cluster.settle()
    cluster.learn("teacher", 210, commit=False, skipped_updates=20)
    cluster.settle()
    command = cluster.job("teacher")["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[command.index("--resume-uri") + 1] == "s3://ada/teacher/100"
    assert cluster.status["stages"][0]["restarts"]["notFinite"] == 1
    cluster.settle()
    assert cluster.status["stages"][0]["generation"] == 2, "the same skipped updates are not held against the new group"


def test_a_collapsed_score_is_acted_on_only_if_asked_for(make_cluster):
    for action, generation in (("ignore", 1), ("rollback", 2)):
        cluster = make_cluster(failurePolicy={"onCollapse": action})
        cluster.settle()
        cluster.learn("teacher", 100, score=0.8)
        cluster.settle()
        cluster.learn("teacher", 200, score=0.1)
        cluster.settle()
        assert cluster.status["stages"][0]["generation"] == generation


def test_suspending_asks_for_a_commit_and_frees_the_pods_when_it_is_there(cluster):
    training(cluster)
    cluster.edit(suspend=True)
    cluster.now += 1
    cluster.look()
    assert [(request.path, request.body) for request in cluster.requests] == [("/v1/suspend", {"stage": "teacher"})]
    assert cluster.job("teacher") is not None
    assert cluster.status["phase"] == "Suspending"
    cluster.now += 2
    cluster.learn("teacher", 150)
    cluster.settle()
    assert cluster.status["phase"] == "Suspended"
    assert not cluster.pods
    assert cluster.kinds() == {"ConfigMap/quick-experiment", "Secret/quick-token"}


def test_suspending_waits_for_a_commit_only_so_long(cluster):
    training(cluster)
    cluster.edit(suspend=True)
    cluster.look()
    cluster.now += 181
    cluster.settle()
    assert cluster.status["phase"] == "Suspended"


def test_the_curriculum_service_stays_until_the_last_trainer_is_gone(cluster):
    training(cluster)
    cluster.edit(suspend=True)
    cluster.look()
    cluster.now += 2
    cluster.learn("teacher", 150)
    decided = cluster.look()
    assert {gone.kind for gone in decided.deletions} == {"Job"}


def test_resuming_starts_a_new_group_of_the_same_stage(cluster):
    training(cluster)
    cluster.edit(suspend=True)
    cluster.look()
    cluster.now += 2
    cluster.learn("teacher", 150)
    cluster.settle()
    cluster.edit(suspend=False)
    cluster.settle()
    assert cluster.status["stages"][0]["generation"] == 2
    assert "Suspended" in cluster.phases
    cluster.finish("teacher")
    cluster.finish("student")
    assert cluster.status["phase"] == "Succeeded"


def test_an_experiment_that_starts_suspended_starts_nothing(make_cluster):
    cluster = make_cluster(suspend=True)
    cluster.settle()
    assert cluster.status["phase"] == "Suspended"
    assert not cluster.pods


def test_scaling_changes_parallelism_and_completions_together_and_nothing_else(cluster):
    student_training(cluster)
    before = cluster.job("student")["spec"]
    cluster.edit(nodes=2)
    cluster.settle()
    after = cluster.job("student")["spec"]
    assert (after["parallelism"], after["completions"]) == (2, 2)
    assert after["template"] == before["template"]
    assert cluster.status["stages"][1]["generation"] == 1
    assert len([pod for pod in cluster.of_part("trainer")]) == 2


def test_scaling_stays_within_the_stages_bounds(cluster):
    student_training(cluster)
    cluster.edit(nodes=100)
    cluster.settle()
    assert cluster.job("student")["spec"]["parallelism"] == 4


def test_pods_that_find_no_node_are_given_up_after_a_while_and_asked_for_again_later(cluster):
    student_training(cluster)
    for pod in cluster.of_part("trainer")[2:]:
        unplaced = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes have a GPU"}
        pod["status"] = {"phase": "Pending", "conditions": [unplaced], "containerStatuses": []}
    cluster.settle()
    assert "0/3 nodes have a GPU" in condition(cluster, "Degraded")["message"]
    cluster.now += 301
    cluster.learn("student", 200)
    cluster.settle()
    assert cluster.job("student")["spec"]["parallelism"] == 2
    cluster.now += 500
    cluster.learn("student", 250)
    cluster.settle()
    assert cluster.job("student")["spec"]["parallelism"] == 2, "room is not asked for all the time"
    cluster.now += 101
    cluster.learn("student", 300)
    cluster.settle()
    assert cluster.job("student")["spec"]["parallelism"] == 4
    assert cluster.status["stages"][1]["generation"] == 1


def test_a_group_that_was_made_smaller_grows_again_as_soon_as_it_is_asked_to(cluster):
    student_training(cluster)
    for nodes in (2, 4, 1, 3):
        cluster.edit(nodes=nodes)
        cluster.settle()
        assert cluster.job("student")["spec"]["parallelism"] == nodes
    assert cluster.status["stages"][1]["generation"] == 1


def test_new_bounds_make_a_new_group(cluster):
    student_training(cluster)
    stages = cluster.document["spec"]["stages"]
    cluster.edit(stages=[stages[0], {**stages[1], "trainer": {"nodes": {"min": 2, "max": 3}}}])
    cluster.settle()
    assert cluster.status["stages"][1]["generation"] == 2
    assert cluster.job("student")["spec"]["parallelism"] == 3


def test_a_job_that_somebody_deleted_is_made_anew_under_the_next_number(cluster):
    training(cluster)
    reference = next(one for one in cluster.objects if one.kind == "Job")
    del cluster.objects[reference]
    cluster.pods = {name: pod for name, pod in cluster.pods.items() if pod not in cluster.of_part("trainer")}
    cluster.settle()
    assert cluster.status["stages"][0]["generation"] == 2


def test_a_new_group_waits_until_nothing_is_left_of_the_one_before(cluster):
    training(cluster)
    reference = next(one for one in cluster.objects if one.kind == "Job")
    del cluster.objects[reference]
    cluster.look()
    assert cluster.job("teacher") is None
    assert "waiting for 1 pods to stop" in condition(cluster, "Training")["message"]


def test_an_evaluation_whose_scores_never_arrive_is_played_again(cluster):
    cluster.settle()
    cluster.learn("teacher", 1000, phase="trained")
    cluster.end_pods("trainer", 0)
    cluster.settle()
    first = cluster.job("teacher", "evaluation")["metadata"]["uid"]
    cluster.end_pods("evaluation", 0)
    cluster.settle()
    cluster.now += 100
    cluster.settle()
    assert cluster.job("teacher", "evaluation")["metadata"]["uid"] != first


def test_the_settings_of_a_running_group_do_not_change_under_it(cluster):
    training(cluster)
    before = cluster.job("teacher")["spec"]["template"]
    stages = cluster.document["spec"]["stages"]
    cluster.edit(stages=[{**stages[0], "trainer": {"pod": {"image": "other"}}}, stages[1]])
    cluster.settle()
    assert cluster.job("teacher")["spec"]["template"] == before


def test_a_teacher_once_pinned_stays_whatever_is_committed_later(cluster):
    student_training(cluster)
    cluster.status["stages"][0]["checkpoint"]["digest"] = f"sha256:{7:064x}"
    cluster.end_pods("trainer", 143)
    reference = next(one for one in cluster.objects if one.kind == "Job")
    del cluster.objects[reference]
    cluster.settle()
    command = cluster.job("student")["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[command.index("--teacher-digest") + 1] == f"sha256:{1000:064x}"


def told_to_go(pod, deadline):
    """Mark a pod of a lost node, as the node controller does after a while; nobody there hears it."""
    pod["metadata"]["deletionTimestamp"] = timestamp(deadline)
    pod["spec"]["nodeName"] = "node-7"


def test_a_group_that_lost_its_only_node_starts_anew_and_no_budget_is_used(make_cluster):
    """The pod never ends, so the Job puts no other in its place; and its silence is nobody's stall."""
    cluster = make_cluster(failurePolicy={"maxCodeFailures": 0, "stallSeconds": 100})
    training(cluster)
    (pod,) = cluster.of_part("trainer")
    told_to_go(pod, cluster.now + 180)
    cluster.now += 200  # its grace is over, and it is still given a moment
    cluster.look()
    assert cluster.status["stages"][0]["generation"] == 1
    assert sum(cluster.status["stages"][0]["restarts"].values()) == 0
    cluster.now += 15
    cluster.settle()
    teacher = cluster.status["stages"][0]
    assert teacher["generation"] == 2
    assert teacher["restarts"]["disruption"] == 1
    assert sum(teacher["restarts"].values()) == 1
    (told,) = [event.message for event in cluster.events if event.reason == "Regrouping"]
    assert f"pod {pod['metadata']['name']} does not end, node-7 is most likely lost" in told


def test_a_group_that_can_do_without_a_lost_node_goes_on(cluster):
    student_training(cluster)
    pods = cluster.of_part("trainer")
    assert len(pods) > 1
    told_to_go(pods[0], cluster.now - 100)
    generation = cluster.status["stages"][1]["generation"]
    cluster.look()
    assert cluster.status["stages"][1]["generation"] == generation
    assert cluster.status["stages"][1]["restarts"]["disruption"] == 0


def test_a_teacher_of_another_experiment_is_pinned_as_it_is_named(make_cluster):
    digest = f"sha256:{7:064x}"
    elsewhere = {"uri": "s3://ada/lab/other/teacher/7", "digest": digest}
    stage = {"name": "student", "frames": 1000, "distillation": {"checkpoint": elsewhere, "frames": 500}}
    cluster = make_cluster(stages=[stage])
    cluster.settle()
    command = cluster.job("student")["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[command.index("--teacher-uri") + 1] == elsewhere["uri"]
    assert command[command.index("--teacher-digest") + 1] == digest
    assert cluster.status["stages"][0]["teacher"] == elsewhere
    cluster.end_pods("trainer", 1)  # and so for every group of the stage
    cluster.finish("student")
    assert cluster.status["stages"][0]["teacher"] == elsewhere
    assert cluster.status["phase"] == "Succeeded"
