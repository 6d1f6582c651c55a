"""Least privilege: over a whole life the operator uses every right that it asks for, and no other."""

import json

import pytest
from tests.control_plane.flow import NAME, Flow
from tests.security.secrets_in import finds

from ada_operator.cluster import (
    EXPERIMENTS,
    LABELLED,
    LEASE_PERMISSIONS,
    LEASES,
    PERMISSIONS,
    PODS,
    SECRETS,
    SUBRESOURCE_PERMISSIONS,
)

# Rights that the audit log does not show by their name, and why they are needed all the same.
UNSEEN = {
    # Server-side apply of an object that is not there is a patch to the audit log; the API server asks for both rights.
    **{("create", resource.plural): "apply" for resource in (SECRETS, *LABELLED) if resource is not PODS},
    # Only asked for where an object has the name of a child that is to be made: one test does that, with a Service.
    **{("get", resource.plural): "something in the way" for resource in LABELLED if resource is not PODS},
    # Asked for by the admission plugin OwnerReferencesPermissionEnforcement, where it is switched on.
    ("update", f"{EXPERIMENTS.plural}/finalizers"): "owner references that block deletion",
}


def granted():
    """Return what the operator says that it needs, as (verb, resource)."""
    rights = {(verb, resource.plural) for resource, verbs in PERMISSIONS.items() for verb in verbs}
    parts = SUBRESOURCE_PERMISSIONS.items()
    rights |= {(verb, f"{resource.plural}/{part}") for (resource, part), verbs in parts for verb in verbs}
    return rights | {(verb, LEASES.plural) for verb in LEASE_PERMISSIONS}


def used(plane):
    """Return what operators did, as (verb, resource), by the API server's audit log."""
    found = set()
    for entry in of_operators(plane):
        asked = entry["objectRef"]
        part = f"/{asked['subresource']}" if "subresource" in asked else ""
        found.add((entry["verb"], asked["resource"] + part))
    return found


def of_operators(plane):
    """Yield what operators asked for; the tests' own kubectl uses their account to see whether its rights are there."""
    for entry in plane.audit():
        ours = entry["user"]["username"].endswith(":ada-operator") and not entry["userAgent"].startswith("kubectl")
        if ours and "objectRef" in entry:
            yield entry


def everything_but_secrets(kubectl, namespace):
    """Return all objects of a namespace as text, events and managed fields included."""
    kinds = "configmaps,services,pods,statefulsets,jobs,poddisruptionbudgets,networkpolicies,adaexperiments"
    return kubectl("get", f"{kinds},events.events.k8s.io", f"-n={namespace}", "--output=json", "--show-managed-fields")


def namespaces_of(plane, account):
    """Return the namespaces whose objects a service account asked for, and the paths by which it did."""
    return {
        (entry["objectRef"].get("namespace"), entry["requestURI"].partition("?")[0])
        for entry in of_operators(plane)
        if entry["user"]["username"] == account
    }


@pytest.fixture
def flow(plane, namespace, tmp_path):
    if not hasattr(plane, "audit"):
        pytest.skip("the cluster is not ours: there is no audit log to read")
    flow = Flow(plane.kubectl, namespace, tmp_path)
    yield flow
    flow.close()


def test_rights_that_are_granted_are_rights_that_are_used(plane, flow, make_operator):
    operator = make_operator(flow.operator_environment(), "--platform", str(flow.platform()))
    seen = []
    flow.between = lambda step: seen.append(everything_but_secrets(plane.kubectl, flow.namespace))
    flow.run()
    token = flow._token
    assert len(token) > 30
    for text in (*seen, operator.log.read_text(), operator.get("/metrics")):
        assert not finds(text.encode(), [token])
    assert any('"kind": "Job"' in text and '"kind": "Event"' in text for text in seen)
    flow.wait("end of all children but the settings", lambda: flow.children() == [f"configmap/{NAME}-experiment"])
    patch = json.dumps({"spec": {"ttlSecondsAfterFinished": 0}})
    plane.kubectl("patch", "adaexperiment", NAME, f"-n={flow.namespace}", "--type=merge", f"--patch={patch}")
    flow.wait("its end by the time it set itself", lambda: flow.find("adaexperiment", NAME) is None)

    operator.stop()  # a watch stands in the audit log when it is over

    rights = used(plane)
    assert rights - granted() == set(), "done without being asked for"
    assert granted() - rights - set(UNSEEN) == set(), "asked for and never needed"
    assert set(UNSEEN) <= granted()


def test_no_name_in_a_spec_leads_to_an_object_of_another_namespace(plane, flow, make_operator):
    theirs = f"{flow.namespace}-theirs"
    plane.kubectl("create", "namespace", theirs)
    try:
        plane.kubectl("create", "secret", "generic", "store", f"-n={theirs}", "--from-literal=accessKey=stolen")
        make_operator(flow.operator_environment(), "--platform", str(flow.platform()))
        crafted = [f"../../{theirs}/secrets/store", f"..%2F..%2F{theirs}%2Fsecrets%2Fstore", ".."]
        for number, secret in enumerate(crafted):
            store = {"endpoint": "https://store.example", "bucket": "ada", "secretName": secret}
            document = {
                "apiVersion": "ada.dev/v1alpha1",
                "kind": "AdaExperiment",
                "metadata": {"name": f"crafted-{number}", "namespace": flow.namespace},
                "spec": {"stages": [{"name": "teacher", "frames": 10}], "checkpoint": {"store": store}},
            }
            applied = plane.kubectl.run("apply", "--filename=-", stdin=json.dumps(document))
            if applied.returncode:
                continue  # refused by the schema already
            told = flow.wait(
                "refusal",
                lambda number=number: (
                    flow.find("adaexperiment", f"crafted-{number}").get("status", {}).get("conditions")
                ),
            )
            accepted = next(one for one in told if one["type"] == "Accepted")
            assert (accepted["status"], accepted["reason"]) == ("False", "ReferenceMissing")
        asked = namespaces_of(plane, f"system:serviceaccount:{flow.namespace}:ada-operator")
        assert {space for space, _ in asked if space} == {flow.namespace}
        assert not [path for _, path in asked if theirs in path]
    finally:
        plane.kubectl.run("delete", "namespace", theirs, "--wait=false")
