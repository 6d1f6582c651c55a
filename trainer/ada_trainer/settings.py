"""Everything a trainer program is told, from flags and environment, checked once and then never changed."""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ada_api.experiment import AdaExperiment
from ada_api.stages import CheckpointReference, Stage
from ada_curriculum.manifest import digest_of, experiment_prefix
from ada_curriculum.store import StoreError, open_store
from ada_trainer.exits import ConfigurationError

HEALTH_PORT = 7104
MAX_SIMULATORS = 10_000


@dataclass(frozen=True)
class Settings:
    """One trainer node's or worker's view of what it is part of."""

    experiment: AdaExperiment
    stage: Stage
    min_nodes: int
    max_nodes: int
    rendezvous_id: str
    host: str  # to listen on
    port: int  # of health and metrics
    token: str
    curriculum_address: str
    rendezvous_address: str
    simulator_addresses: tuple[str, ...]
    store_uri: str  # of the experiment's prefix
    teacher: CheckpointReference | None
    resume: CheckpointReference | None

    @property
    def name(self) -> str:
        """Return `namespace/name` of the experiment."""
        return experiment_prefix(self.experiment.metadata.namespace, self.experiment.metadata.name)

    @property
    def config_digest(self) -> str:
        """Return the digest of what of the experiment decides the stage's learning."""
        spec = self.experiment.spec
        parts = {
            "seed": spec.seed,
            "environment": spec.environment.model_dump(mode="json"),
            "curriculum": spec.curriculum.model_dump(mode="json"),
            "stage": self.stage.model_dump(mode="json", exclude={"trainer", "simulators", "frames"}),
        }
        return digest_of(json.dumps(parts, sort_keys=True).encode())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags that `launch` and `train` share."""
    parser.add_argument("--experiment", type=Path, required=True, metavar="FILE", help="JSON or YAML file")
    parser.add_argument("--stage", required=True, metavar="NAME", help="the stage to train")
    parser.add_argument("--nodes", required=True, type=node_bounds, metavar="MIN:MAX", help="bounds of the group")
    parser.add_argument("--rendezvous-id", required=True, metavar="ID", help="name under which the nodes meet")
    for role in ("teacher", "resume"):
        parser.add_argument(f"--{role}-uri", metavar="URI", help=f"checkpoint to {_PURPOSE[role]}")
        parser.add_argument(f"--{role}-digest", metavar="DIGEST", help="its digest, sha256:...")
    parser.add_argument("--host", metavar="ADDRESS", help="address to listen on; default: ADA_HOST, or all")
    parser.add_argument("--port", type=int, default=HEALTH_PORT, help="port of health and metrics")


_PURPOSE = {"teacher": "learn from", "resume": "go on from, instead of the newest one"}


def node_bounds(text: str) -> tuple[int, int]:
    """Read `MIN:MAX`; raises ArgumentTypeError."""
    low, mark, high = text.partition(":")
    if not (mark and low.isdigit() and high.isdigit() and 1 <= int(low) <= int(high)):
        raise argparse.ArgumentTypeError(f"{text!r} is not MIN:MAX with 1 <= MIN <= MAX")
    return int(low), int(high)


def to_arguments(options: argparse.Namespace) -> list[str]:
    """Return the command line that gives the same options again; for the workers."""
    arguments = ["--experiment", str(options.experiment), "--stage", options.stage]
    arguments += ["--nodes", "{}:{}".format(*options.nodes), "--rendezvous-id", options.rendezvous_id]
    for name in ("teacher_uri", "teacher_digest", "resume_uri", "resume_digest", "host"):
        if (value := getattr(options, name)) is not None:
            arguments += ["--" + name.replace("_", "-"), value]
    return [*arguments, "--port", str(options.port)]


def read_settings(options: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings. Raises ConfigurationError naming what can't work."""
    experiment = read_experiment(options.experiment)
    stage = find_stage(experiment, options.stage)
    needed = ("ADA_TOKEN", "ADA_CURRICULUM_ADDRESS", "ADA_RENDEZVOUS_ADDRESS", "ADA_SIMULATOR_ADDRESSES", "ADA_STORE")
    missing = [name for name in needed if not environment.get(name)]
    if missing:
        raise ConfigurationError(f"environment variables that must be set: {', '.join(missing)}")
    minimum, maximum = options.nodes
    metadata = experiment.metadata
    try:
        store = open_store(environment["ADA_STORE"]).child(experiment_prefix(metadata.namespace, metadata.name))
    except StoreError as error:
        raise ConfigurationError(str(error)) from error
    settings = Settings(
        experiment=experiment,
        stage=stage,
        min_nodes=minimum,
        max_nodes=maximum,
        rendezvous_id=options.rendezvous_id,
        host=options.host or environment.get("ADA_HOST") or "0.0.0.0",
        port=options.port,
        token=environment["ADA_TOKEN"],
        curriculum_address=environment["ADA_CURRICULUM_ADDRESS"],
        rendezvous_address=environment["ADA_RENDEZVOUS_ADDRESS"],
        simulator_addresses=simulator_addresses(
            environment["ADA_SIMULATOR_ADDRESSES"], environment.get("ADA_SIMULATOR_COUNT", "")
        ),
        store_uri=store.uri,
        teacher=_reference("teacher", options.teacher_uri, options.teacher_digest),
        resume=_reference("resume", options.resume_uri, options.resume_digest),
    )
    check(settings)
    return settings


