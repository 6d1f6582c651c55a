"""Benchmarks measure what they say: every part prints whole rows, and the page shows them all."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `benchmarks` is a folder of the repository, not a package that is installed

from benchmarks.__main__ import PARTS  # noqa: E402
from benchmarks.page import page  # noqa: E402
from benchmarks.plain_transformer import PlainTransformerXl  # noqa: E402
from benchmarks.row import Row, cost_row, rate_row  # noqa: E402
from tests.cluster.build import missing_programs  # noqa: E402
from tests.cluster.control_plane import PROGRAMS  # noqa: E402

from ada_trainer.networks.presets import Sizes  # noqa: E402
from ada_trainer.networks.transformer_xl import TransformerXl  # noqa: E402

KEYS = ["part", "what", "ours", "yardstick", "yardstick_name", "ratio", "bar"]
SLOW = {"elastic", "operator"}  # start whole groups and clusters: ADA_TEST_LONG=1
FAST = rate_row("simulator", "steps/s", 300.0, 20.0, "another", 15)
SLOWER = cost_row("elastic", "seconds", 40.0, 30.0, "limit", 1)
ALONE = rate_row("transport", "trips/s", 5.0, None, "gRPC", 5)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", PARTS)
def test_a_part_prints_whole_rows(part: str) -> None:
    if part in SLOW and not os.environ.get("ADA_TEST_LONG"):
        pytest.skip("starts many processes: ADA_TEST_LONG=1")
    if part == "operator" and (missing := missing_programs(*PROGRAMS)):
        pytest.skip(f"{', '.join(missing)} not built: run `python tests/cluster/build.py`")
    command = [sys.executable, "-m", "benchmarks", part, "--json", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows
    for row in rows:
        assert list(row) == KEYS
        assert row["part"] == part and row["what"] and row["yardstick_name"]
        assert row["ours"] > 0
        assert (row["yardstick"] is None) == (row["ratio"] is None)


def test_a_row_has_exactly_the_keys_that_are_promised() -> None:
    assert [field.name for field in fields(Row)] == KEYS


def test_a_ratio_is_bigger_where_ours_is_better() -> None:
    assert FAST.ratio == 15.0
    assert SLOWER.ratio == 0.75
    assert ALONE.ratio is None


def test_the_page_shows_ratios_what_was_missed_and_what_could_not_be_had() -> None:
    text = page("a machine", [FAST, SLOWER, ALONE], {"transport": ["no gRPC here"]}, ["operator"])
    assert "Machine: a machine." in text
    assert "| simulator | steps/s | 300 | 20 | another | 15 | 15 |" in text
    assert "| elastic | seconds | 40 | 30 | limit | 0.75 (missed) | 1 |" in text
    assert "| transport | trips/s | 5 |  | gRPC | not measured | 5 |" in text
    assert "Missed: elastic, seconds (limit)." in text
    assert "failed: operator" in text
    assert "* transport: no gRPC here" in text


def test_the_page_says_nothing_of_misses_and_failures_where_there_are_none() -> None:
    text = page("a machine", [FAST], {"simulator": []}, [])
    assert "Missed" not in text and "failed" not in text and "Notes" not in text


@pytest.mark.parametrize("reproject", [False, True], ids=["keys-and-values-kept", "inputs-kept"])
def test_the_plain_transformer_does_the_same_work_as_ours(reproject: bool) -> None:
    sizes = Sizes(width=32, layers=2, heads=4, memory=5, embedding=8)
    torch.manual_seed(0)
    ours, plain = TransformerXl(sizes), PlainTransformerXl(sizes, reproject)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    plain.adopt(ours.state_dict())
    T, B = 17, 3
    x_TBD, clear_TB = torch.randn(T, B, sizes.width), torch.rand(T, B) < 0.15
    ours_state, plain_state = ours.initial_state(B), plain.initial_state(B)
    with torch.no_grad():
        for t in range(T):
            expected, ours_state = ours.step(x_TBD[t], ours_state, clear_TB[t])
            found, plain_state = plain.step(x_TBD[t], plain_state, clear_TB[t])
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        if not reproject:
            again = torch.randn(T, B, sizes.width)
            expected = ours.unroll(again, ours_state, clear_TB)
            torch.testing.assert_close(plain.unroll(again, plain_state, clear_TB), expected, atol=1e-5, rtol=1e-4)
