"""What the report's first sentence claims is what the intervals below it show."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ada_trainer.evaluation.result import AGENT, CLEARED, Evaluation
from ada_trainer.report.sections import headline

SCORES = np.random.default_rng(0).uniform(0.2, 0.4, 64)


@pytest.mark.parametrize(
    ("first", "cleared", "remembers"), [(-0.1, -0.1, True), (-0.1, 0.0, False), (0.0, -0.1, False)]
)
def test_it_says_that_the_agent_remembers_only_where_both_gains_are_shown(
    first: float, cleared: float, remembers: bool
) -> None:
    scores = {AGENT: {1: SCORES + first, 5: SCORES}, CLEARED: {1: SCORES + first, 5: SCORES + cleared}}
    evaluation = Evaluation("student", 100, "", tuple(range(64)), scores, 1.0)
    judged: Any = [SimpleNamespace(evaluation=evaluation, stage=SimpleNamespace(name="student"))]
    said = headline(SimpleNamespace(judged=lambda: judged))
    assert ("it remembers in the next" in said) == remembers
    assert said.count("not shown") == (first == 0.0) + (cleared == 0.0)
