"""Every wrong experiment is refused with the field's path and a remedy; every right one is read."""

import copy
import importlib.util
import json
from pathlib import Path

import pytest

from ada_api.experiment import AdaExperiment
from ada_api.validation import MAX_BYTES, InvalidExperiment, load, parse, validate

ROOT = Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location("bad_inputs", Path(__file__).with_name("bad_inputs.py"))
table = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(table)


def changed(change):
    document = copy.deepcopy(table.good())
    change(document)
    return document


@pytest.mark.parametrize(("change", "path", "words"), [pytest.param(*row[1:], id=row[0]) for row in table.BAD_INPUTS])
def test_a_wrong_field_is_named_with_its_path_and_what_would_be_right(change, path, words):
    problems = validate(changed(change))
    assert [problem for problem in problems if problem.path == path and words in problem.message], problems


@pytest.mark.parametrize("change", [pytest.param(row[1], id=row[0]) for row in table.GOOD_INPUTS])
def test_a_right_experiment_has_no_problems(change):
    assert validate(changed(change)) == []


@pytest.mark.parametrize("change", [pytest.param(row[1], id=row[0]) for row in table.GOOD_UPDATES])
def test_what_an_update_may_change_is_valid_in_itself(change):
    assert validate(changed(change)) == []


@pytest.mark.parametrize("document", [None, [], "text", 3, True], ids=str)
def test_what_is_no_object_is_refused(document):
    assert [problem.message for problem in validate(document)] == ["must be an object"]


def test_several_mistakes_are_all_named():
    document = changed(table.both(table.put("spec.seed", "x"), table.put("spec.stages.0.frames", 0)))
    assert {problem.path for problem in validate(document)} == {"spec.seed", "spec.stages[0].frames"}


def test_a_problem_reads_as_a_sentence():
    problem = validate(changed(table.put("spec.stages.1.distillation.teacher", "tutor")))[0]
    assert str(problem) == (
        'spec.stages[1].distillation.teacher is "tutor": distillation.teacher must name an earlier stage'
    )


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*.yaml")), ids=lambda path: path.name)
def test_every_example_is_valid(path):
    assert isinstance(load(path), AdaExperiment)


def test_a_json_file_is_read_like_a_yaml_file(tmp_path):
    path = tmp_path / "experiment.json"
    path.write_text(json.dumps(table.good()))
    assert load(path).metadata.name == "good"


def test_a_wrong_file_is_refused_with_its_name_and_every_problem(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(json.dumps(changed(table.put("spec.stages.0.frames", 0))))
    with pytest.raises(
        InvalidExperiment, match=r"wrong.yaml can't be used:\n  spec.stages\[0\].frames is 0: .* least 1"
    ):
        load(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"a: [", "not YAML or JSON", id="broken-yaml"),
        pytest.param(b"\xff", "UTF-8", id="not-text"),
        pytest.param(b" " * (MAX_BYTES + 1), "larger than", id="too-large"),
        pytest.param(b"a: 1\na: 2", "a is there twice", id="key-twice"),
        pytest.param(b"a: &a [*a]", "nested deeper", id="alias-of-itself"),
        pytest.param(
            b"a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n"
            + b"".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n".encode() for n in range(1, 9)),
            "more than",
            id="aliases-that-explode",
        ),
        pytest.param(b"a: !!python/object/apply:os.getcwd []", "not YAML or JSON", id="code"),
        pytest.param(b"[" * 3000, "not YAML or JSON", id="bottomless"),
    ],
)
def test_content_that_can_not_be_read_is_refused(tmp_path, content, words):
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    with pytest.raises(InvalidExperiment, match=words):
        load(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5_000_000", 5_000_000),
        ("1e-3", 0.001),
        ("1.5", 1.5),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("0x10", 16),
    ],
)
def test_yaml_scalars_mean_what_kubectl_takes_them_for(text, value):
    assert parse(f"a: {text}".encode()) == {"a": value}
