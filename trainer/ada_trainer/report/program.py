"""`python -m ada_trainer report`: gather what the store holds about an experiment and write one HTML file."""

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ada_api.experiment import AdaExperiment
from ada_api.stages import CheckpointReference, Stage
from ada_curriculum.manifest import HISTORY, CheckpointError, StoredCheckpoint, newest_whole, read_object
from ada_curriculum.store import ObjectMissingError, ObjectStore, StoreError, get, walk
from ada_sim.observation import specification
from ada_trainer.checkpoint import AGENT, AgentRecord, read_agent
from ada_trainer.evaluation.policies import AgentPolicy
from ada_trainer.evaluation.program import build_network, experiment_store
from ada_trainer.evaluation.result import Evaluation
from ada_trainer.exits import EXIT_CONFIGURATION, EXIT_DONE, EXIT_TROUBLE, ConfigurationError
from ada_trainer.networks.agent import AgentNetwork
from ada_trainer.report.data import ReportData, StageData, Video
from ada_trainer.report.page import render
from ada_trainer.settings import read_experiment
from ada_trainer.watch import film

MAX_RECORD_BYTES = 4 << 20
MAX_RECORDS = 100
FILMED_TRIALS = 5

logger = logging.getLogger("ada_trainer.report")


def main(arguments: Sequence[str]) -> int:
    """Write the report; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    try:
        experiment = read_experiment(options.experiment)
        store = experiment_store(experiment)
        page = render(gather(experiment, store, with_video=not options.no_video))
        options.output.write_text(page, encoding="utf-8")
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_CONFIGURATION
    except (CheckpointError, StoreError, OSError) as error:
        sys.stderr.write(f"report of experiment {options.experiment} failed: {error}\n")
        return EXIT_TROUBLE
    sys.stdout.write(f"{options.output}\n")
    return EXIT_DONE


def gather(experiment: AdaExperiment, store: ObjectStore, *, with_video: bool) -> ReportData:
    """Read everything the report shows. A stage that has not committed anything yet is left out."""
    stages = [data for stage in experiment.spec.stages if (data := stage_data(store, stage)) is not None]
    videos: list[Video] = []
    judged = [stage for stage in stages if stage.evaluation is not None]
    if with_video and judged:
        videos.append(film_stage(experiment, store, judged[-1].stage.name))
    return ReportData(experiment, stages, videos, run_records(store))


def stage_data(store: ObjectStore, stage: Stage) -> StageData | None:
    """Return what the store holds about a stage, or None if nothing is committed."""
    checkpoint = newest_whole(store, stage.name, read_contents=False)
    if checkpoint is None:
        return None
    history = json.loads(read_object(store, checkpoint, HISTORY))
    return StageData(
        stage=stage,
        parameters=count_parameters(store, checkpoint),
        frames=checkpoint.manifest.frames,
        history=history["points"],
        evaluation=read_evaluation(store, stage.name),
    )


def count_parameters(store: ObjectStore, checkpoint: StoredCheckpoint) -> int:
    """Return the number of parameters of a checkpoint's network."""
    record = AgentRecord.model_validate_json(read_object(store, checkpoint, AGENT))
    network = AgentNetwork(record.model, specification(record.environment), record.action_groups, record.muesli)
    return sum(parameter.numel() for parameter in network.parameters())


def read_evaluation(store: ObjectStore, stage: str) -> Evaluation | None:
    """Return a stage's evaluation, or None if there is none yet."""
    try:
        return Evaluation.from_json(get(store, f"evaluations/{stage}.json"))
    except ObjectMissingError:
        return None


def run_records(store: ObjectStore) -> list[Mapping[str, object]]:
    """Return the run records, oldest first."""
    keys = sorted((info.key for info in walk(store, "run/")), key=lambda key: (len(key), key))[:MAX_RECORDS]
    return [json.loads(get(store, key, MAX_RECORD_BYTES)) for key in keys]


def film_stage(experiment: AdaExperiment, store: ObjectStore, stage: str) -> Video:
    """Film the first and last trial of a held-out task, played by the stage's newest checkpoint."""
    checkpoint = newest_whole(store, stage)
    if checkpoint is None:
        raise CheckpointError(f"stage {stage} has no committed checkpoint in {store.uri}")
    reference = CheckpointReference(uri=checkpoint.uri, digest=checkpoint.digest)
    network = build_network(*read_agent(reference))
    policy = AgentPolicy(network, experiment.spec.seed)
    filmed = film(experiment, policy, trials=FILMED_TRIALS, shown=(0, FILMED_TRIALS - 1))
    caption = (
        f"A held-out task, played by stage {stage}: first trial, then trial {FILMED_TRIALS}. "
        "Left from above, right through the agent’s eyes."
    )
    return Video(stage, str(filmed.task), filmed.words.goal, filmed.words.rules, caption, filmed.gif)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ada_trainer report",
        description="Write one self-contained HTML page about an experiment, from its object store (ADA_STORE).",
        epilog="Example: python -m ada_trainer report --experiment quickstart.yaml --output report.html",
    )
    parser.add_argument("--experiment", type=Path, required=True, metavar="FILE", help="JSON or YAML file")
    parser.add_argument("--output", type=Path, required=True, metavar="HTML", help="file to write")
    parser.add_argument("--no-video", action="store_true", help="leave out the animated picture")
    return parser
