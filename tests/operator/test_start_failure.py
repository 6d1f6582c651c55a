"""Pods that will never start fail the experiment with what the kubelet said; what time may mend is waited for."""

import pytest

from ada_operator.start_failure import HOPELESS_S, verdict

PULL = (
    'failed to pull and unpack image "registry.example/ada:9": failed to resolve reference "registry.example/ada:9": '
)
MISSING = PULL + "registry.example/ada:9: not found"
DENIED = PULL + "pull access denied, repository does not exist or may require authorization: insufficient_scope"
AWAY = (
    PULL
    + 'failed to do request: Head "https://registry.example/v2/": dial tcp 10.0.0.7:443: connect: connection refused'
)
BACK_OFF = 'Back-off pulling image "registry.example/ada:9": ErrImagePull: '
NO_NAME = PULL + "failed to do request: dial tcp: lookup registry.example on 10.96.0.10:53: no such host"
UNAUTHORISED = PULL + "failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized"
BUSY = PULL + "unexpected status code 503 Service Unavailable: not found"
LIMITED = PULL + "429 Too Many Requests - Server message: toomanyrequests: pull rate limit"


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        pytest.param("ErrImagePull", MISSING, "ImageUnavailable", id="an image that its registry does not have"),
        pytest.param("ImagePullBackOff", BACK_OFF + MISSING, "ImageUnavailable", id="the same, between two tries"),
        pytest.param("ErrImagePull", DENIED, "ImageUnavailable", id="an image that is not given to us"),
        pytest.param("ErrImagePull", UNAUTHORISED, "ImageUnavailable", id="credentials that are wrong"),
        pytest.param("ErrImagePull", PULL + "manifest unknown", "ImageUnavailable", id="a tag that nobody pushed"),
        pytest.param("InvalidImageName", 'Failed to apply default image tag "A:B:C"', "ImageUnavailable", id="no name"),
        pytest.param(
            "ErrImageNeverPull", "not present with pull policy of Never", "ImageUnavailable", id="never pulled"
        ),
        pytest.param("ErrImagePull", AWAY, None, id="a registry that refuses connections"),
        pytest.param("ImagePullBackOff", BACK_OFF + AWAY, None, id="the same, between two tries of it"),
        pytest.param("ErrImagePull", NO_NAME, None, id="a registry whose name does not resolve"),
        pytest.param("ErrImagePull", BUSY, None, id="a registry behind a proxy that finds nothing now"),
        pytest.param("ErrImagePull", LIMITED, None, id="a registry that limits us"),
        pytest.param("ErrImagePull", PULL + "i/o timeout", None, id="a registry that is silent"),
        pytest.param("ErrImagePull", "something new", None, id="what nobody has seen"),
        pytest.param("ImagePullBackOff", 'Back-off pulling image "a"', None, id="a pause that does not say why"),
        pytest.param("CreateContainerConfigError", 'secret "s3" not found', "ConfigurationError", id="no Secret"),
        pytest.param(
            "CreateContainerConfigError", "couldn't find key a in ConfigMap b", "ConfigurationError", id="no key"
        ),
        pytest.param(
            "CreateContainerConfigError",
            "container has runAsNonRoot and image will run as root",
            "ConfigurationError",
            id="an image that runs as root",
        ),
        pytest.param(
            "CreateContainerConfigError",
            "failed to sync secret cache: timed out waiting for the condition",
            None,
            id="a kubelet that has not read the Secret yet",
        ),
        pytest.param("ContainerCreating", "", None, id="a pod that is being made"),
    ],
)
def test_what_a_kubelet_says_is_either_for_a_person_or_for_time_to_mend(reason, message, expected):
    assert verdict(reason, message) == expected


def blocked(cluster, part, reason, message):
    """Have the first pod of a part wait; return what it was like before."""
    (pod, *_) = cluster.of_part(part)
    before = pod["status"]
    waiting = {"waiting": {"reason": reason, "message": message}}
    status = {"name": part, "image": "registry.example/ada:9", "state": waiting, "restartCount": 0, "lastState": {}}
    pod["status"] = {"phase": "Pending", "containerStatuses": [status]}
    return pod, before


