"""What a person reads when pods misbehave: each trouble has a condition that names the pod and what to look at."""

import pytest

from ada_operator.kubernetes_time import timestamp


def condition(cluster, kind):
    return next(one for one in cluster.status["conditions"] if one["type"] == kind)


def blocked(pod, cluster):
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    pod["status"] = {"phase": "Pending", "containerStatuses": [{"name": "x", "state": waiting}]}


def bad_settings(pod, cluster):
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "store" not found'}}
    pod["status"] = {"phase": "Pending", "containerStatuses": [{"name": "x", "state": waiting}]}


def no_place(pod, cluster):
    said = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    pod["metadata"]["creationTimestamp"] = timestamp(cluster.now - 100)
    pod["status"] = {"phase": "Pending", "conditions": [said]}


def unready(pod, cluster):
    pod["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": timestamp(cluster.now - 200)}}
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": timestamp(cluster.now - 100)}
    pod["status"]["conditions"] = [ready]


def stuck(pod, cluster):
    pod["metadata"]["deletionTimestamp"] = timestamp(cluster.now - 100)
    pod["spec"]["nodeName"] = "node-7"


def in_a_loop(pod, ended, times):
    loop = {"waiting": {"reason": "CrashLoopBackOff"}}
    known = {"name": "x", "state": loop, "lastState": {"terminated": ended}, "restartCount": times}
    pod["status"]["containerStatuses"] = [known]


def crashes(pod, cluster):
    in_a_loop(pod, {"exitCode": 1, "message": "address in use"}, 2)


def runs_out_of_memory(pod, cluster, times=2):
    pod["spec"]["containers"] = [{"name": "x", "resources": {"limits": {"memory": "64Mi"}}}]
    in_a_loop(pod, {"exitCode": 137, "reason": "OOMKilled"}, times)


TROUBLES = [
    pytest.param(blocked, "PodsBlocked", "not found", id="an image that can't be pulled"),
    pytest.param(bad_settings, "PodsBlocked", 'secret "store" not found', id="a setting that is not there"),
    pytest.param(no_place, "PodsBlocked", "0/3 nodes are available", id="no node has room"),
    pytest.param(unready, "PodsNotReady", "not ready", id="a health check that fails"),
    pytest.param(stuck, "PodStuck", "is node-7 lost?", id="a pod that does not end"),
    pytest.param(crashes, "PodsCrash", "address in use", id="a few crashes"),
    pytest.param(runs_out_of_memory, "PodsCrash", "ran out of memory (limit 64Mi) 2 times", id="too little memory"),
]


@pytest.mark.parametrize(("trouble", "reason", "said"), TROUBLES)
@pytest.mark.parametrize("part", ["curriculum", "rendezvous", "simulator"])
def test_a_server_that_misbehaves_is_named_with_what_to_look_at(cluster, part, trouble, reason, said):
    cluster.settle()
    (pod, *_) = cluster.of_part(part)
    trouble(pod, cluster)
    cluster.look()
    degraded = condition(cluster, "Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", reason)
    assert said in degraded["message"]
    assert pod["metadata"]["name"] in degraded["message"]
    assert condition(cluster, "Failed")["status"] == "False"


def test_the_condition_goes_when_the_trouble_goes(cluster):
    cluster.settle()
    (pod, *_) = cluster.of_part("simulator")
    before = pod["status"]
    blocked(pod, cluster)
    cluster.look()
    pod["status"] = before
    cluster.look()
    assert condition(cluster, "Degraded")["status"] == "False"


def test_readiness_that_flaps_for_moments_is_no_news(cluster):
    cluster.settle()
    (pod, *_) = cluster.of_part("simulator")
    for ready in ("False", "True") * 5:
        cluster.now += 5
        since = timestamp(cluster.now - 2)
        pod["status"]["conditions"] = [{"type": "Ready", "status": ready, "lastTransitionTime": since}]
        cluster.look()
        assert condition(cluster, "Degraded")["status"] == "False"


@pytest.mark.parametrize(("loads_s", "is_news"), [(90, False), (130, True)])
def test_a_program_that_loads_may_take_longer_than_one_that_was_ready(cluster, loads_s, is_news):
    cluster.settle()
    (pod, *_) = cluster.of_part("simulator")
    pod["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": timestamp(cluster.now - loads_s)}}
    since = timestamp(cluster.now - loads_s - 30)  # its image was pulled meanwhile
    pod["status"]["conditions"] = [{"type": "Ready", "status": "False", "lastTransitionTime": since}]
    cluster.look()
    assert condition(cluster, "Degraded")["status"] == str(is_news)


def training(cluster):
    cluster.settle()
    cluster.learn("teacher", 100)
    cluster.settle()
    assert cluster.status["phase"] == "Training"


def test_a_curriculum_service_that_falls_silent_is_a_condition_and_the_phase_stays(cluster):
    training(cluster)
    cluster.progress_age_s = 100.0
    cluster.look()
    assert cluster.status["phase"] == "Training"
    assert condition(cluster, "Degraded")["reason"] == "CurriculumSilent"
    trained = cluster.status["trainingSeconds"]
    cluster.now += 50
    cluster.look()
    assert cluster.status["trainingSeconds"] == trained, "nobody knows whether it trained"
    cluster.progress_age_s = 1.0
    cluster.look()
    assert condition(cluster, "Degraded")["status"] == "False"


