"""A whole experiment on a real control plane: the operator is a process, pods are played, progress is real."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.processes import start, stop, wait_until
from tests.control_plane.flow import NAME, STUDENT_FRAMES, TEACHER_FRAMES, Flow

SETTINGS = [f"configmap/{NAME}-experiment"]
AUTHORIZATION_DECISION = "authorization.k8s.io/decision"  # the audit log's annotation: allow or forbid


@pytest.fixture
def flow(plane, namespace, tmp_path) -> Iterator[Flow]:
    flow = Flow(plane.kubectl, namespace, tmp_path)
    yield flow
    flow.close()


@contextmanager
def watched_table(flow: Flow) -> Iterator[Path]:
    """Have `kubectl get adaexperiments --watch` write to a file."""
    path = flow.folder / "table"
    process = start(flow.kubectl.command("get", "adaexperiments", f"-n={flow.namespace}", "--watch"), path)
    try:
        yield path
    finally:
        stop(process)
        if os.environ.get("ADA_KEEP_TABLE"):  # for docs/operations.md
            events = flow.kubectl("events", f"-n={flow.namespace}", f"--for=adaexperiment/{NAME}")
            Path(os.environ["ADA_KEEP_TABLE"]).write_text(path.read_text() + "\n" + events)


def end_state(flow: Flow) -> dict[str, Any]:
    """Return what must be the same however the operator fared: all but times, speeds and counts of looks."""
    status = flow.status()
    stages = [
        {
            "name": stage["name"],
            "phase": stage["phase"],
            "frames": stage["frames"],
            "generation": stage["generation"],
            "checkpoint": stage["checkpoint"]["frames"],
            "teacher": "teacher" in stage,
            "evaluation": stage["evaluation"],
            "restarts": stage["restarts"],
        }
        for stage in status["stages"]
    ]
    truth = {condition["type"]: (condition["status"], condition["reason"]) for condition in status["conditions"]}
    return {"phase": status["phase"], "stages": stages, "conditions": truth, "children": flow.children()}


def test_a_teacher_and_its_student_go_from_apply_to_succeeded(plane, flow, make_operator):
    operator = make_operator(flow.operator_environment(), "--platform", str(flow.platform()))
    with watched_table(flow) as table:
        flow.run()
        rows = [line.split() for line in table.read_text().splitlines()]

    status = flow.status()
    teacher, student = status["stages"]
    assert student["teacher"]["digest"] == flow.teacher_digest == teacher["checkpoint"]["digest"]
    position = flow.student_command.index("--teacher-digest")
    assert flow.student_command[position + 1] == flow.teacher_digest
    assert (teacher["frames"], student["frames"]) == (TEACHER_FRAMES, STUDENT_FRAMES)
    assert {c["type"]: c["status"] for c in status["conditions"]}["Succeeded"] == "True"

    header, printed = rows[0], [" ".join(row) for row in rows[1:]]
    assert header[:2] == ["NAME", "PHASE"]
    assert any("Training" in row and "teacher" in row for row in printed)
    assert any("Training" in row and "student" in row and "2/2" in row for row in printed)
    assert any("0.25" in row for row in printed)
    assert "Succeeded" in printed[-1]

    reasons = [event["reason"] for event in flow.get("events.events.k8s.io")["items"] if about_us(event)]
    for reason in ("GroupStarted", "Committed", "StageTrained", "StageSucceeded", "AllStagesTrained"):
        assert reason in reasons, reasons
    assert reasons.count("StageSucceeded") == 2

    metadata = flow.find("adaexperiment", NAME)["metadata"]
    assert "finalizers" not in metadata
    assert not [key for key in metadata.get("annotations", {}) if "kopf" in key]
    flow.wait("end of all children but the settings", lambda: flow.children() == SETTINGS)
    assert operator.get("/healthz") == "ok\n"
    assert 'ada_operator_experiments{phase="Succeeded"} 1.0' in operator.get("/metrics")

    flow.kubectl("delete", "adaexperiment", NAME, f"--namespace={flow.namespace}")
    flow.wait("end of everything", lambda: not flow.children(), 90)
    assert operator.stop() == 0


def test_an_operator_that_is_killed_after_every_step_comes_to_the_same_end(plane, flow, make_operator):
    """The lease is waited for each time, as a new pod would; nothing is remembered but what the API server has."""
    operator = make_operator(flow.operator_environment(), "--platform", str(flow.platform()), lease_s=3)
    steps: list[str] = []

    def kill_and_start(step: str) -> None:
        steps.append(step)
        operator.kill()
        operator.start()

    flow.between = kill_and_start
    flow.run()
    flow.wait("end of all children but the settings", lambda: flow.children() == SETTINGS)
    assert len(steps) == 9
    undisturbed = {
        "name": "student",
        "phase": "Succeeded",
        "frames": STUDENT_FRAMES,
        "generation": 1,
        "checkpoint": STUDENT_FRAMES,
        "teacher": True,
    }
    state = end_state(flow)
    assert state["phase"] == "Succeeded"
    assert state["stages"][1].items() >= undisturbed.items()
    assert all(not any(stage["restarts"].values()) for stage in state["stages"]), state


def test_a_foreign_edit_of_a_child_is_put_right_and_a_foreign_field_is_left_alone(plane, flow, make_operator):
    make_operator(flow.operator_environment(), "--platform", str(flow.platform()))
    flow.apply()
    flow.wait("trainer Job", lambda: flow.find("job", f"{NAME}-teacher-trainer"))
    kubectl, space = plane.kubectl, f"--namespace={flow.namespace}"
    service, simulator, config = f"{NAME}-curriculum", f"{NAME}-teacher-simulator", f"{NAME}-experiment"

    before = flow.find("service", service)["metadata"]["uid"]
    kubectl("delete", "service", service, space)
    kubectl("scale", "statefulset", simulator, "--replicas=7", space)
    kubectl("patch", "configmap", config, space, "--type=merge", "--patch", '{"data": {"experiment.json": "edited"}}')
    (policy,) = [name for name in flow.children() if name.startswith("networkpolicy")]
    kubectl("label", policy, "ada.dev/experiment-", space)
    kubectl("annotate", "statefulset", simulator, "somebody.example/note=kept", space)

    def right() -> bool:
        made_anew = flow.find("service", service)
        return (
            bool(made_anew)
            and made_anew["metadata"]["uid"] != before
            and flow.find("statefulset", simulator)["spec"]["replicas"] == 2
            and flow.find("configmap", config)["data"]["experiment.json"] != "edited"
            and policy in flow.children()
        )

    flow.wait("children put right", right)
    assert flow.find("statefulset", simulator)["metadata"]["annotations"]["somebody.example/note"] == "kept"


def test_a_suspended_experiment_commits_frees_its_pods_and_goes_on_where_it_was(plane, flow, make_operator):
    make_operator(flow.operator_environment(), "--platform", str(flow.platform()))
    flow.apply()
    group = flow.begin("teacher")
    flow.suspend(True)
    flow.wait("wish to stop", lambda: flow.post("advance", {**group, "frames": 300, "updates": 12})["stop"])
    committed = flow.commit(group, 300)
    flow.end_pods("trainer", "teacher", 75)
    flow.wait("suspension", lambda: flow.status()["phase"] == "Suspended")
    assert flow.status()["checkpoint"]["digest"] == committed.digest
    flow.wait("end of all pods", lambda: not [name for name in flow.children() if name.startswith("pod/")])

    flow.stop_service()
    flow.suspend(False)
    flow.start_service()
    resumed = flow.begin("teacher")
    assert resumed["generation"] == group["generation"] + 1


def test_an_object_of_somebody_elses_is_never_taken_over(plane, flow, make_operator):
    theirs = {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}], "selector": {"app": "theirs"}}}
    metadata = {"name": f"{NAME}-rendezvous", "namespace": flow.namespace}
    plane.kubectl.apply({**theirs, "metadata": metadata})
    before = flow.find("service", metadata["name"])
    operator = make_operator(flow.operator_environment(), "--platform", str(flow.platform()))
    flow.apply()
    said = f"Service {metadata['name']} is there already and is not this experiment's: delete or rename it"
    flow.wait(
        "event that says so",
        lambda: [event for event in flow.get("events.events.k8s.io")["items"] if event.get("note") == said],
    )
    assert flow.find("service", metadata["name"]) == before
    plane.kubectl("delete", "service", metadata["name"], f"--namespace={flow.namespace}")
    flow.wait("group of the teacher", lambda: flow.find("job", f"{NAME}-teacher-trainer"))
    assert "NameTaken" in operator.get("/metrics")


def test_of_two_operators_one_acts_and_the_other_takes_over_when_it_is_lost(plane, flow, make_operator):
    arguments = (flow.operator_environment(), "--platform", str(flow.platform()))
    operators = [make_operator(*arguments, lease_s=3), make_operator(*arguments, lease_s=3)]

    def leads() -> list[bool]:
        return ["ada_operator_leading 1.0" in operator.get("/metrics") for operator in operators]

    wait_until("leader", lambda: sum(leads()) == 1)
    first = leads().index(True)
    flow.apply()
    operators[first].kill()
    survivor = operators[1 - first]
    wait_until("new leader", lambda: "ada_operator_leading 1.0" in survivor.get("/metrics"), 60, survivor.said)
    flow.wait("group of the teacher", lambda: flow.find("job", f"{NAME}-teacher-trainer"))


def test_an_operator_of_all_namespaces_serves_one_that_is_made_after_it(plane, namespace, tmp_path, make_operator):
    flow = Flow(plane.kubectl, f"{namespace}-later", tmp_path)
    operator = make_operator(flow.operator_environment(), "--platform", str(flow.platform()), everywhere=True)
    wait_until("leader", lambda: "ada_operator_leading 1.0" in operator.get("/metrics"), 60, operator.said)
    plane.kubectl("create", "namespace", flow.namespace)
    try:
        flow.apply()
        flow.wait("group of the teacher", lambda: flow.find("job", f"{NAME}-teacher-trainer"))
    finally:
        flow.close()
        operator.stop()
        plane.kubectl.run("delete", "namespace", flow.namespace, "--wait=false")
        for kind in ("clusterrole", "clusterrolebinding"):
            plane.kubectl.run("delete", kind, f"ada-operator-{namespace}")


def test_the_operator_does_nothing_that_it_has_not_said_it_needs(plane, namespace):
    """Its service account has its own list of permissions and no more: the audit log shows what was refused."""
    if not hasattr(plane, "audit"):
        pytest.skip("the cluster is not ours: there is no audit log to read")
    asked = [entry for entry in plane.audit() if entry["user"]["username"].endswith(":ada-operator")]
    decisions = [entry.get("annotations", {}).get(AUTHORIZATION_DECISION) for entry in asked]
    assert decisions.count("allow") > 100  # by the tests before this one
    # Admission refuses too, for instance what would be created in a namespace that is being deleted: that is no lack
    # of permission.
    refused = [
        (e["verb"], e["requestURI"])
        for e, decision in zip(asked, decisions, strict=True)
        if e["responseStatus"]["code"] == 401 or decision == "forbid"
    ]
    assert refused == []


def about_us(event: dict[str, Any]) -> bool:
    """Return whether an event is about an experiment."""
    return bool(event["regarding"]["kind"] == "AdaExperiment")
