"""Command lines and environment of the programs (docs/interfaces.md); tests/contract parses them for real."""

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from ada_api.experiment import AdaExperiment
from ada_api.operations import Store
from ada_api.stages import Stage
from ada_operator import names
from ada_operator.observed import Manifest, Platform

EXPERIMENT_FILE = f"{names.CONFIG_DIRECTORY}/{names.CONFIG_KEY}"


@dataclass(frozen=True)
class Pinned:
    """A checkpoint by place and digest."""

    uri: str
    digest: str


@dataclass(frozen=True)
class Group:
    """One training group: what its command line says beside the experiment."""

    generation: int  # grows with every group of a stage that is made anew
    nodes: int
    resized: str  # when `nodes` last changed
    short_since: str | None = None  # when nodes were last given up for lack of room, if they still are
    teacher: Pinned | None = None
    resume: Pinned | None = None  # go on from here, not from the newest checkpoint


def curriculum_command(platform: Platform) -> list[str]:
    """Return the command line of the curriculum service."""
    return [*platform.python, "-m", "ada_curriculum", "--experiment", EXPERIMENT_FILE]


def rendezvous_command(platform: Platform) -> list[str]:
    """Return the command line of the rendezvous store."""
    return [*platform.python, "-m", "ada_trainer", "rendezvous"]


def simulator_command(platform: Platform) -> list[str]:
    """Return the command line of a simulator server."""
    return [*platform.python, "-m", "ada_sim", "serve", "--experiment", EXPERIMENT_FILE]


def trainer_command(experiment: AdaExperiment, stage: Stage, group: Group, platform: Platform) -> list[str]:
    """Return the command line of a trainer node."""
    identity = names.rendezvous_id(experiment.metadata.name, stage.name, group.generation)
    return [
        *platform.python,
        *["-m", "ada_trainer", "launch", "--experiment", EXPERIMENT_FILE, "--stage", stage.name],
        *["--nodes", node_bounds(stage), "--rendezvous-id", identity],
        *_checkpoint_flags("teacher", group.teacher),
        *_checkpoint_flags("resume", group.resume),
    ]


def node_bounds(stage: Stage) -> str:
    """Return the bounds of a stage's group as its command line names them."""
    return f"{stage.trainer.nodes.min}:{stage.trainer.nodes.max}"


def evaluation_command(stage: Stage, checkpoint: Pinned, platform: Platform) -> list[str]:
    """Return the command line of an evaluation."""
    return [
        *platform.python,
        *["-m", "ada_trainer", "evaluate", "--experiment", EXPERIMENT_FILE, "--stage", stage.name],
        *_checkpoint_flags("checkpoint", checkpoint),
    ]


def environment(experiment: AdaExperiment, stage: Stage | None, platform: Platform) -> list[Manifest]:
    """Return the environment that every program gets; credentials only by reference."""
    name, namespace = experiment.metadata.name, experiment.metadata.namespace
    secret = store_secret(experiment, platform)
    variables = [
        _from_secret("ADA_TOKEN", names.token(name), names.TOKEN_KEY),
        _value("ADA_CURRICULUM_ADDRESS", names.curriculum_address(name, namespace)),
        _value("ADA_RENDEZVOUS_ADDRESS", names.rendezvous_address(name, namespace)),
        _value("ADA_STORE", store_uri(experiment, platform) or ""),
    ]
    if stage is not None:
        variables += [
            _value("ADA_SIMULATOR_ADDRESSES", names.simulator_addresses(name, stage.name, namespace)),
            _value("ADA_SIMULATOR_COUNT", str(stage.simulators.replicas)),
        ]
    if secret is not None:
        variables += [
            _from_secret("ADA_STORE_ACCESS_KEY", secret, "accessKey"),
            _from_secret("ADA_STORE_SECRET_KEY", secret, "secretKey"),
        ]
    if ca_config_map(experiment) is not None:
        variables.append(_value("ADA_STORE_CA", f"{names.CA_DIRECTORY}/ca.crt"))
    # The root file system is read-only: whatever is written goes to an emptyDir.
    variables += [_value("HOME", "/tmp"), _value("NUMBA_CACHE_DIR", "/tmp/numba")]
    return variables


def store_uri(experiment: AdaExperiment, platform: Platform) -> str | None:
    """Return the value of ADA_STORE, or None if neither the experiment nor the platform names a store."""
    store = experiment.spec.checkpoint.store
    return platform.default_store if store is None else s3_uri(store)


def s3_uri(store: Store) -> str:
    """Return the URI of a store of the experiment."""
    place = "/".join(part for part in (store.bucket, store.prefix.strip("/")) if part)
    options = {"endpoint": store.endpoint, "region": store.region, "path_style": str(store.path_style).lower()}
    return f"s3://{quote(place)}?{urlencode(options, safe=':/')}"


def store_secret(experiment: AdaExperiment, platform: Platform) -> str | None:
    """Return the name of the Secret with the store's credentials, if there is one."""
    store = experiment.spec.checkpoint.store
    return platform.default_store_secret if store is None else store.secret_name


def ca_config_map(experiment: AdaExperiment) -> str | None:
    """Return the name of the ConfigMap with the store's CA, if there is one."""
    store = experiment.spec.checkpoint.store
    return None if store is None else store.ca_config_map


def _checkpoint_flags(role: str, checkpoint: Pinned | None) -> list[str]:
    return [] if checkpoint is None else [f"--{role}-uri", checkpoint.uri, f"--{role}-digest", checkpoint.digest]


def _value(name: str, value: str) -> Manifest:
    return {"name": name, "value": value}


def _from_secret(name: str, secret: str, key: str) -> Manifest:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
