"""Everything the report shows, gathered before a line of it is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ada_api.experiment import AdaExperiment
from ada_api.stages import Stage
from ada_trainer.evaluation.result import Evaluation

Point = Mapping[str, object]  # one entry of the curriculum service's history


@dataclass(frozen=True)
class StageData:
    """One stage: what was asked for, how it went, how it was judged."""

    stage: Stage
    parameters: int
    frames: int
    history: Sequence[Point]
    evaluation: Evaluation | None

    def curve(self, key: str) -> tuple[list[float], list[float]]:
        """Return frames and values of the history's points that have a number under `key`."""
        pairs = [(p["frames"], p[key]) for p in self.history if isinstance(p.get(key), int | float)]
        return [float(x) for x, _ in pairs], [float(y) for _, y in pairs]  # type: ignore[arg-type]

    def trial_curve(self, trial: int) -> tuple[list[float], list[float]]:
        """Return frames and mean training score of the trial with index `trial`."""
        xs, ys = [], []
        for point in self.history:
            scores = point.get("scoreByTrial")
            if isinstance(scores, Sequence) and trial < len(scores) and scores[trial] is not None:
                xs.append(float(point["frames"]))  # type: ignore[arg-type]
                ys.append(float(scores[trial]))
        return xs, ys

    def seconds(self) -> float:
        """Return the wall time from the first to the last point of the history, in seconds."""
        times = [float(p["time"]) for p in self.history if isinstance(p.get("time"), int | float)]  # type: ignore[arg-type]
        return times[-1] - times[0] if times else 0.0


@dataclass(frozen=True)
class Video:
    """An animated picture with its words."""

    stage: str
    task: str
    goal: str
    rules: Sequence[str]
    caption: str
    gif: bytes


@dataclass(frozen=True)
class ReportData:
    """All of it."""

    experiment: AdaExperiment
    stages: Sequence[StageData]
    videos: Sequence[Video]
    records: Sequence[Mapping[str, object]]

    def judged(self) -> list[StageData]:
        """Return the stages that have an evaluation."""
        return [stage for stage in self.stages if stage.evaluation is not None]
