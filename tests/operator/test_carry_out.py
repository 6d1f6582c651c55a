"""The order of a plan's writes: what is concluded from a child is in the status before the child is deleted."""

import asyncio
import dataclasses
from typing import Any

import pytest

from ada_api.status import ExperimentStatus
from ada_operator.cluster import Resource
from ada_operator.curriculum_poll import CurriculumPoll
from ada_operator.events import Event
from ada_operator.metrics import OperatorMetrics
from ada_operator.planner import Plan, plan
from ada_operator.reconcile import Reconciler

KEY = ("lab", "quick")
MANY = 3000  # experiments under way: figures alone wait for minutes


class Recorder:
    """Stands for the API server: says yes to everything and notes in which order it was asked."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def replace(self, manifest: dict[str, Any], subresource: str) -> dict[str, Any]:
        self.done.append(subresource)
        return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "7"}}

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str | None = None) -> bool:
        self.done.append(f"delete {resource.kind}")
        return True

    async def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        self.done.append(manifest["kind"])
        return manifest


@pytest.fixture
def trained(cluster):
    """Return a cluster whose teacher trains, and a look ago had fewer frames."""
    cluster.settle()
    cluster.learn("teacher", 100, score=0.1)
    cluster.look()
    cluster.now += 5
    cluster.learn("teacher", 200, commit=False, score=0.2)
    return cluster


def carried_out(cluster, planned: Plan) -> list[str]:
    """Return in order what is asked of an API server for a plan, just after a status was written."""
    recorder = Recorder()

    async def act() -> None:
        poll = CurriculumPoll()
        reconciler = Reconciler(recorder, poll, cluster.platform, OperatorMetrics(), "test")
        for number in range(MANY):
            reconciler._pace.look_again_s(("lab", f"run-{number}"), 15.0)
        reconciler._pace.wrote(KEY)
        status = ExperimentStatus.model_validate(cluster.status)
        found = {**cluster.document, "status": status.model_dump(mode="json", by_alias=True, exclude_none=True)}
        await reconciler.carry_out(found, cluster.observe(), dataclasses.replace(planned, objects=()))
        await poll.close()

    asyncio.run(act())
    return recorder.done


def test_figures_alone_are_not_written_each_time(trained):
    planned = plan(trained.experiment(), trained.observe(), trained.now)
    assert not planned.deletions and not planned.events
    assert carried_out(trained, planned) == []


def test_the_status_is_written_before_a_child_is_deleted_though_figures_alone_changed(trained):
    job = next(reference for reference in trained.objects if reference.kind == "Job")
    planned = plan(trained.experiment(), trained.observe(), trained.now)
    assert carried_out(trained, dataclasses.replace(planned, deletions=(job,))) == ["status", "delete Job"]


def test_the_status_is_written_before_an_event_tells_of_it(trained):
    planned = plan(trained.experiment(), trained.observe(), trained.now)
    told = Event("Warning", "NodeLost", "a node is gone")
    assert carried_out(trained, dataclasses.replace(planned, events=(told,))) == ["status", "Event"]
