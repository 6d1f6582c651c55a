"""What the chart grants is what the code says that it needs, in both modes."""

from typing import Any

import pytest
from tests.cluster.helm import NAMESPACE, render

from ada_operator.cluster import LEASE_PERMISSIONS, LEASES, PERMISSIONS, SUBRESOURCE_PERMISSIONS

Right = tuple[str, str, str]  # group, resource, verb


def needed() -> set[Right]:
    rights = {(resource.group, resource.plural, verb) for resource, verbs in PERMISSIONS.items() for verb in verbs}
    return rights | {
        (resource.group, f"{resource.plural}/{part}", verb)
        for (resource, part), verbs in SUBRESOURCE_PERMISSIONS.items()
        for verb in verbs
    }


def needed_for_lease() -> set[Right]:
    return {(LEASES.group, LEASES.plural, verb) for verb in LEASE_PERMISSIONS}


def rights(role: dict[str, Any]) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def granted(objects: list[dict[str, Any]], account: str) -> dict[str | None, set[Right]]:
    """Return what an account may do by namespace; None: in all of them."""
    roles = {
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]): one
        for one in objects
        if one["kind"] in ("Role", "ClusterRole")
    }
    found: dict[str | None, set[Right]] = {}
    for binding in objects:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]
        space, reference = binding["metadata"].get("namespace"), binding["roleRef"]
        role = roles[reference["kind"], space if reference["kind"] == "Role" else None, reference["name"]]
        found[space] = found.get(space, set()) | rights(role)
    return found


def account_of(objects: list[dict[str, Any]]) -> str:
    deployment = next(one for one in objects if one["kind"] == "Deployment")
    return str(deployment["spec"]["template"]["spec"]["serviceAccountName"])


def test_cluster_wide_the_operator_gets_its_rights_and_the_lease_in_its_own_namespace():
    objects = render()
    assert granted(objects, account_of(objects)) == {None: needed(), NAMESPACE: needed_for_lease()}


def test_a_list_of_namespaces_grants_nothing_anywhere_else():
    objects = render({"namespaces": ["research", NAMESPACE]})
    assert granted(objects, account_of(objects)) == {
        "research": needed(),
        NAMESPACE: needed() | needed_for_lease(),
    }


def test_no_role_grants_by_wildcard(everything):
    for role in everything:
        if role["kind"] in ("Role", "ClusterRole"):
            assert not [right for right in rights(role) if "*" in right], role["metadata"]["name"]


def test_viewers_read_and_editors_write_experiments_and_nothing_else(everything):
    by_aggregate = {
        label.rpartition("-")[2]: rights(one)
        for one in everything
        if one["kind"] == "ClusterRole"
        for label in one["metadata"]["labels"]
        if label.startswith("rbac.authorization.k8s.io/aggregate-to-")
    }
    assert set(by_aggregate) == {"view", "edit", "admin"}
    assert {verb for _, _, verb in by_aggregate["view"]} == {"get", "list", "watch"}
    assert by_aggregate["edit"] == by_aggregate["admin"]
    for found in by_aggregate.values():
        assert {(group, resource.partition("/")[0]) for group, resource, _ in found} == {("ada.dev", "adaexperiments")}
    # Who may edit an experiment may not write its status: that is the operator's.
    assert not [right for right in by_aggregate["edit"] if right[1].endswith("/status")]


@pytest.mark.parametrize("switch", ["create", "aggregate"])
def test_rights_can_be_left_to_others(switch):
    kinds = [one["kind"] for one in render({"rbac": {switch: False}})]
    assert ("RoleBinding" in kinds) == (switch == "aggregate")
    assert kinds.count("ClusterRole") == (2 if switch == "create" else 1)
