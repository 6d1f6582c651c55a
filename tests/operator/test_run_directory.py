"""The directory of `ada run`: one run at a time, one experiment, whole files."""

import copy
import json

import pytest

from ada_api.experiment import AdaExperiment
from ada_operator.local.directory import DirectoryError, RunDirectory, document, first_difference


def experiment(**spec):
    stages = [{"name": "teacher", "frames": 10}]
    return AdaExperiment.model_validate(
        {
            "apiVersion": "ada.dev/v1alpha1",
            "kind": "AdaExperiment",
            "metadata": {"name": "tiny"},
            "spec": {"stages": stages, **spec},
        }
    )


def test_a_directory_that_is_in_use_is_refused_and_its_user_named(tmp_path):
    first = RunDirectory(tmp_path, experiment())
    with pytest.raises(DirectoryError, match=r"in use by another `ada run` \(process \d+\)"):
        RunDirectory(tmp_path, experiment())
    first.close()
    RunDirectory(tmp_path, experiment()).close()


def test_another_experiment_in_the_directory_is_refused_with_the_field_that_differs(tmp_path):
    RunDirectory(tmp_path, experiment()).close()
    with pytest.raises(DirectoryError, match=r"spec\.seed is 0 there and 3 here.*--fresh"):
        RunDirectory(tmp_path, experiment(seed=3))


def test_a_run_from_before_a_field_was_there_goes_on(tmp_path):
    RunDirectory(tmp_path, experiment()).close()
    file = tmp_path / "experiment.json"
    kept = json.loads(file.read_text())
    del kept["spec"]["stages"][0]["model"]["memoryStride"]
    file.write_text(json.dumps(kept))
    RunDirectory(tmp_path, experiment()).close()
    kept["spec"]["stages"][0]["model"]["wings"] = 2
    file.write_text(json.dumps(kept))
    with pytest.raises(DirectoryError, match=r"model\.wings is 2 there and absent here"):
        RunDirectory(tmp_path, experiment())


def test_fresh_throws_the_former_run_away(tmp_path):
    first = RunDirectory(tmp_path, experiment())
    first.write_status({"phase": "Failed"})
    first.close()
    (tmp_path / "store").mkdir()
    again = RunDirectory(tmp_path, experiment(seed=3), fresh=True)
    assert again.status() is None
    assert not (tmp_path / "store").exists()
    again.close()


def test_fresh_never_deletes_a_directory_that_holds_no_run(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DirectoryError, match="holds files, but no run"):
        RunDirectory(tmp_path, experiment(), fresh=True)
    assert (tmp_path / "thesis.txt").exists()


def test_a_refused_run_leaves_the_directory_free(tmp_path):
    RunDirectory(tmp_path, experiment()).close()
    with pytest.raises(DirectoryError):
        RunDirectory(tmp_path, experiment(seed=3))
    RunDirectory(tmp_path, experiment()).close()


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        pytest.param(lambda d: d["spec"].update(suspend=True), None, id="suspend may change"),
        pytest.param(lambda d: d["spec"]["failurePolicy"].update(maxCodeFailures=9), None, id="failure policy may"),
        pytest.param(
            lambda d: d["spec"]["stages"].append({**d["spec"]["stages"][0], "name": "more"}),
            None,
            id="a stage may be appended",
        ),
        pytest.param(lambda d: d["spec"]["stages"][0]["simulators"].update(replicas=4), None, id="simulators may"),
        pytest.param(
            lambda d: d["spec"]["stages"][0].update(frames=11),
            "spec.stages[0].frames is 10 there and 11 here",
            id="a stage's frames may not",
        ),
        pytest.param(lambda d: d["spec"]["stages"].clear(), "spec.stages[0] is", id="a stage may not go"),
        pytest.param(
            lambda d: d["metadata"].update(name="other"), 'metadata.name is "tiny" there', id="nor may the name"
        ),
    ],
)
def test_what_may_change_when_a_run_goes_on(change, difference):
    known = document(experiment())
    wanted = copy.deepcopy(known)
    change(wanted)
    found = first_difference(known, wanted)
    assert found is None if difference is None else (found or "").startswith(difference)


def test_a_status_is_replaced_whole(tmp_path):
    directory = RunDirectory(tmp_path, experiment())
    directory.write_status({"phase": "Training"})
    directory.write_status({"phase": "Succeeded"})
    assert json.loads((tmp_path / "status.json").read_text()) == {"phase": "Succeeded"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["experiment.json", "lock", "status.json"]
    directory.close()
