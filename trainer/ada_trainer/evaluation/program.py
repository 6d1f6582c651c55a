"""`python -m ada_trainer evaluate`: judge one committed checkpoint on held-out tasks.

The scores go to the store as `evaluations/STAGE.json` and, if there is one, to the curriculum service.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from ada_api.experiment import AdaExperiment
from ada_api.stages import CheckpointReference
from ada_curriculum.client import CurriculumClient, CurriculumError
from ada_curriculum.manifest import CheckpointError, experiment_prefix, newest_whole, open_checkpoint
from ada_curriculum.store import ObjectStore, StoreError, open_store
from ada_sim.observation import specification
from ada_sim.tasks.source import TaskSource
from ada_trainer.checkpoint import AgentRecord, read_agent
from ada_trainer.evaluation.episodes import Policy, draw_tasks, play
from ada_trainer.evaluation.policies import AgentPolicy, BesidePolicy, NoopPolicy, RandomPolicy
from ada_trainer.evaluation.probes import play_probes
from ada_trainer.evaluation.result import AGENT, BESIDE_RANDOM, CLEARED, NOOP, RANDOM, Evaluation
from ada_trainer.exits import EXIT_CONFIGURATION, EXIT_DONE, EXIT_TROUBLE, ConfigurationError
from ada_trainer.networks.agent import AgentNetwork
from ada_trainer.settings import find_stage, read_experiment
from ada_trainer.threads import OMP_VARIABLE, threads

TASK_STREAM = 0x6576616C  # keeps the draws of evaluation apart from those of training
MAX_WORLDS = 512  # played at once

logger = logging.getLogger("ada_trainer.evaluation")


def main(arguments: Sequence[str]) -> int:
    """Evaluate a checkpoint; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    try:
        if OMP_VARIABLE not in os.environ:
            torch.set_num_threads(threads(os.environ))
        experiment = read_experiment(options.experiment)
        find_stage(experiment, options.stage)
        store = experiment_store(experiment)
        reference = _reference(options, store)
        outcome = evaluate(experiment, options.stage, reference)
        store.put(f"evaluations/{options.stage}.json", outcome.to_json())
        _announce(options.stage, outcome)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_CONFIGURATION
    except (CheckpointError, StoreError, CurriculumError, ValueError) as error:
        sys.stderr.write(f"evaluation of stage {options.stage} failed: {error}\n")
        return EXIT_TROUBLE
    sys.stdout.write((outcome.to_json().decode() if options.json else table(outcome)) + "\n")
    return EXIT_DONE


def evaluate(experiment: AdaExperiment, stage: str, reference: CheckpointReference) -> Evaluation:
    """Play all held-out tasks with the agent and what it is compared with."""
    start = time.monotonic()
    settings = experiment.spec.evaluation
    environment = experiment.spec.environment
    source = TaskSource(environment)
    seed = experiment.spec.seed
    tasks = draw_tasks(source, settings.tasks, seed=TASK_STREAM)
    record, parameters = read_agent(reference)
    network = build_network(record, parameters)
    _, checkpoint = open_checkpoint(reference.uri, reference.digest)

    def play_all(policy: Policy, trials: int, *, clear: bool = False, repetition: int = 0) -> np.ndarray:
        """Return the last trial's score of every task, a bounded number of worlds at a time."""
        parts = []
        for first in range(0, len(tasks), MAX_WORLDS):
            some = tasks[first : first + MAX_WORLDS]
            episode_seed = ((seed * 64 + trials) * 1024 + repetition) * 2**20 + first
            shares = play(environment, source, some, trials, policy, seed=episode_seed, clear_every_trial=clear)
            parts.append(shares[:, -1])
        return np.concatenate(parts)

    def scores(make_policy: Callable[[int], Policy], clear: bool = False) -> dict[int, np.ndarray]:
        """Return scores by number of trials, means over repetitions."""
        by_trials = {}
        for trials in sorted(set(settings.trials)):
            runs = [
                play_all(make_policy(seed + 1000 * n), trials, clear=clear, repetition=n)
                for n in range(settings.repetitions)
            ]
            by_trials[trials] = np.mean(runs, axis=0)
            logger.info("k=%d mean %.3f", trials, by_trials[trials].mean())
        return by_trials

    def agent(number: int) -> Policy:
        return AgentPolicy(network, number)

    def beside_random(number: int) -> Policy:
        return BesidePolicy(agent(number), RandomPolicy(number + 1))

    both_seats = {BESIDE_RANDOM: scores(beside_random)} if environment.players == 2 else {}
    return Evaluation(
        stage=stage,
        frames=checkpoint.manifest.frames,
        checkpoint_digest=reference.digest,
        tasks=tuple(int(task) for task in tasks),
        scores={
            AGENT: scores(agent),
            CLEARED: scores(agent, clear=True),
            RANDOM: scores(RandomPolicy),
            NOOP: scores(lambda _: NoopPolicy()),
            **both_seats,
        },
        probes=play_probes(environment, settings.trials, agent, seed) if settings.probe_tasks else {},
        seconds=time.monotonic() - start,
    )


