"""How many threads a program in a pod computes with: it would take all cores of its node, whoever else is there."""

import math
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from ada_api.stages import Stage
from ada_operator import names

VARIABLE = "ADA_THREADS"  # where OMP_NUM_THREADS is set, by the author of an experiment or by `ada run`, that counts


def thread_variables(part: names.Part, stage: Stage | None) -> list[dict[str, Any]]:
    """Return the environment variable that bounds the threads of a trainer's workers, or of an evaluation.

    The pod's CPU limit, or else its request, is shared out among the workers. Where neither is set, a worker has one
    thread, since pods of its group may be its neighbours; an evaluation, which trains nobody meanwhile, is left alone.
    """
    if stage is None or part not in ("trainer", "evaluation"):
        return []
    cores = cpus(stage.trainer.pod.resources or {})
    workers = stage.trainer.workers_per_node if part == "trainer" else 1
    if cores is None and part == "evaluation":
        return []
    return [{"name": VARIABLE, "value": str(max(1, int((cores or 0) // workers)))}]


def cpus(resources: dict[str, dict[str, int | str]]) -> float | None:
    """Return the cores that a container may use: its limit, or its request; None if it names none that can be read."""
    for kind in ("limits", "requests"):
        amount = resources.get(kind, {}).get("cpu")
        if amount is not None:
            try:
                cores = float(parse_quantity(amount))  # type: ignore[no-untyped-call]
            except ValueError:
                return None  # the API server will say what is wrong with it
            return cores if math.isfinite(cores) else None
    return None
