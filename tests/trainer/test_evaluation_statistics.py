"""Intervals and paired differences."""

import numpy as np
import pytest

from ada_trainer.evaluation.result import AGENT, CLEARED, Evaluation
from ada_trainer.evaluation.statistics import bootstrap, paired_difference, summarise


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        interval = bootstrap(rng.normal(0.3, 1.0, 80), np.mean, seed)
        hits += interval.low <= 0.3 <= interval.high
    assert 175 <= hits <= 200


def test_constant_scores_have_an_interval_of_no_width() -> None:
    summary = summarise(np.full(10, 0.25))
    assert (summary.median.low, summary.median.value, summary.median.high) == (0.25, 0.25, 0.25)


def test_pairing_removes_what_tasks_have_in_common() -> None:
    difficulty = np.random.default_rng(1).uniform(0, 1, 200)
    assert paired_difference(difficulty + 0.05, difficulty).low == pytest.approx(0.05)
    assert paired_difference(difficulty + 0.05, difficulty).excludes_zero()


def test_scores_of_different_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="same tasks"):
        paired_difference(np.zeros(3), np.zeros(4))


def test_no_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one task"):
        bootstrap(np.zeros(0), np.mean)


def test_an_evaluation_survives_the_store() -> None:
    scores = {AGENT: {1: np.array([0.1, 0.2]), 5: np.array([0.5, 0.7])}, CLEARED: {5: np.array([0.1, 0.3])}}
    before = Evaluation("student", 100, "sha256:0", (1, 2**63 + 5), scores, 1.5)
    after = Evaluation.from_json(before.to_json())
    assert after.tasks == before.tasks
    assert after.scores[AGENT][5].tolist() == [0.5, 0.7]
    gain = after.gain_from_trials()
    assert gain is not None
    assert gain.value == pytest.approx(0.45)
    assert [score.trials for score in after.trial_scores()] == [1, 5]