@pytest.mark.parametrize("silent", [False, True])
def test_an_operator_that_has_not_asked_yet_does_not_say_that_the_service_is_silent(cluster, silent):
    """It did, of every experiment whenever it was started again, in an event each."""
    training(cluster)
    if silent:
        cluster.progress_age_s = 100.0
        cluster.look()
    written = cluster.status
    cluster.progress_age_s = None
    assert not cluster.look().events
    assert cluster.status == written


def test_running_out_of_memory_names_the_limit(make_cluster):
    cluster = make_cluster(failurePolicy={"maxCodeFailures": 0})
    stages = cluster.document["spec"]["stages"]
    resources = {"limits": {"memory": "512Mi"}}
    cluster.edit(stages=[{**stages[0], "trainer": {"pod": {"resources": resources}}}, stages[1]])
    training(cluster)
    cluster.end_pods("trainer", 137, reason="OOMKilled")
    cluster.settle()
    assert "limit 512Mi" in condition(cluster, "Failed")["message"]


@pytest.mark.parametrize("part", ["curriculum", "rendezvous", "simulator"])
def test_a_server_that_runs_out_of_memory_again_and_again_names_the_limit(cluster, part):
    cluster.settle()
    (pod, *_) = cluster.of_part(part)
    runs_out_of_memory(pod, cluster, times=5)
    cluster.look()
    failed = condition(cluster, "Failed")
    assert (failed["status"], failed["reason"]) == ("True", "OutOfMemory")
    assert f"{part} ran out of memory (limit 64Mi); raise its memory limit" in failed["message"]
    assert pod["metadata"]["name"] in failed["message"]


def test_a_stall_is_measured_against_the_stages_own_pace(make_cluster):
    """An update of this stage takes 200 s: ten minutes of silence are nothing."""
    cluster = make_cluster(failurePolicy={"stallSeconds": 600})
    cluster.settle()
    cluster.now += 1000
    cluster.learn("teacher", 100, updates=5)
    cluster.settle()
    cluster.now += 1500
    cluster.settle()
    assert cluster.status["stages"][0]["generation"] == 1
    cluster.now += 1000
    cluster.settle()
    assert cluster.status["stages"][0]["generation"] == 2


def test_progress_that_falls_is_told(cluster):
    training(cluster)
    cluster.learn("teacher", 40, commit=False)
    cluster.look()
    assert [event.message for event in cluster.events if event.reason == "WentBack"] == [
        "stage teacher: from 100 frames back to the 40 of a checkpoint"
    ]


def test_a_job_that_a_queue_holds_says_so_and_waits(make_cluster):
    cluster = make_cluster(scheduling={"queueName": "gpus"})
    cluster.settle()
    job = cluster.job("teacher")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert "suspend" not in job["spec"], "that field is the queue's"
    job["spec"]["suspend"] = True
    for pod in cluster.of_part("trainer"):
        del cluster.pods[pod["metadata"]["name"]]
    cluster.look()
    assert condition(cluster, "Training")["message"] == "group 1 is held by the queue gpus"
    assert cluster.status["stages"][0]["generation"] == 1
    assert cluster.status["restarts"] == 0


def test_a_group_that_a_queue_takes_back_does_not_train_until_it_is_let_go(make_cluster):
    """The curriculum service still says what it said last; nothing runs."""
    cluster = make_cluster(scheduling={"queueName": "gpus"})
    training(cluster)
    before = cluster.pods
    cluster.pods = {name: pod for name, pod in before.items() if pod not in cluster.of_part("trainer")}
    for _ in range(3):
        cluster.now += 700
        cluster.job("teacher")["spec"]["suspend"] = True  # the queue's field, which an apply leaves alone
        cluster.look()
        found = condition(cluster, "Training")
        assert (found["status"], found["message"]) == ("False", "group 1 is held by the queue gpus")
        assert cluster.status["phase"] == "Starting"
    cluster.job("teacher")["spec"]["suspend"] = False
    cluster.pods = before
    cluster.learn("teacher", 200)
    cluster.look()
    assert condition(cluster, "Training")["status"] == "True"
    assert cluster.status["lostSeconds"]["queued"] > 1000
    assert cluster.status["stages"][0]["generation"] == 1
    assert cluster.status["restarts"] == 0


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", "Suspended", "NotAccepted", "Starting", "silent"])
def test_an_experiment_at_rest_is_not_written_to(make_cluster, phase):
    """An hour of looks leaves the status as it is, letter by letter."""
    cluster = make_cluster(suspend=phase == "Suspended", failurePolicy={"maxCodeFailures": 0})
    if phase == "NotAccepted":
        cluster.objects.clear()
    cluster.settle()
    if phase in ("Failed", "silent"):
        training(cluster)
    if phase == "Failed":
        cluster.end_pods("trainer", 1)
    if phase == "Succeeded":
        cluster.finish("teacher")
        cluster.finish("student")
    if phase == "silent":
        cluster.progress_age_s = 1e4
        for pod in cluster.of_part("curriculum"):
            pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
        cluster.run_controllers()
    cluster.settle()
    cluster.now += 60
    cluster.look()
    before = cluster.status
    for _ in range(12):
        cluster.now += 300
        decided = cluster.look()
        assert cluster.status == before
        assert not decided.events and not decided.deletions


def test_a_group_that_finds_no_place_says_why_it_does_not_start(cluster):
    cluster.settle()
    (pod,) = cluster.of_part("trainer")
    no_place(pod, cluster)
    cluster.look()
    degraded = condition(cluster, "Degraded")
    assert degraded["reason"] == "PodsBlocked"
    assert "0/3 nodes are available" in degraded["message"]
    assert cluster.status["phase"] == "Starting"
