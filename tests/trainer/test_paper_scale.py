"""The experiment at the paper's scale: its networks can be built, and a small copy of it trains teacher and student."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ada_api.experiment import AdaExperiment
from ada_api.stages import CheckpointReference
from ada_curriculum.manifest import newest_whole
from ada_sim.observation import specification
from ada_trainer.loop import Ending
from ada_trainer.networks.agent import AgentNetwork
from ada_trainer.settings import find_stage

_spec = importlib.util.spec_from_file_location("loop_parts", Path(__file__).with_name("loop_parts.py"))
assert _spec is not None and _spec.loader is not None
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)

FILE = Path(__file__).parents[2] / "examples" / "paper-scale.yaml"


def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


@pytest.mark.parametrize(("stage", "transformer"), [("teacher", 23), ("student", 265)])
def test_its_networks_are_the_published_ones_with_a_model_of_width_a_thousand(stage: str, transformer: int) -> None:
    experiment = AdaExperiment.model_validate(document())
    settings, environment = find_stage(experiment, stage), experiment.spec.environment
    with torch.device("meta"):
        agent = AgentNetwork(
            settings.model, specification(environment), environment.action_groups, settings.algorithm.muesli
        )
    assert agent.model is not None and agent.model.width == 1000
    assert agent.model.value_head.out.out_features == agent.model.reward_head.out.out_features == 601
    assert len(agent.choices) == 6
    blocks = sum(weight.numel() for name, weight in agent.core.named_parameters() if "from_age" not in name)
    assert blocks / 1e6 == pytest.approx(transformer, abs=1.2)


def small() -> AdaExperiment:
    """The same experiment with a small network, few worlds and short trials."""
    whole = document()
    spec = whole["spec"]
    spec["environment"] |= {"trialSeconds": [1], "taskPool": {"worlds": 8, "games": 8}}
    spec["environment"]["world"] = {"size": {"min": 8, "max": 8}, "levels": {"min": 1, "max": 1}}
    for stage in spec["stages"]:
        stage["model"] = {"preset": "nano", "memory": 6}
        stage["algorithm"] |= {"unroll": 5, "worlds": 2, "minibatches": 1, "epochs": 1}
        stage |= {"frames": 20, "trainer": {}, "simulators": {"replicas": 2}}
    del spec["checkpoint"]
    return AdaExperiment.model_validate(whole)


def test_a_small_copy_trains_a_teacher_and_a_student_of_it(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    experiment = small()
    run = parts.Run(tmp_path, experiment)
    ending, _ = run.train()
    assert ending is Ending.TRAINED
    teacher = newest_whole(run.store, "teacher")
    assert teacher is not None
    reference = CheckpointReference(uri=teacher.uri, digest=teacher.digest)
    run.settings = replace(run.settings, stage=find_stage(experiment, "student"), teacher=reference)
    run.curriculum = parts.MemoryCurriculum()
    ending, worker = run.train()
    assert ending is Ending.TRAINED
    assert worker.counts.frames == 20 and worker.counts.skipped_updates == 0
    assert newest_whole(run.store, "student") is not None
