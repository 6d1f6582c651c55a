"""How the cores of one machine are shared out, so that processes do not trip over each other's threads."""

from ada_api.experiment import AdaExperiment

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def thread_variables(experiment: AdaExperiment, cores: int) -> dict[str, dict[str, str]]:
    """Return, for each part, the variables that bound its threads.

    Trainers learn while simulators wait and the other way round, so each side is counted alone: with n processes on
    it, each gets cores / n threads, at least one. An evaluation has the machine to itself.
    """
    workers = max(stage.trainer.nodes.max * stage.trainer.workers_per_node for stage in experiment.spec.stages)
    servers = max(stage.simulators.replicas for stage in experiment.spec.stages)
    threads = {
        "curriculum": 1,
        "rendezvous": 1,
        "simulator": max(1, cores // servers),
        "trainer": max(1, cores // workers),
        "evaluation": cores,
    }
    return {part: dict.fromkeys(VARIABLES, str(number)) for part, number in threads.items()}
