"""One stage: simulators, training group, evaluation, gate. Each step waits for what the one before it made.

phase        children                           goes on when
Pending      infrastructure                     the curriculum service is ready: it has read experiment and store
Preparing    and simulators                     nearly all simulators, and the rendezvous store, are ready
Training     and the trainer group              trained, committed, Job complete
Evaluating   infrastructure, evaluation Job     scores are in; then the gates decide
Succeeded    none
"""

import math

from ada_api.stages import Stage
from ada_api.status import StageStatus
from ada_operator.failure_policy import memory_limit, server_failure
from ada_operator.group import carry_on, start
from ada_operator.kubernetes_time import seconds, timestamp
from ada_operator.manifests import stage as manifests
from ada_operator.manifests.programs import Pinned
from ada_operator.restarts import counted_failure, group_restarts, new_group
from ada_operator.view import Failure, Step, View

ENOUGH_SIMULATORS = 0.9  # share that must be ready before the group starts
SETTLE_S = 60.0  # time for the last report to arrive after a Job is complete


def step(view: View, stage: Stage, memory: StageStatus, teacher: Pinned | None) -> Step:
    """Return what a stage that is not over needs now."""
    failure = server_trouble(view, stage)
    if failure is not None:
        return Step(memory, "Failed", failure.message, failure=failure)
    if memory.phase == "Evaluating":
        return evaluate(view, stage, memory)
    if is_trained(view, stage):
        ended = {"phase": "Evaluating", "trained_time": timestamp(view.now)}
        done = new_group(memory).model_copy(update=ended)  # the evaluation's crashes are counted anew
        return evaluate(view, stage, done)
    return train(view, stage, memory, teacher)


def train(view: View, stage: Stage, memory: StageStatus, teacher: Pinned | None) -> Step:
    """Bring up what training needs, in order, and keep the group going."""
    running = view.job("trainer", stage)
    servers = manifests.simulators(view.experiment, stage, view.platform)
    if running is None and (
        view.ready_replicas("curriculum") < 1 or (memory.generation > 0 and not view.is_answered())
    ):
        # A group that is gone may have been through: only the service can tell an operator that has just started.
        # Simulators that are there stay: a service that is silent for a moment must not cost their start.
        kept = servers if view.workload("simulator", stage) in view.observed.statefulsets else ()
        return Step(memory, "Starting", "waiting for the curriculum service", kept)
    if running is not None:
        return carry_on(view, stage, memory, running).with_objects(servers)
    ready, wanted = view.ready_replicas("simulator", stage), stage.simulators.replicas
    if ready < math.ceil(wanted * ENOUGH_SIMULATORS):
        preparing = memory.model_copy(update={"phase": "Preparing"})
        return Step(preparing, "Starting", f"waiting for simulators: {ready} of {wanted} are ready", servers)
    if view.ready_replicas("rendezvous") < 1:
        return Step(memory, "Starting", "waiting for the rendezvous store", servers)
    return start(view, stage, memory, teacher).with_objects(servers)


def is_trained(view: View, stage: Stage) -> bool:
    """Return whether all frames are learned from, the last checkpoint is committed, and the group is through."""
    progress = view.progress(stage.name)
    job = view.observed.jobs.get(view.workload("trainer", stage))
    if progress is None or progress.phase != "trained" or progress.checkpoint is None:
        return False
    over = job is None or any(c["type"] == "Complete" for c in job.get("status", {}).get("conditions", []))
    return over or view.now - progress.last_progress > 2 * SETTLE_S


def evaluate(view: View, stage: Stage, memory: StageStatus) -> Step:
    """Score the last checkpoint; then hold it against the stage's gates."""
    if memory.evaluation:
        return judge(view, stage, memory)
    if memory.checkpoint is None:
        missing = Failure("CheckpointMissing", f"stage {stage.name} is trained, but no checkpoint of it is known")
        return Step(memory, "Failed", missing.message, failure=missing)
    if view.job("evaluation", stage) is None and not (view.ready_replicas("curriculum") and view.is_answered()):
        # Its scores may have arrived already, unseen by an operator that has just started.
        return Step(memory, "Evaluating", "waiting for the curriculum service")
    checkpoint = Pinned(memory.checkpoint.uri, memory.checkpoint.digest)
    job = manifests.evaluation(view.experiment, stage, checkpoint, view.platform)
    known = view.job("evaluation", stage)
    message = f"playing {view.experiment.spec.evaluation.tasks} held-out tasks"
    if known is None:
        return Step(memory, "Evaluating", message, (job,))
    pods = view.pods_of(known, "evaluation", stage)
    counted = group_restarts(memory, pods)
    failure = counted_failure(view, pods, "evaluation", counted)
    if failure is not None:
        return Step(counted, "Failed", failure.message, failure=failure)
    finished = [c for c in known.get("status", {}).get("conditions", []) if c["type"] == "Complete"]
    if finished and view.now - seconds(finished[0].get("lastTransitionTime"), view.now) > SETTLE_S:
        # It ended well, but its scores never arrived: once more, by leaving the Job out.
        return Step(new_group(counted), "Evaluating", "the evaluation's scores did not arrive; playing again")
    job["spec"]["template"] = known["spec"]["template"]
    return Step(counted, "Evaluating", message, (job,))


def judge(view: View, stage: Stage, memory: StageStatus) -> Step:
    """Pass the stage if its evaluation reaches every gate."""
    for gate in view.experiment.spec.evaluation.gates:
        if gate.stage != stage.name:
            continue
        score = next((one.median for one in memory.evaluation if one.trials == gate.trials), None)
        if score is None or score < gate.score:
            found = "was not measured" if score is None else f"is {score:.3f}"
            failure = Failure(
                "GateNotReached",
                f"stage {stage.name}: the median score at {gate.trials} trials {found}, its gate asks for "
                f"{gate.score}: train longer, or lower the gate",
            )
            return Step(memory, "Failed", failure.message, failure=failure)
    passed = memory.model_copy(update={"phase": "Succeeded", "completion_time": timestamp(view.now)})
    return Step(passed, "Finished", f"stage {stage.name} is trained and evaluated")


def server_trouble(view: View, stage: Stage) -> Failure | None:
    """Return why a server of the stage can't run, if it can't."""
    for part in ("curriculum", "rendezvous", "simulator"):
        for pod in view.pods(part, stage if part == "simulator" else None):
            found = server_failure(pod)
            if found is None:
                continue
            said = f"pod {found.pod} (exit code {found.exit_code}): {found.message or 'it said nothing'}"
            match found.cause:
                case "configuration":
                    return Failure("ConfigurationError", said)
                case "outOfMemory":
                    ran_out = f"{part} ran out of memory{memory_limit(pod)}"
                    return Failure("OutOfMemory", f"{ran_out}; raise its memory limit: {said}")
            return Failure("CrashLoop", said)
    return None
