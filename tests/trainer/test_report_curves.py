"""Smoothed learning curves."""

from ada_trainer.report.curves import frames_to_reach, smoothed


def test_a_single_lucky_point_does_not_reach_a_score() -> None:
    frames = [float(i) for i in range(20)]
    lucky = smoothed(frames, [0.1] * 10 + [0.9] + [0.1] * 9)
    assert frames_to_reach(lucky, 0.5) is None


def test_a_curve_that_stays_up_reaches_it_at_the_first_full_window() -> None:
    curve = smoothed([float(i) for i in range(20)], [0.0] * 10 + [1.0] * 10)
    assert frames_to_reach(curve, 1.0) == 14.0


def test_a_short_curve_has_no_smoothed_points() -> None:
    assert smoothed([1.0, 2.0], [0.5, 0.6]) == []
