"""The `ada` command: quick help, one line a problem, exit codes that scripts can use."""

import json
import subprocess
import sys

import pytest
import yaml

from ada_operator.cli import COMMANDS, main
from ada_operator.cli.paths import PathError, with_value

TINY = {
    "apiVersion": "ada.dev/v1alpha1",
    "kind": "AdaExperiment",
    "metadata": {"name": "tiny"},
    "spec": {"stages": [{"name": "teacher", "frames": 10}]},
}


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"ada {name} " in said for name in COMMANDS)


@pytest.mark.parametrize("name", ["run", "validate"])
def test_the_help_of_a_command_has_an_example(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"example:\n  ada {name} " in capsys.readouterr().out


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from ada_operator.cli import main; main(['--help']); "
        "sys.exit(bool({'pydantic', 'rich', 'yaml', 'aiohttp', 'kopf', 'torch', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


@pytest.mark.parametrize("words", [[], ["fly"]])
def test_no_or_an_unknown_command_is_bad_input(words, capsys):
    assert main(words) == 2


def test_a_valid_file_is_one_line(tiny, capsys):
    assert main(["validate", str(tiny)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_every_problem_of_a_file_is_a_line(tmp_path, capsys):
    wrong = tmp_path / "wrong.yaml"
    stages = [{"name": "teacher", "frames": 10, "colour": "red"}, {"name": "UPPER", "frames": 10}]
    wrong.write_text(yaml.safe_dump({**TINY, "spec": {"stages": stages}}))
    assert main(["validate", str(wrong)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert any("spec.stages[0].colour" in line for line in said)


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "a: 1\na: 2"])
def test_what_is_no_experiment_is_refused_in_words(tmp_path, capsys, content):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(content)
    assert main(["validate", str(wrong), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["problems"]


def test_a_missing_file_is_named(capsys):
    assert main(["validate", "nowhere.yaml"]) == 2
    assert "nowhere.yaml" in capsys.readouterr().err


def test_set_changes_one_value_and_makes_objects_on_the_way(tiny, capsys):
    assert main(["validate", str(tiny), "--set", "spec.curriculum.plr.temperature=0.5"]) == 0
    changed = with_value(TINY, "spec.stages[0].trainer.nodes={min: 1, max: 2}")
    assert changed["spec"]["stages"][0]["trainer"] == {"nodes": {"min": 1, "max": 2}}
    assert "trainer" not in TINY["spec"]["stages"][0]


@pytest.mark.parametrize("setting", ["spec.seed", "spec.stages[7].frames=1", "spec..seed=1", "spec.stages.frames=1"])
def test_a_setting_that_fits_nowhere_is_refused(setting):
    with pytest.raises(PathError):
        with_value(TINY, setting)


def test_run_refuses_a_wrong_file_before_it_makes_anything(tmp_path, tiny, capsys):
    directory = tmp_path / "run"
    assert main(["run", str(tiny), "--set", "spec.seed=-1", "--directory", str(directory)]) == 2
    assert "spec.seed" in capsys.readouterr().err
    assert not directory.exists()
