"""What a worker does in an iteration: play one unroll in all its worlds, then learn from it together with the group."""

import hashlib
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic.alias_generators import to_camel

from ada_api.stages import CheckpointReference
from ada_curriculum.client import CurriculumClient
from ada_curriculum.manifest import CheckpointError
from ada_curriculum.types import Lease, Result
from ada_sim.client import SimulatorClient
from ada_sim.observation import specification
from ada_trainer import kernels
from ada_trainer.checkpoint import AgentRecord, agent_record, read_agent
from ada_trainer.coplayers import CoPlayer, FrozenCoPlayer, RandomCoPlayer
from ada_trainer.elastic.group import Group
from ada_trainer.exits import ConfigurationError
from ada_trainer.learner import Learner
from ada_trainer.light import leave_out_compiler, step_without_compiler
from ada_trainer.networks.agent import AgentNetwork
from ada_trainer.rollout import Collected, Collector
from ada_trainer.settings import Settings
from ada_trainer.simulators import Connect, Connection, SimulatorSet, other_simulators, own_simulators, share

ANSWER_S = 30.0  # silence after which a simulator counts as lost; a step takes milliseconds

logger = logging.getLogger("ada_trainer.work")


@dataclass(frozen=True)
class Figures:
    """What came of one iteration."""

    frames: int  # this worker's own
    updates: int  # the same on all workers
    skipped_updates: int
    results: tuple[Result, ...]  # episodes that ended in this worker's worlds
    losses: dict[str, float]  # over the group


def derive_seed(*parts: int | str) -> int:
    """Return a seed, 63 bits, that follows from these parts and nothing else."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def build_network(record: AgentRecord) -> AgentNetwork:
    """Return a network as a checkpoint describes it. Raises ConfigurationError."""
    return AgentNetwork(record.model, specification(record.environment), record.action_groups, record.muesli)


class Work:
    """Collector and learner of one worker."""

    def __init__(
        self,
        settings: Settings,
        group: Group,
        client: CurriculumClient,
        generation: int,
        worker: str,
        connect: Connect,
        at_most_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        """Build the networks; nothing is connected yet. Raises ConfigurationError.

        Args:
            at_most_s: shortens the time that we wait for simulators.
        """
        stage, spec = settings.stage, settings.experiment.spec
        self._settings, self._group = settings, group
        self._client, self._generation, self._worker = client, generation, worker
        environment = spec.environment
        record = agent_record(stage, environment)
        torch.manual_seed(derive_seed(spec.seed, stage.name, "network"))
        self._network = build_network(record).to(group.device)
        if stage.warm_start is not None:
            load_parameters(self._network, stage.warm_start, record, "stages[].warmStart")
        self._distillation = stage.distillation
        self._teacher: AgentNetwork | None = None
        if settings.teacher is not None:
            self._teacher = load_agent(settings.teacher, record).to(group.device)
        self._frozen: AgentNetwork | None = None
        if (pinned := stage.co_player.checkpoint) is not None:
            self._frozen = load_agent(pinned, record, "co-player").to(group.device)
        products, captures = kernels.choose(group.device), kernels.can_capture(group.device)
        for network in (self._network, self._teacher, self._frozen):
            if network is not None:
                network.multiply_in(products, kernels.LEAST_WIDTH)
                if captures:
                    network.capture_steps()
        leave_out_compiler()
        self._learner = Learner(
            self._network,
            stage.algorithm,
            seed=derive_seed(spec.seed, stage.name, "minibatches"),
            distillation_weight=stage.distillation.weight if stage.distillation else 0.0,
            distillation_l2=stage.distillation.l2 if stage.distillation else 0.0,
            rebuild=lambda: build_network(record),
        )
        step_without_compiler(self._learner.optimizer)
        membership = (settings.simulator_addresses, group.rank, group.world_size)
        self._worlds = share(stage.algorithm.worlds, group.world_size, group.rank)
        self._simulators = SimulatorSet(
            own_simulators(*membership), self._worlds, connect, other_simulators(*membership), at_most_s=at_most_s
        )
        self._collector: Collector | None = None
        self._episodes = 0

    def begin(self, frames: int) -> None:
        """Open the worlds; random numbers follow from seed, stage, progress and rank."""
        self._simulators.open()
        stage, spec = self._settings.stage, self._settings.experiment.spec
        self._collector = Collector(
            self._simulators,
            self._worlds,
            spec.environment.players,
            self._learner.acting,
            stage.algorithm,
            self._lease,
            seed=derive_seed(spec.seed, stage.name, frames, self._group.rank),
            teacher=self._teacher if self._imitates(frames) else None,
            renewed=self._simulators.renewed,
            fitness=spec.curriculum.plr.fitness if spec.curriculum.method == "plr" else "td-error",
            co_player=self._co_player(),
        )

    def _co_player(self) -> CoPlayer | None:
        """Return who has the other seat, with empty memories; None if the agent has both."""
        match self._settings.stage.co_player.kind:
            case "random":
                return RandomCoPlayer(self._network.groups, self._group.device)
            case "frozen" if self._frozen is not None:
                return FrozenCoPlayer(self._frozen)
        return None

    def load(self, learner: Mapping[str, Any], collector: Mapping[str, Any] | None, frames: int) -> None:
        """Go on from a checkpoint; without a collector's state as if its random numbers began here."""
        try:
            self._learner.load_state_dict(dict(learner))
        except (RuntimeError, KeyError, ValueError) as error:
            raise ConfigurationError(
                f"the newest checkpoint of stage {self._settings.stage.name} does not fit its model and algorithm: "
                f"{error}; undo the change, or give the stage another name"
            ) from error
        self.begin(frames)
        if collector is not None and self._collector is not None:
            self._collector.load_state_dict(collector)

    def collect(self) -> Collected:
        """Play one unroll in every world. A lost simulator's episodes are dropped, the others go on."""
        assert self._collector is not None, "begin or load comes first"
        return self._collector.collect()

    def update(self, collected: Collected, frames: int) -> Figures:
        """Learn from an unroll together with the group; `frames` is the stage's progress before it."""
        if self._teacher is not None and not self._imitates(frames):
            logger.info("frames of imitation are over")
            self._teacher = None
            if self._collector is not None:
                self._collector.stop_labelling()
            collected = replace(collected, batch=replace(collected.batch, teacher=None))
        report = self._learner.update(collected.batch, min(1.0, frames / self._settings.stage.frames), self._group.sum)
        self._episodes += len(collected.results)
        return Figures(
            frames=collected.timesteps,
            updates=1,
            skipped_updates=int(report.skipped),
            results=tuple(collected.results),
            losses={to_camel(name): value for name, value in report.metrics().items()},
        )

    def learner_state(self) -> dict[str, Any]:
        """Return what the next update depends on, the same on all workers."""
        return self._learner.state_dict()

    def collector_state(self) -> dict[str, Any]:
        """Return what the next unroll depends on, this worker's own."""
        return dict(self._collector.state_dict()) if self._collector is not None else {}

    def totals(self) -> dict[str, float]:
        """Return counters for the metrics."""
        return {
            "episodes": self._episodes,
            "simulators_lost": self._simulators.lost,
            "simulator_wait_seconds": self._simulators.waited_s,
        }

    def close(self) -> None:
        """Let go of the simulators."""
        self._simulators.close()

    def _imitates(self, frames: int) -> bool:
        return self._distillation is not None and frames < self._distillation.frames

    def _lease(self, count: int) -> list[Lease]:
        return self._client.lease(self._settings.stage.name, self._generation, self._worker, count)


