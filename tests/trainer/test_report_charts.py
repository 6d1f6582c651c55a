"""The charts of the report."""

import itertools
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ada_trainer.report.charts import Frame, Series, line_chart, number, spread_labels, ticks


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (1500, "1.5k"), (2_000_000, "2M"), (4e9, "4G"), (-1500, "-1.5k")],
)
def test_numbers_on_axes_are_short(value: float, text: str) -> None:
    assert number(value) == text


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e6))
def test_ticks_lie_within_the_axis_and_are_few(low: float, span: float) -> None:
    marks = ticks(low, low + span)
    assert 1 <= len(marks) <= 12
    assert all(low - span * 1e-3 <= mark <= low + span * 1.001 for mark in marks)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=5))
def test_labels_never_overlap(wanted: list[float]) -> None:
    placed = sorted(spread_labels(wanted, 10, 0, 100))
    assert all(b - a >= 10 - 1e-6 for a, b in itertools.pairwise(placed))


def test_a_chart_is_well_formed_and_escapes_names() -> None:
    chart = line_chart(
        [Series("<agent & co>", [1, 2, 8], [0.1, 0.5, 0.6], 0, [0, 0.4, 0.5], [0.2, 0.6, 0.7])],
        Frame("trials", "score", y_min=0, y_max=1, markers=True),
    )
    root = ET.fromstring(chart)
    assert len(root.findall("polyline")) == 1
    assert len(root.findall("polygon")) == 1
    assert len(root.findall("circle")) == 3
    assert "<agent & co>" in "".join(root.itertext())


def test_a_chart_without_data_says_so() -> None:
    assert "No data" in line_chart([Series("a", [], [], 0)], Frame("frames", "score"))
