"""The curriculum program with a configuration that can't work, and its client without a service."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ada_api.validation import InvalidExperiment, load
from ada_curriculum.__main__ import ConfigurationError, make_service
from ada_curriculum.client import CurriculumClient, CurriculumUnavailable

GOOD = (
    "{apiVersion: ada.dev/v1alpha1, kind: AdaExperiment, metadata: {name: x}, spec: {stages: [{name: s, frames: 1}]}}"
)
NO_TASKS = GOOD.replace("spec: {", "spec: {environment: {generatedWeight: 0}, ")


@pytest.mark.parametrize(
    ("experiment", "environment", "message"),
    [
        pytest.param("spec: {}", {"ADA_TOKEN": "t", "ADA_STORE": "file:///tmp"}, "stages", id="a-bad-experiment"),
        pytest.param("{", {"ADA_TOKEN": "t", "ADA_STORE": "file:///tmp"}, "can't be used", id="no-yaml"),
        pytest.param(GOOD, {"ADA_STORE": "file:///tmp"}, "ADA_TOKEN", id="no-token"),
        pytest.param(GOOD, {"ADA_TOKEN": "t", "ADA_STORE": "http://x"}, "not understood", id="a-bad-store"),
        pytest.param(NO_TASKS, {"ADA_TOKEN": "t", "ADA_STORE": "file:///tmp"}, "generatedWeight", id="no-tasks"),
    ],
)
def test_a_configuration_that_cant_work_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: str, environment: dict[str, str], message: str
) -> None:
    for name in ("ADA_TOKEN", "ADA_STORE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "experiment.yaml"
    path.write_text(experiment)
    with pytest.raises((ConfigurationError, InvalidExperiment), match=message):
        make_service(load(path))


def test_the_program_ends_with_the_code_that_is_not_retried_and_says_why_last(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(GOOD)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ADA_")}
    command = [sys.executable, "-m", "ada_curriculum", "--experiment", str(tmp_path / "experiment.yaml")]
    ended = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 78 and "ADA_TOKEN" in ended.stderr.splitlines()[-1]


def test_the_client_gives_up_when_its_patience_ends() -> None:
    pauses: list[float] = []
    client = CurriculumClient("127.0.0.1:1", "token", patience_s=0.0, sleep=pauses.append)
    with pytest.raises(CurriculumUnavailable, match=r"127\.0\.0\.1:1 did not answer GET /v1/progress"):
        client.progress()
    assert pauses == []


def test_the_client_gives_up_sooner_when_it_is_told_while_it_waits() -> None:
    pauses: list[float] = []

    def at_most_s() -> float:
        return 0.0 if len(pauses) == 3 else math.inf

    client = CurriculumClient("127.0.0.1:1", "token", sleep=pauses.append, at_most_s=at_most_s)
    with pytest.raises(CurriculumUnavailable, match="within 0 s"):
        client.progress()
    assert len(pauses) == 3
