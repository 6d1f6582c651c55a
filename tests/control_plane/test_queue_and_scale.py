"""A queue that holds a group and lets it go, as Kueue does it at the Job API, and `kubectl scale`: real controllers."""

from typing import Any

from tests.control_plane.life import NAME, experiment
from tests.control_plane.stand import MERGE, Case, Stand, play

from ada_operator.cluster import EXPERIMENTS, JOBS, PODS
from ada_operator.observed import Manifest

JOB = f"{NAME}-teacher-trainer"


async def job(stand: Stand) -> Manifest:
    """Wait for the training Job and return it."""

    async def found() -> Manifest | None:
        return await stand.cluster.get(JOBS, stand.namespace, JOB)

    return dict(await stand.until("training Job", found))


async def trainers(stand: Stand) -> list[Manifest]:
    """Return the trainer's pods that are not on their way out."""
    pods = await stand.cluster.list(PODS, stand.namespace, {"ada.dev/part": "trainer"})
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


async def hold(stand: Stand, suspend: bool) -> None:
    """Suspend the Job or let it go: what Kueue does, and its field alone."""
    path = JOBS.path(stand.namespace, JOB)
    await stand.cluster._request("PATCH", path, {"fieldManager": "kueue"}, {"spec": {"suspend": suspend}}, MERGE)


async def a_queue_that_takes_a_group_back_and_lets_it_go(stand: Stand) -> None:
    before = await job(stand)
    assert before["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    await stand.learn(250)
    await hold(stand, True)

    async def says_so() -> bool:
        training = await stand.condition("Training")
        return training["status"] == "False" and training["message"] == "group 1 is held by the queue gpus"

    await stand.until("message about the queue", says_so)

    async def no_pods() -> bool:
        return not await trainers(stand)

    await stand.until("end of the pods", no_pods)
    held = await job(stand)
    assert held["spec"]["suspend"] is True, "the field is the queue's"
    await hold(stand, False)
    await stand.learn(300)
    status = await stand.status()
    assert (await job(stand))["metadata"]["uid"] == before["metadata"]["uid"]
    assert status["stages"][0]["generation"] == 1
    assert status["restarts"] == 0


async def a_scale_that_changes_parallelism_and_completions_together(stand: Stand) -> None:
    async def has(nodes: int) -> bool:
        spec = (await job(stand))["spec"]
        return spec["parallelism"] == spec["completions"] == nodes and len(await trainers(stand)) == nodes

    await stand.until("two nodes", lambda: has(2))
    await stand.learn(250)
    for nodes in (1, 2):
        path = f"{EXPERIMENTS.path(stand.namespace, NAME)}/scale"  # as kubectl scale does
        await stand.cluster._request("PATCH", path, {}, {"spec": {"replicas": nodes}}, MERGE)
        await stand.until(f"{nodes} nodes", lambda nodes=nodes: has(nodes))
    status = await stand.status()
    assert status["stages"][0]["generation"] == 1, "the group takes it as it comes"
    assert status["restarts"] == 0


CASES: tuple[Case, ...] = (
    a_queue_that_takes_a_group_back_and_lets_it_go,
    a_scale_that_changes_parallelism_and_completions_together,
)


def experiment_of(case: Case, namespace: str) -> Manifest:
    """Return an experiment of one stage of up to two nodes, in a queue."""
    found = experiment(namespace)
    stage = found["spec"]["stages"][0]
    stage |= {"trainer": {"nodes": {"min": 1, "max": 2}}, "simulators": {"replicas": 2}}
    found["spec"] |= {"stages": [stage], "scheduling": {"queueName": "gpus"}}
    return found


def test_queues_and_scales_are_obeyed_without_a_new_group(plane: Any) -> None:
    for case, error in play(plane.kubectl, CASES, experiment_of).items():
        if error is not None:
            raise AssertionError(case) from error
