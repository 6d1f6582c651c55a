"""`ada watch`: a film of a task, by whom one asks for."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ada_trainer.exits import EXIT_CONFIGURATION, EXIT_DONE, EXIT_TROUBLE
from ada_trainer.watch import GOAL_RGB, main


def experiment_file(folder: Path, players: int = 1) -> str:
    stage = {"name": "only", "frames": 1000}
    environment = {"observation": "symbolic", "players": players}
    document = {
        "apiVersion": "ada.dev/v1alpha1",
        "kind": "AdaExperiment",
        "metadata": {"name": "filmed", "namespace": "default"},
        "spec": {"environment": environment, "stages": [stage]},
    }
    file = folder / "experiment.json"
    file.write_text(json.dumps(document))
    return str(file)


def frames_of(gif: Path) -> list[np.ndarray]:
    picture = Image.open(io.BytesIO(gif.read_bytes()))
    frames = []
    for index in range(picture.n_frames):  # type: ignore[attr-defined]
        picture.seek(index)
        frames.append(np.asarray(picture.convert("RGB")).astype(int))
    return frames


def is_in_the_goal(frame: np.ndarray) -> bool:
    """Say whether the picture's caption and frame are green."""
    return bool((np.abs(frame - np.array(GOAL_RGB)).max(axis=-1) < 12).sum() > 500)


def watch(folder: Path, *words: str, players: int = 1) -> tuple[int, Path]:
    output = folder / "film.gif"
    experiment = experiment_file(folder, players)
    code = main(["--experiment", experiment, "--output", str(output), "--trials", "1", *words])
    return code, output


def test_a_scripted_player_is_filmed_until_it_is_in_the_goal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, film = watch(tmp_path, "--probe", "hold-up-high", "--policy", "scripted")
    assert code == EXIT_DONE
    frames = frames_of(film)
    assert not is_in_the_goal(frames[0])
    assert is_in_the_goal(frames[-1])
    said = capsys.readouterr().out
    assert "share of each trial in the goal: 0." in said
    assert "share of each trial in the goal: 0.00" not in said


def test_who_does_nothing_gets_nowhere(tmp_path: Path) -> None:
    code, film = watch(tmp_path, "--probe", "hold-up-high", "--policy", "noop")
    assert code == EXIT_DONE
    assert not any(is_in_the_goal(frame) for frame in frames_of(film))


def test_a_task_is_chosen_by_its_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = watch(tmp_path, "--task", "12", "--policy", "random")
    assert code == EXIT_DONE
    assert capsys.readouterr().out.startswith("task 12: ")


@pytest.mark.parametrize(
    ("words", "players", "code", "says"),
    [
        pytest.param(("--probe", "no-such"), 1, EXIT_CONFIGURATION, "there is no probe task 'no-such'", id="no-such"),
        pytest.param(("--probe", "kickball"), 1, EXIT_CONFIGURATION, "number of players, 1", id="a-probe-for-two"),
        pytest.param(("--probe", "kickball"), 2, EXIT_TROUBLE, "the task has 2 players", id="plays-alone"),
        pytest.param(("--task", str(1 << 65)), 1, EXIT_TROUBLE, "not from 0 to 2**64 - 1", id="no-task-number"),
    ],
)
def test_what_can_not_be_filmed_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], players: int, code: int, says: str
) -> None:
    assert watch(tmp_path, *words, "--policy", "scripted", players=players)[0] == code
    assert says in capsys.readouterr().err
