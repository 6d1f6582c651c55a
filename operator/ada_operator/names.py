"""Every name, label, port and address of an experiment's children. Names are made here and nowhere else."""

import hashlib
import re
from functools import lru_cache
from typing import Literal

Part = Literal["curriculum", "rendezvous", "simulator", "trainer", "evaluation"]

EXPERIMENT_LABEL = "ada.dev/experiment"
STAGE_LABEL = "ada.dev/stage"
PART_LABEL = "ada.dev/part"

GENERATION_ANNOTATION = "ada.dev/generation"  # number of the training group a Job was made for
BOUNDS_ANNOTATION = "ada.dev/nodes"  # MIN:MAX the group's rendezvous was told
RESIZED_ANNOTATION = "ada.dev/resized"  # when the number of pods asked for last changed
SHORT_ANNOTATION = "ada.dev/short-of-room"  # since when fewer are asked for than wanted, for lack of room; else absent

CONFIG_DIRECTORY = "/etc/ada"
CONFIG_KEY = "experiment.json"
TOKEN_KEY = "token"
CA_DIRECTORY = "/etc/ada-store"

CURRICULUM_PORT = 7001
RENDEZVOUS_PORT = 7002
SIMULATOR_PORT = 7003
HEALTH_PORTS: dict[Part, int] = {"curriculum": 7101, "rendezvous": 7102, "simulator": 7103, "trainer": 7104}

# A StatefulSet's pods carry its name and a ten-letter revision as one label, and a Job's pods add index and suffix:
# 52 leaves room for both within the 63 letters of a label.
LONGEST_NAME = 52
LONGEST_PART = len("-evaluation")


def digest(text: str) -> str:
    """Return eight hexadecimal letters that stand for the text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@lru_cache(maxsize=1 << 14)  # asked for dozens of times in each look at an experiment
def scope(experiment: str, stage: str | None = None) -> str:
    """Return the common start of the names of an experiment's, or of one stage's, children.

    It is `experiment` or `experiment-stage` where that is a short DNS label that nothing else could mean; otherwise a
    digest is added: a stage `b-c` of `a` is not taken for the stage `c` of `a-b`.
    """
    plain = experiment if stage is None else f"{experiment}-{stage}"
    label = re.sub(r"[^a-z0-9-]", "-", plain)
    if not label[0].isalpha():
        label = f"ada-{label}"
    limit = LONGEST_NAME - LONGEST_PART
    if label == plain and len(label) <= limit and "-" not in (stage or ""):
        return label
    return f"{label[: limit - 9].rstrip('-')}-{digest(f'{experiment}/{stage}')}"


def config(experiment: str) -> str:
    """Name of the ConfigMap that holds the experiment."""
    return f"{scope(experiment)}-experiment"


def token(experiment: str) -> str:
    """Name of the Secret that holds the experiment's token."""
    return f"{scope(experiment)}-token"


def workload(experiment: str, part: Part, stage: str | None = None) -> str:
    """Name of the StatefulSet or Job of a part, and of its Service."""
    return f"{scope(experiment, stage)}-{part}"


def labels(experiment: str, part: str, stage: str | None = None) -> dict[str, str]:
    """Return the labels by which children are found."""
    found = {
        "app.kubernetes.io/name": "ada",
        "app.kubernetes.io/managed-by": "ada-operator",
        EXPERIMENT_LABEL: scope(experiment),
        PART_LABEL: part,
    }
    return found if stage is None else {**found, STAGE_LABEL: stage}


def selector(experiment: str, part: str, stage: str | None = None) -> dict[str, str]:
    """Return the labels that select the pods of a part."""
    chosen = {EXPERIMENT_LABEL: scope(experiment), PART_LABEL: part}
    return chosen if stage is None else {**chosen, STAGE_LABEL: stage}


def pod_address(name: str, namespace: str, ordinal: int | str = 0) -> str:
    """Return the DNS name of a pod of a workload whose Service has the same name."""
    return f"{name}-{ordinal}.{name}.{namespace}.svc"


def curriculum_address(experiment: str, namespace: str) -> str:
    """Return `host:port` of the curriculum service."""
    return f"{pod_address(workload(experiment, 'curriculum'), namespace)}:{CURRICULUM_PORT}"


def rendezvous_address(experiment: str, namespace: str) -> str:
    """Return `host:port` of the rendezvous store."""
    return f"{pod_address(workload(experiment, 'rendezvous'), namespace)}:{RENDEZVOUS_PORT}"


def simulator_addresses(experiment: str, stage: str, namespace: str) -> str:
    """Return the pattern, with `{ordinal}`, of the addresses of a stage's simulators."""
    return f"{pod_address(workload(experiment, 'simulator', stage), namespace, '{ordinal}')}:{SIMULATOR_PORT}"


def rendezvous_id(experiment: str, stage: str, generation: int) -> str:
    """Return the rendezvous id of a training group; it ends with the group's number, which only grows."""
    return f"{scope(experiment, stage)}-{generation}"