def looks(cluster, seconds, every=5):
    for _ in range(0, int(seconds), every):
        cluster.now += every
        cluster.look()


def condition(cluster, kind):
    return next(one for one in cluster.status["conditions"] if one["type"] == kind)


def start(cluster, part):
    """Bring the experiment to where a pod of the part is started."""
    cluster.settle()
    if part == "evaluation":
        cluster.learn("teacher", 1000, phase="trained")
        cluster.end_pods("trainer", 0)
        cluster.settle()


@pytest.mark.parametrize("part", ["curriculum", "rendezvous", "simulator", "trainer", "evaluation"])
def test_an_image_that_is_not_there_fails_after_two_minutes_with_pod_image_and_message(cluster, part):
    start(cluster, part)
    pod, _ = blocked(cluster, part, "ErrImagePull", MISSING)
    cluster.look()
    assert condition(cluster, "Degraded")["reason"] == "PodsBlocked"
    looks(cluster, HOPELESS_S - 10)
    assert condition(cluster, "Failed")["status"] == "False"
    looks(cluster, 20)
    failed = condition(cluster, "Failed")
    assert (failed["status"], failed["reason"]) == ("True", "ImageUnavailable")
    for said in (pod["metadata"]["name"], "registry.example/ada:9: not found", "image registry.example/ada:9"):
        assert said in failed["message"]
    cluster.settle()
    assert not cluster.pods


def test_a_setting_that_is_not_there_fails_as_a_configuration(cluster):
    cluster.settle()
    blocked(cluster, "trainer", "CreateContainerConfigError", 'secret "wandb" not found')
    looks(cluster, HOPELESS_S + 20)
    assert condition(cluster, "Failed")["reason"] == "ConfigurationError"
    assert 'secret "wandb" not found' in condition(cluster, "Failed")["message"]


def test_a_registry_that_is_away_for_an_hour_fails_nothing(cluster):
    cluster.settle()
    pod, before = blocked(cluster, "trainer", "ErrImagePull", AWAY)
    looks(cluster, 3600, every=60)
    assert cluster.status["phase"] == "Starting"
    assert "connection refused" in condition(cluster, "Degraded")["message"]
    pod["status"] = before
    cluster.finish("teacher")
    cluster.finish("student")
    assert cluster.status["phase"] == "Succeeded"


def test_an_image_that_is_pushed_within_two_minutes_is_enough(cluster):
    cluster.settle()
    pod, before = blocked(cluster, "simulator", "ErrImagePull", MISSING)
    looks(cluster, 100)
    pod["status"] = before
    looks(cluster, 100)
    assert condition(cluster, "Failed")["status"] == "False"


def test_a_container_that_ran_for_days_is_given_the_same_two_minutes(cluster):
    """Its image was collected from the node, and the registry is being moved."""
    cluster.settle()
    cluster.now += 1e6
    cluster.look()
    blocked(cluster, "simulator", "ImagePullBackOff", BACK_OFF + MISSING)
    looks(cluster, HOPELESS_S - 10)
    assert condition(cluster, "Failed")["status"] == "False"


def test_a_group_that_trains_is_not_ended_because_one_more_pod_can_not_join_it(cluster):
    cluster.finish("teacher")
    cluster.settle()
    cluster.learn("student", 100)
    cluster.settle()
    blocked(cluster, "trainer", "ErrImagePull", DENIED)
    for frames in range(200, 900, 100):
        looks(cluster, 50)
        cluster.learn("student", frames)
    assert cluster.status["phase"] == "Training"
    assert "pull access denied" in condition(cluster, "Degraded")["message"]


def test_suspending_and_taking_it_back_tries_again_what_failed_for_its_image(cluster):
    cluster.settle()
    blocked(cluster, "trainer", "ErrImagePull", MISSING)
    looks(cluster, HOPELESS_S + 20)
    cluster.settle()
    assert cluster.status["phase"] == "Failed"
    cluster.edit(suspend=True)
    cluster.settle()
    assert cluster.status["phase"] == "Suspended"
    cluster.edit(suspend=False)
    cluster.finish("teacher")
    assert cluster.status["stages"][0]["phase"] == "Succeeded"