def build_network(record: AgentRecord, parameters: dict[str, torch.Tensor]) -> AgentNetwork:
    """Return a checkpoint's network with its parameters."""
    network = AgentNetwork(record.model, specification(record.environment), record.action_groups, record.muesli)
    network.load_state_dict(parameters)
    return network.eval()


def experiment_store(experiment: AdaExperiment) -> ObjectStore:
    """Return the store of an experiment's prefix, from ADA_STORE. Raises ConfigurationError if that is not set."""
    uri = os.environ.get("ADA_STORE")
    if not uri:
        raise ConfigurationError("ADA_STORE is not set: it names the object store, such as file:///path or s3://...")
    metadata = experiment.metadata
    return open_store(uri).child(experiment_prefix(metadata.namespace, metadata.name))


def table(outcome: Evaluation) -> str:
    """Return the scores as text: means by agent, or probe task, and number of trials."""
    trials = sorted(outcome.scores[AGENT])
    agents = {agent: [outcome.summary(agent, k).mean.value for k in trials] for agent in outcome.scores}
    probes = {name: [by_trials[k].mean() for k in trials] for name, by_trials in outcome.probes.items()}
    width = max(28, *(len(name) + 1 for name in (*agents, *probes)))
    lines = [f"{'mean last-trial score':{width}}" + "".join(f"{f'k={k}':>8}" for k in trials)]
    for name, means in {**agents, **probes}.items():
        lines.append(f"{name:{width}}" + "".join(f"{mean:8.3f}" for mean in means))
    return "\n".join(lines)


def _announce(stage: str, outcome: Evaluation) -> None:
    address, token = os.environ.get("ADA_CURRICULUM_ADDRESS"), os.environ.get("ADA_TOKEN")
    if not address or not token:
        return
    scores = outcome.trial_scores()
    with CurriculumClient(address, token) as client:
        client.evaluation(stage, scores, best_score=max(score.mean for score in scores))


def _reference(options: argparse.Namespace, store: ObjectStore) -> CheckpointReference:
    if options.checkpoint_uri:
        return CheckpointReference(uri=options.checkpoint_uri, digest=options.checkpoint_digest)
    newest = newest_whole(store, options.stage)
    if newest is None:
        raise CheckpointError(f"stage {options.stage} has no committed checkpoint in {store.uri}")
    return CheckpointReference(uri=newest.uri, digest=newest.digest)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ada_trainer evaluate",
        description="Judge a checkpoint on held-out tasks.",
        epilog="Example: python -m ada_trainer evaluate --experiment quickstart.yaml --stage student",
    )
    parser.add_argument("--experiment", type=Path, required=True, metavar="FILE", help="JSON or YAML file")
    parser.add_argument("--stage", required=True, metavar="NAME", help="the stage to judge")
    parser.add_argument("--checkpoint-uri", metavar="URI", help="default: the newest committed one")
    parser.add_argument("--checkpoint-digest", metavar="DIGEST", help="its digest, sha256:...")
    parser.add_argument("--json", action="store_true", help="print the whole result as JSON")
    return parser
