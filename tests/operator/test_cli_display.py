"""What `ada run` shows a person at the end."""

from ada_api.progress import TrialScore
from ada_api.status import ExperimentStatus, StageStatus
from ada_operator.cli.display import score_table


def test_the_scores_stand_by_stage_and_number_of_trials_as_mean_median_and_20th_percentile() -> None:
    scores = [TrialScore(trials=k, median=0.4 + k / 10, mean=0.3 + k / 10, percentile20=0.1) for k in (1, 5)]
    stages = [StageStatus(name="teacher", evaluation=scores), StageStatus(name="student")]
    lines = score_table(ExperimentStatus(stages=stages)).splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert rows == [
        ["teacher", "mean", "0.400", "0.800"],
        ["teacher", "median", "0.500", "0.900"],
        ["teacher", "20th percentile", "0.100", "0.100"],
        ["student", "mean", "-", "-"],
        ["student", "median", "-", "-"],
        ["student", "20th percentile", "-", "-"],
    ]
