"""The command lines that the operator writes are understood by the programs' own parsers."""

import importlib
import subprocess
import sys

import pytest

from ada_api.experiment import AdaExperiment
from ada_operator.manifests import programs
from ada_operator.manifests.programs import Group, Pinned
from ada_operator.observed import Platform

PLATFORM = Platform(python=(sys.executable,))
CHECKPOINT = Pinned("file:///store/checkpoints/teacher/1", "sha256:" + "a" * 64)
EXPERIMENT = AdaExperiment.model_validate(
    {
        "apiVersion": "ada.dev/v1alpha1",
        "kind": "AdaExperiment",
        "metadata": {"name": "quick", "namespace": "lab"},
        "spec": {
            "stages": [
                {"name": "teacher", "frames": 10},
                {
                    "name": "student",
                    "frames": 10,
                    "distillation": {"teacher": "teacher", "frames": 5},
                    "trainer": {"nodes": {"min": 2, "max": 4}},
                    "simulators": {"replicas": 4},
                },
            ]
        },
    }
)
STUDENT = EXPERIMENT.spec.stages[1]
GROUP = Group(3, nodes=4, resized="2027-01-15T08:00:00Z", teacher=CHECKPOINT, resume=CHECKPOINT)
COMMANDS = {
    "curriculum": programs.curriculum_command(PLATFORM),
    "rendezvous": programs.rendezvous_command(PLATFORM),
    "simulator": programs.simulator_command(PLATFORM),
    "trainer": programs.trainer_command(EXPERIMENT, STUDENT, GROUP, PLATFORM),
    "evaluation": programs.evaluation_command(STUDENT, CHECKPOINT, PLATFORM),
}


@pytest.mark.parametrize("program", COMMANDS)
def test_every_flag_that_a_manifest_uses_is_one_that_its_program_knows(program):
    """`--help` at the end parses all that stands before it: argparse refuses an unknown flag or value first."""
    command = COMMANDS[program]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    missing = [word for word in command if word.startswith("--") and word not in done.stdout]
    assert not missing, f"{program} does not know {missing}:\n{done.stdout}"


def test_the_trainers_parser_reads_back_what_the_planner_meant():
    settings = importlib.import_module("ada_trainer.settings")
    words = COMMANDS["trainer"]
    options = settings.parse("launch", words[words.index("launch") + 1 :])
    assert options.stage == "student"
    assert options.nodes == (2, 4)
    assert options.rendezvous_id == "quick-student-3"
    assert (options.teacher_uri, options.teacher_digest) == (CHECKPOINT.uri, CHECKPOINT.digest)
    assert (options.resume_uri, options.resume_digest) == (CHECKPOINT.uri, CHECKPOINT.digest)


@pytest.mark.parametrize("stage", EXPERIMENT.spec.stages, ids=lambda stage: stage.name)
def test_the_trainer_accepts_the_environment_that_the_manifests_give(stage, tmp_path):
    settings = importlib.import_module("ada_trainer.settings")
    infrastructure = importlib.import_module("ada_operator.manifests.infrastructure")
    file = tmp_path / "experiment.json"
    file.write_text(infrastructure.config_map(EXPERIMENT, {})["data"]["experiment.json"])
    platform = Platform(default_store=tmp_path.as_uri())
    group = Group(1, nodes=1, resized="", teacher=CHECKPOINT if stage.distillation else None)
    words = programs.trainer_command(EXPERIMENT, stage, group, platform)
    words[words.index("--experiment") + 1] = str(file)
    variables = programs.environment(EXPERIMENT, stage, platform)
    environment = {one["name"]: one.get("value", "from-a-secret") for one in variables}
    found = settings.read_settings(settings.parse("launch", words[words.index("launch") + 1 :]), environment)
    assert found.stage == stage
    assert len(found.simulator_addresses) == stage.simulators.replicas
    assert found.experiment.spec == EXPERIMENT.spec


def test_the_programs_agree_on_exit_codes():
    ours = importlib.import_module("ada_operator.manifests.stage")
    theirs = importlib.import_module("ada_trainer.exits")
    assert ours.CONFIGURATION_EXIT_CODE == theirs.EXIT_CONFIGURATION
    assert ours.STOPPED_EXIT_CODE == theirs.EXIT_STOPPED


def test_the_programs_listen_where_the_manifests_expect_them():
    from ada_operator import names

    assert names.HEALTH_PORTS["trainer"] == importlib.import_module("ada_trainer.settings").HEALTH_PORT
    curriculum = importlib.import_module("ada_curriculum.__main__")
    assert curriculum.PORT == names.CURRICULUM_PORT
    assert names.HEALTH_PORTS["curriculum"] == curriculum.HEALTH_PORT
