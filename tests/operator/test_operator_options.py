"""The command line of `ada operator`."""

from pathlib import Path

import pytest

from ada_operator.observed import Platform
from ada_operator.program import parse, read_platform


def test_every_namespace_is_watched_unless_some_are_named():
    assert parse([]).namespaces == ()
    assert parse(["--namespace", "a", "--namespace", "b", "--namespace", "a"]).namespaces == ("a", "b")


def test_the_lease_is_in_the_first_namespace_where_the_operator_runs_outside_a_cluster():
    assert parse(["--namespace", "a"]).lease_namespace == "a"
    assert parse(["--namespace", "a", "--lease-namespace", "b"]).lease_namespace == "b"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--namespace", "a", "--all-namespaces"], "exclude each other", id="two-scopes"),
        pytest.param(["--workers", "0"], "must be at least 1", id="no-workers"),
        pytest.param(["--platform", "/nowhere/file"], "No such file", id="no-platform-file"),
    ],
)
def test_a_command_line_that_makes_no_sense_ends_with_2_and_says_why(arguments, said, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_the_platform_file_sets_fields_in_camel_case(tmp_path: Path):
    path = tmp_path / "platform.yaml"
    path.write_text("trainerImage: registry/trainer@sha256:1\nimagePullSecrets: [one]\n")
    assert read_platform(path) == Platform(trainer_image="registry/trainer@sha256:1", image_pull_secrets=("one",))
    assert read_platform(None) == Platform()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("trainer_image: x", "unknown: trainer_image; known: .*trainerImage", id="unknown-field"),
        pytest.param("trainerImage: [1]", "trainer_image: ", id="wrong-type"),
        pytest.param("- a", "not a mapping", id="not-a-mapping"),
    ],
)
def test_a_platform_file_with_a_mistake_is_refused_by_name(tmp_path: Path, text: str, said: str):
    path = tmp_path / "platform.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_platform(path)
