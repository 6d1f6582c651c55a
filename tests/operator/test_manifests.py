"""The manifests: what every pod may rely on, and what no pod may do."""

import json
import re

import pytest

from ada_api.experiment import AdaExperiment
from ada_operator import names
from ada_operator.manifests import infrastructure, programs, stage
from ada_operator.manifests.programs import Group, Pinned
from ada_operator.observed import Platform

PLATFORM = Platform(service_account="runner", image_pull_secrets=("pull",))
TEACHER = Pinned("s3://ada/t", "sha256:" + "0" * 64)


def experiment(**changes):
    pod = {
        "image": "mine:1",
        "resources": {"limits": {"nvidia.com/gpu": 8}},
        "nodeSelector": {"gpu": "h100"},
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "high",
        "env": [{"name": "NCCL_DEBUG", "value": "INFO"}, {"name": "HOME", "value": "/scratch"}],
        "volumes": [{"name": "scratch", "emptyDir": {}}],
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
    }
    spec = {
        "stages": [{"name": "one", "frames": 10, "trainer": {"nodes": {"min": 2, "max": 4}, "pod": pod}}],
        "checkpoint": {
            "store": {"endpoint": "https://m:9000", "bucket": "ada", "secretName": "store", "caConfigMap": "ca"}
        },
        **changes,
    }
    return AdaExperiment.model_validate(
        {
            "apiVersion": "ada.dev/v1alpha1",
            "kind": "AdaExperiment",
            "metadata": {"name": "quick", "namespace": "lab", "uid": "u-1", "labels": {"team": "a"}},
            "spec": spec,
        }
    )


def all_objects(found):
    """Return every manifest there is for an experiment of one stage."""
    first = found.spec.stages[0]
    group = Group(generation=3, nodes=4, resized="2027-01-15T08:00:00Z", teacher=TEACHER)
    return [
        infrastructure.config_map(found, {}),
        infrastructure.token_secret(found, "secret-token"),
        infrastructure.network_policy(found, PLATFORM),
        *infrastructure.curriculum(found, PLATFORM),
        *infrastructure.rendezvous(found, PLATFORM),
        *stage.simulators(found, first, PLATFORM),
        *stage.trainer(found, first, group, PLATFORM),
        stage.evaluation(found, first, TEACHER, PLATFORM),
    ]


def pod_templates(found):
    return {
        child["metadata"]["name"]: child["spec"]["template"]
        for child in all_objects(found)
        if child["kind"] in ("Job", "StatefulSet")
    }


@pytest.mark.parametrize("name", ["curriculum", "rendezvous", "one-simulator", "one-trainer", "one-evaluation"])
def test_every_pod_meets_the_restricted_pod_security_standard(name):
    pod = pod_templates(experiment())[f"quick-{name}"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}


def test_every_child_belongs_to_the_experiment_and_carries_its_label():
    for child in all_objects(experiment()):
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("AdaExperiment", "quick", "u-1")
        assert child["metadata"]["labels"][names.EXPERIMENT_LABEL] == "quick"
        assert child["metadata"]["namespace"] == "lab"


def test_no_secret_stands_in_a_manifest_but_the_token_in_its_own():
    for child in all_objects(experiment()):
        if child["kind"] != "Secret":
            assert "secret-token" not in json.dumps(child)


def test_every_selector_finds_exactly_its_own_pods():
    templates = pod_templates(experiment())
    for child in all_objects(experiment()):
        wanted = child["spec"].get("selector") if "spec" in child and child["kind"] != "NetworkPolicy" else None
        if wanted is None:
            continue
        chosen = wanted.get("matchLabels", wanted).items()
        found = [name for name, template in templates.items() if chosen <= template["metadata"]["labels"].items()]
        assert found == [child["metadata"]["name"]]


def test_every_port_that_is_probed_or_served_is_a_port_of_the_container():
    for child in all_objects(experiment()):
        if child["kind"] == "Service":
            template = pod_templates(experiment())[child["metadata"]["name"]]
            ports = {port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
            assert {port["port"] for port in child["spec"]["ports"]} == ports
            assert child["spec"]["publishNotReadyAddresses"] is True
            assert template["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"] in ports


def test_every_mount_has_its_volume():
    for template in pod_templates(experiment()).values():
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        mounts = [mount["name"] for mount in template["spec"]["containers"][0]["volumeMounts"]]
        assert set(mounts) <= volumes
        assert len(mounts) == len(set(mounts))


def test_what_a_person_sets_on_the_trainers_pods_is_there():
    pod = pod_templates(experiment())["quick-one-trainer"]["spec"]
    (container,) = pod["containers"]
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert container["image"] == "mine:1"
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 8}}
    assert environment["NCCL_DEBUG"] == "INFO"
    assert environment["HOME"] == "/scratch"
    assert [variable["name"] for variable in container["env"]].count("HOME") == 1
    assert pod["nodeSelector"] == {"gpu": "h100"}
    assert pod["priorityClassName"] == "high"
    assert {"name": "scratch", "emptyDir": {}} in pod["volumes"]