def read_experiment(path: Path) -> AdaExperiment:
    """Read an experiment from a JSON or YAML file. Raises ConfigurationError naming the fields that are wrong."""
    try:
        text = path.read_text()
        if path.suffix == ".json":
            return AdaExperiment.model_validate_json(text)
        import yaml

        return AdaExperiment.model_validate(yaml.safe_load(text))
    except (OSError, ValueError) as error:  # pydantic's and json's errors are ValueErrors
        raise ConfigurationError(f"experiment {path} can't be used: {error}") from error


def find_stage(experiment: AdaExperiment, name: str) -> Stage:
    """Return a stage by its name. Raises ConfigurationError."""
    for stage in experiment.spec.stages:
        if stage.name == name:
            return stage
    known = ", ".join(stage.name for stage in experiment.spec.stages)
    raise ConfigurationError(f"experiment {experiment.metadata.name} has no stage {name!r}; it has {known}")


def simulator_addresses(pattern: str, count: str) -> tuple[str, ...]:
    """Return the addresses of all simulators from the pattern with `{ordinal}`. Raises ConfigurationError."""
    if "{ordinal}" not in pattern:
        raise ConfigurationError(f"ADA_SIMULATOR_ADDRESSES is {pattern!r}, which has no {{ordinal}}")
    if not count.isdigit() or not 1 <= int(count) <= MAX_SIMULATORS:
        raise ConfigurationError(f"ADA_SIMULATOR_COUNT is {count!r}, not a number from 1 to {MAX_SIMULATORS}")
    return tuple(pattern.replace("{ordinal}", str(ordinal)) for ordinal in range(int(count)))


def check(settings: Settings) -> None:
    """Raise ConfigurationError for combinations that can't train."""
    stage, simulators = settings.stage, len(settings.simulator_addresses)
    workers = settings.max_nodes * stage.trainer.workers_per_node
    if simulators < workers:
        raise ConfigurationError(
            f"stage {stage.name} has {simulators} simulators for up to {workers} workers; "
            f"set simulators.replicas to at least {workers}"
        )
    if stage.algorithm.worlds < max(workers, simulators):
        raise ConfigurationError(
            f"stage {stage.name} has {stage.algorithm.worlds} worlds for up to {workers} workers and {simulators} "
            f"simulators; set algorithm.worlds to at least {max(workers, simulators)}"
        )
    distils = stage.distillation is not None
    if distils and settings.teacher is None:
        raise ConfigurationError(f"stage {stage.name} distils a teacher; --teacher-uri and --teacher-digest are needed")
    if settings.teacher is not None and not distils:
        raise ConfigurationError(f"stage {stage.name} has no distillation, but a teacher was given")


def _reference(role: str, uri: str | None, digest: str | None) -> CheckpointReference | None:
    if uri is None and digest is None:
        return None
    if uri is None or digest is None:
        raise ConfigurationError(f"--{role}-uri and --{role}-digest belong together; only one was given")
    try:
        return CheckpointReference(uri=uri, digest=digest)
    except ValueError as error:
        raise ConfigurationError(f"--{role}-uri and --{role}-digest can't be used: {error}") from error


def parse(program: str, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line of `launch` or `train`; ends the program with 2 if it makes no sense."""
    parser = argparse.ArgumentParser(prog=f"python -m ada_trainer {program}")
    add_arguments(parser)
    return parser.parse_args(arguments)
