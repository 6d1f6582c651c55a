"""What an experiment may not ask for is refused before anything is made, with a condition that says what to do."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.operator.conftest import FakeCluster, spec  # noqa: E402

from ada_api.experiment import AdaExperiment  # noqa: E402
from ada_operator.cluster import SECRETS  # noqa: E402
from ada_operator.observed import Platform  # noqa: E402
from ada_operator.program import read_platform  # noqa: E402
from ada_operator.reconcile import OBJECT_NAME  # noqa: E402
from ada_operator.restrictions import forbidden  # noqa: E402

ELSEWHERE = "s3://ada/x?endpoint=https://elsewhere.example"
DIGEST = "sha256:" + "0" * 64


def refused(platform=None, part="trainer", stage=None, **pod):
    document = spec()
    document["stages"][1].setdefault(part, {})["pod"] = pod
    document["stages"][1].update(stage or {})
    found = forbidden(
        AdaExperiment.model_validate(
            {
                "apiVersion": "ada.dev/v1alpha1",
                "kind": "AdaExperiment",
                "metadata": {"name": "quick", "namespace": "lab"},
                "spec": document,
            }
        ),
        platform or Platform(),
    )
    return found and (found.reason, found.message)


IMAGES = Platform(allowed_images=("registry.example/ada/*",))
CLASSES = Platform(allowed_priority_classes=("low", "batch-*"))
STORES = Platform(allowed_store_endpoints=("https://minio.example:9000",))
TOKEN = {"projected": {"sources": [{"configMap": {"name": "x"}}, {"serviceAccountToken": {"path": "token"}}]}}


@pytest.mark.parametrize(
    ("platform", "pod", "reason"),
    [
        pytest.param(IMAGES, {"image": "registry.example/ada/mine:1"}, None, id="an-image-of-the-allowed-registry"),
        pytest.param(IMAGES, {"image": "evil.example/ada/mine:1"}, "ImageNotAllowed", id="an-image-of-another"),
        pytest.param(IMAGES, {}, None, id="the-default-image"),
        pytest.param(Platform(allowed_images=()), {"image": "a"}, "ImageNotAllowed", id="only-the-default-image"),
        pytest.param(None, {"image": "anything"}, None, id="any-image-where-nothing-is-said"),
        pytest.param(CLASSES, {"priorityClassName": "batch-1"}, None, id="an-allowed-priority"),
        pytest.param(CLASSES, {"priorityClassName": "system-node-critical"}, "PriorityClassNotAllowed", id="another"),
        pytest.param(STORES, {"env": [{"name": "NCCL_DEBUG", "value": "INFO"}]}, None, id="a-variable"),
        pytest.param(STORES, {"env": [{"name": "ADA_STORE", "value": "s3://x"}]}, "StoreNotAllowed", id="our-variable"),
        pytest.param(None, {"volumes": [{"name": "v", "emptyDir": {}}]}, None, id="a-volume-of-the-pod"),
        pytest.param(
            None, {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "VolumeNotAllowed", id="the-node's"
        ),
        pytest.param(None, {"volumes": [{"name": "v", **TOKEN}]}, "VolumeNotAllowed", id="an-API-token"),
    ],
)
@pytest.mark.parametrize("part", ["trainer", "simulators"])
def test_what_pods_may_ask_for_is_bounded(platform, pod, reason, part):
    found = refused(platform, part, **pod)
    assert (found and found[0]) == reason
    if found:
        assert found[1].startswith(f"spec.stages[1].{part}.pod."), found


@pytest.mark.parametrize(
    ("stage", "allowed"),
    [
        pytest.param({"warmStart": {"uri": ELSEWHERE, "digest": DIGEST}}, False, id="warm-start-from-elsewhere"),
        pytest.param({"warmStart": {"uri": "file:///etc", "digest": DIGEST}}, False, id="warm-start-from-a-directory"),
        pytest.param(
            {"warmStart": {"uri": "s3://ada/x?endpoint=https://minio.example:9000", "digest": DIGEST}},
            True,
            id="warm-start-from-the-allowed-store",
        ),
        pytest.param(
            {"distillation": {"checkpoint": {"uri": ELSEWHERE, "digest": DIGEST}, "frames": 1}}, False, id="teacher"
        ),
    ],
)
def test_checkpoints_come_from_allowed_stores_only(stage, allowed):
    found = refused(STORES, stage=stage)
    assert (found is None) == allowed
    assert refused(Platform(), stage=stage) is None


def test_a_store_that_is_not_allowed_is_a_condition_and_nothing_is_made():
    cluster = FakeCluster()
    cluster.platform = Platform(allowed_store_endpoints=("https://other.example",))
    cluster.settle()
    accepted = next(one for one in cluster.status["conditions"] if one["type"] == "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "StoreNotAllowed")
    assert "https://minio.example:9000" in accepted["message"]
    assert "https://other.example" in accepted["message"]
    assert cluster.pods == {}

    cluster.platform = Platform(allowed_store_endpoints=("https://minio.example:*",))
    cluster.settle()
    assert cluster.pods, "it starts by itself once it is allowed"


def test_the_platform_file_sets_what_is_allowed(tmp_path):
    file = tmp_path / "platform.yaml"
    file.write_text("allowedImages: [registry.example/*]\nallowedPriorityClasses: []\n")
    platform = read_platform(file)
    assert platform.allowed_images == ("registry.example/*",)
    assert platform.allowed_priority_classes == ()
    assert platform.allowed_store_endpoints is None


@pytest.mark.parametrize("name", ["../../other/secrets/theirs", "..", ".", "a/b", "a?b", "a%2Fb", "", "A"])
def test_a_name_can_not_lead_out_of_the_namespace(name):
    assert not OBJECT_NAME.fullmatch(name)
    path = SECRETS.path("lab", name)
    assert path.count("/") <= "/api/v1/namespaces/lab/secrets/".count("/"), path


def test_the_names_of_real_objects_are_names():
    for name in ("ada-store", "a", "my.store-1", "kube-root-ca.crt"):
        assert OBJECT_NAME.fullmatch(name)