def load_agent(
    reference: CheckpointReference, beside: AgentRecord | None = None, role: str = "teacher"
) -> AgentNetwork:
    """Return the agent of a pinned checkpoint, ready to act, on the CPU. Raises ConfigurationError.

    Args:
        beside: the agent it is to teach or to play with; both must see and do the same.
        role: what it is to that agent.
    """
    try:
        record, parameters = read_agent(reference)
        if beside is not None:
            check_alike(record, beside, role)
        network = build_network(record)
        network.load_state_dict(parameters)
    except (CheckpointError, RuntimeError, ValueError) as error:
        raise ConfigurationError(f"checkpoint {reference.uri} can't be used: {error}") from error
    return network.requires_grad_(False).eval()


def check_alike(other: AgentRecord, agent: AgentRecord, role: str) -> None:
    """Raise ValueError unless both see the same fields, of the same shapes, and do the same."""
    theirs, ours = (
        {field.name: field.shape for field in specification(record.environment)} for record in (other, agent)
    )
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            raise ValueError(
                f"the {role} sees {name} as {theirs.get(name, 'nothing')}, this stage as {ours.get(name, 'nothing')}; "
                f"give it a {role} trained with observation {agent.environment.observation}"
            )
    if set(other.action_groups) != set(agent.action_groups):
        raise ValueError(
            f"the {role} controls {sorted(other.action_groups)}, this stage {sorted(agent.action_groups)}; "
            f"give it a {role} with the same actionGroups"
        )


def load_parameters(network: AgentNetwork, reference: CheckpointReference, own: AgentRecord, field: str) -> None:
    """Take over the parameters of a pinned checkpoint of the same model. Raises ConfigurationError."""
    try:
        _, parameters = read_agent(reference)
        network.load_state_dict(parameters)
    except (CheckpointError, RuntimeError) as error:
        raise ConfigurationError(
            f"{field} {reference.uri} can't be used for model {own.model.model_dump_json(exclude_none=True)}: {error}"
        ) from error


def connect_simulator(token: str, generation: int) -> Connect:
    """Return how worlds are opened on a simulator server."""

    def connect(address: str, worlds: int) -> Connection:
        client = SimulatorClient(address, token, generation, answer_s=ANSWER_S)
        client.open(worlds)
        return client

    return connect
