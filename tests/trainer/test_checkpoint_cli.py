"""`python -m ada_trainer checkpoints`, on a store with two checkpoints and an interrupted upload."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from ada_curriculum.store import ObjectStore, open_store
from ada_trainer.captures import Capture
from ada_trainer.checkpoint import Snapshot, learner_name, write
from ada_trainer.checkpoints_cli import main
from ada_trainer.snapshot import pack

_spec = importlib.util.spec_from_file_location("loop_parts", Path(__file__).with_name("loop_parts.py"))
assert _spec is not None and _spec.loader is not None
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    settings = parts.settings_of(parts.tiny_experiment(), tmp_path / "one")
    store = open_store(settings.store_uri)
    for frames in (10, 20, 30):
        score = 1 / frames if frames < 30 else None
        write(store, settings, 1, Snapshot(frames, 1, Capture(pack({"network": {}})), (), b"c", b"[]", score), None)
    store.put("checkpoints/teacher/000000000000040-1/learner.safetensors", b"half")
    return store


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    code = main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_list_shows_what_is_committed_and_what_was_abandoned(
    store: ObjectStore, capsys: pytest.CaptureFixture[str]
) -> None:
    code, rows = run(capsys, "list", "--store", store.uri)
    assert code == 0
    assert [(row["state"], row.get("frames")) for row in rows] == [
        ("committed", 10),
        ("committed", 20),
        ("committed", 30),
        ("abandoned", None),
    ]
    assert main(["list", "--store", store.uri]) == 0
    assert "000000000000030-1" in capsys.readouterr().out


def test_verify_fails_if_one_object_differs(store: ObjectStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "verify", "--store", store.uri)[0] == 0
    size = store.head(f"checkpoints/teacher/000000000000020-1/{learner_name(0)}").size  # type: ignore[union-attr]
    store.put(f"checkpoints/teacher/000000000000020-1/{learner_name(0)}", b"x" * size)
    code, rows = run(capsys, "verify", "--store", store.uri, "--stage", "teacher")
    assert code == 1
    assert [row["state"] for row in rows] == ["committed", "damaged", "committed"]


def test_prune_says_first_and_deletes_only_when_told(store: ObjectStore, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("prune", "--store", store.uri, "--stage", "teacher", "--last", "1")
    assert [row["frames"] for row in run(capsys, *arguments)[1]] == [20], "the best score is kept"
    arguments += ("--no-best",)
    assert [row["frames"] for row in run(capsys, *arguments)[1]] == [10, 20]
    assert [row["frames"] for row in run(capsys, *arguments, "--yes")[1]] == [10, 20]
    assert [row.get("frames") for row in run(capsys, "list", "--store", store.uri)[1]] == [30, None]


def test_copy_keeps_the_digest(store: ObjectStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = (tmp_path / "two").as_uri()
    prefix = "checkpoints/teacher/000000000000030-1"
    code, (row,) = run(capsys, "copy", "--store", store.uri, "--prefix", prefix, "--to", target)
    assert code == 0
    assert run(capsys, "list", "--store", target)[1][0]["digest"] == row["digest"]
    assert main(["copy", "--store", store.uri, "--prefix", prefix, "--to", target]) == 1
    assert "in use" in capsys.readouterr().err