def test_the_trainer_job_is_elastic_and_leaves_counting_failures_to_the_planner():
    job = next(child for child in all_objects(experiment()) if child["metadata"]["name"] == "quick-one-trainer"
               and child["kind"] == "Job")["spec"]  # fmt: skip
    assert (job["parallelism"], job["completions"], job["completionMode"]) == (4, 4, "Indexed")
    assert job["podReplacementPolicy"] == "Failed"
    assert job["backoffLimit"] > 10**9
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    actions = [rule["action"] for rule in job["podFailurePolicy"]["rules"]]
    assert actions == ["Ignore", "FailJob", "Ignore"], "a disruption must be seen before any exit code"


def test_the_configuration_holds_all_defaults_and_nothing_that_changes_by_itself():
    document = json.loads(infrastructure.config_map(experiment(), {})["data"]["experiment.json"])
    assert document["spec"]["environment"]["taskPool"]["worlds"] == 50_000
    assert document["metadata"] == {"name": "quick", "namespace": "lab"}
    assert AdaExperiment.model_validate(document).spec == experiment().spec


def test_the_text_of_a_template_in_a_config_map_is_put_inline():
    templates = [{"name": "t", "configMap": {"name": "tasks", "key": "a"}}]
    found = experiment(environment={"templates": templates})
    document = json.loads(infrastructure.config_map(found, {"t": "the text"})["data"]["experiment.json"])
    assert document["spec"]["environment"]["templates"][0]["text"] == "the text"
    assert document["spec"]["environment"]["templates"][0]["configMap"] is None


def test_the_store_becomes_one_uri_without_credentials():
    uri = programs.store_uri(experiment(), PLATFORM)
    assert uri == "s3://ada?endpoint=https://m:9000&region=us-east-1&path_style=true"
    container = pod_templates(experiment())["quick-curriculum"]["spec"]["containers"][0]
    keys = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one}
    assert keys["ADA_STORE_ACCESS_KEY"] == {"name": "store", "key": "accessKey"}
    assert {"name": "ADA_STORE_CA", "value": "/etc/ada-store/ca.crt"} in container["env"]


def test_queue_gang_and_topology_are_passed_on():
    scheduling = {"queueName": "gpus", "gang": "volcano", "topologyKey": "rack"}
    found = experiment(scheduling=scheduling)
    jobs = [child for child in all_objects(found) if child["kind"] == "Job"]
    assert all(job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus" for job in jobs)
    pod = pod_templates(found)["quick-one-trainer"]
    assert pod["spec"]["schedulerName"] == "volcano"
    assert pod["metadata"]["annotations"]["scheduling.volcano.sh/group-min-member"] == "2"
    (term,) = pod["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "rack"


def test_only_the_operators_namespace_may_ask_the_curriculum_service_from_outside():
    policy = infrastructure.network_policy(experiment(), Platform(operator_namespace="ada-system"))
    rules = [rule for rule in policy["spec"]["ingress"] if "ports" in rule]
    (asked,) = [rule for rule in rules if rule["ports"][0]["port"] == names.CURRICULUM_PORT]
    assert asked["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "ada-system"}
    (health,) = [rule for rule in rules if "from" not in rule]
    assert {port["port"] for port in health["ports"]} == set(names.HEALTH_PORTS.values())


def test_the_same_input_gives_the_same_bytes():
    assert json.dumps(all_objects(experiment())) == json.dumps(all_objects(experiment()))
    assert not re.search(r"0x[0-9a-f]{6,}", json.dumps(all_objects(experiment())))


@pytest.mark.parametrize(
    ("resources", "workers", "trainer", "evaluation"),
    [
        (None, 1, "1", None),
        ({"limits": {"nvidia.com/gpu": 8}}, 8, "1", None),
        ({"requests": {"cpu": "7500m"}}, 2, "3", "7"),
        ({"requests": {"cpu": 2}, "limits": {"cpu": 8}}, 2, "4", "8"),
        ({"limits": {"cpu": "100m"}}, 1, "1", "1"),
        ({"limits": {"cpu": "lots"}}, 1, "1", None),
        ({"limits": {"cpu": "NaN"}}, 1, "1", None),
        ({"limits": {"cpu": "1e999"}}, 1, "1", None),
    ],
)
def test_workers_share_the_cores_of_their_pod_and_no_more(resources, workers, trainer, evaluation) -> None:
    pod = {} if resources is None else {"resources": resources}
    stages = [
        {
            "name": "one",
            "frames": 10,
            "trainer": {"workersPerNode": workers, "pod": pod},
            "simulators": {"replicas": workers},
        }
    ]
    jobs = [found for found in all_objects(experiment(stages=stages)) if found["kind"] == "Job"]
    threads = [
        {one["name"]: one.get("value") for one in job["spec"]["template"]["spec"]["containers"][0]["env"]}.get(
            "ADA_THREADS"
        )
        for job in jobs
    ]
    assert threads == [trainer, evaluation]
