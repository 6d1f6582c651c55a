"""Everything the service knows of one stage: its curriculum, how far it has come, and its learning curve."""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import safetensors.numpy
from pydantic.alias_generators import to_camel
from safetensors import SafetensorError

from ada_api.progress import CommittedCheckpoint, StageProgress, TrialScore
from ada_curriculum.fitness import MAX_TRIALS
from ada_curriculum.history import History
from ada_curriculum.measures import TaskMeasures
from ada_curriculum.requests import AdvanceRequest
from ada_curriculum.stage import Applied, StageCurriculum

SPEED_WINDOW_S = 30.0
RECENT_EPISODES = 512  # whose mean is the training score
FEWEST_EPISODES = 64  # for a checkpoint to have a score: the best of a few lucky episodes is no best
RECENT_TASKS = 64  # whose mean are the task metrics
SNAPSHOT_FORMAT = 1

Phase = Literal["waiting", "training", "committing", "trained", "failed"]


class SnapshotError(ValueError):
    """A snapshot is damaged, or belongs to another experiment's settings."""


@dataclass
class Standing:
    """What survives a restart of the service besides the checkpoint: `curriculum/STAGE.json`."""

    generation: int = 0
    phase: Phase = "waiting"
    message: str = ""
    evaluation: tuple[TrialScore, ...] = ()
    best_score: float | None = None


class StageRecord:
    """One stage. Not safe for threads: one event loop owns it."""

    def __init__(self, name: str, curriculum: StageCurriculum, measures: TaskMeasures) -> None:
        self.name = name
        self.curriculum = curriculum
        self.history = History()
        self.standing = Standing()
        self.checkpoint: CommittedCheckpoint | None = None
        self.frames = self.updates = self.skipped_updates = self.workers = 0
        self.last_progress = 0.0
        self.stop_asked = False
        self.known = False  # has registered or was restored
        self.registered = 0  # generation that registered at this record
        self._measures = measures
        self._sample: list[int] = []  # trained on before the last point: it takes a while until they are measured
        self._task_metrics: dict[str, float] = {}
        self._recent_returns: deque[tuple[float, ...]] = deque(maxlen=RECENT_EPISODES)
        self._recent_tasks: deque[int] = deque(maxlen=RECENT_TASKS)
        self._trained_tasks: deque[int] = deque(maxlen=RECENT_EPISODES)  # for the metrics alone: in no snapshot
        self._speed: deque[tuple[float, int]] = deque()  # (time, frames)
        self._timesteps_at_point = (0, 0)

    def register(self, generation: int, workers: int) -> None:
        """A training group begins. Its worlds are fresh: the episodes of the one before it are lost."""
        if generation > self.registered:
            self.curriculum.forget_outstanding()
        self.registered = generation
        self.known = True
        self.workers = workers
        self.stop_asked = False
        self.standing.generation = generation
        self.standing.phase, self.standing.message = "training", ""
        self._speed.clear()

    def note(self, applied: Sequence[Applied]) -> None:
        """Take what counted into the score and the measures of the tasks trained on."""
        for one in applied:
            if one.order.learn:
                self._recent_returns.append(one.result.returns)
                self._recent_tasks.append(one.order.task)
                self._trained_tasks.append(one.order.task)

    def advance(self, request: AdvanceRequest, now: float) -> None:
        """Take how far the group has come, and add a point to the history if one is due."""
        self.frames, self.updates, self.skipped_updates = request.frames, request.updates, request.skipped_updates
        self.last_progress = now
        if self._speed and (request.frames < self._speed[-1][1] or now < self._speed[-1][0]):
            self._speed.clear()
        self._speed.append((now, request.frames))
        while len(self._speed) > 2 and self._speed[1][0] <= now - SPEED_WINDOW_S:
            self._speed.popleft()
        if self.history.is_due(request.frames):
            self.history.add(self._point(request, now), request.frames)

    def frames_per_second(self, now: float) -> float:
        """Return the speed over the last half minute; it falls to 0 when nothing is heard any more."""
        if not self._speed or now - self._speed[-1][0] > SPEED_WINDOW_S:
            return 0.0
        (start, first), (end, last) = self._speed[0], self._speed[-1]
        return (last - first) / (end - start) if end > start else 0.0

    def score(self) -> float | None:
        """Return the mean return of the last trials of recent episodes that were learned from."""
        if not self._recent_returns:
            return None
        return sum(returns[-1] for returns in self._recent_returns) / len(self._recent_returns)

    def score_by_trial(self) -> list[float | None]:
        """Return the mean return by index of the trial, over the same episodes."""
        longest = max((len(returns) for returns in self._recent_returns), default=0)
        columns = [[one[trial] for one in self._recent_returns if trial < len(one)] for trial in range(longest)]
        return [sum(column) / len(column) if column else None for column in columns]

    def progress(self, now: float) -> StageProgress:
        """Return what the operator is told."""
        return StageProgress(
            stage=self.name,
            generation=self.standing.generation,
            phase=self.standing.phase,
            message=self.standing.message,
            frames=self.frames,
            frames_per_second=self.frames_per_second(now),
            updates=self.updates,
            skipped_updates=self.skipped_updates,
            score=self.score(),
            score_by_trial=self.score_by_trial(),
            workers=self.workers,
            last_progress=self.last_progress,
            checkpoint=self.checkpoint,
            evaluation=list(self.standing.evaluation),
        )

    def snapshot(self) -> bytes:
        """Return curriculum, score and history as safetensors."""
        returns = np.full((len(self._recent_returns), MAX_TRIALS), np.nan)
        for row, values in enumerate(self._recent_returns):
            returns[row, : len(values)] = values
        arrays = {f"curriculum.{name}": array for name, array in self.curriculum.to_arrays().items()}
        arrays["recent_returns"] = returns
        arrays["recent_tasks"] = np.array(self._recent_tasks, np.uint64)
        arrays["history"] = np.frombuffer(self.history.to_bytes(), np.uint8)
        arrays["timesteps_at_point"] = np.array(self._timesteps_at_point, np.int64)
        counters = {"frames": self.frames, "updates": self.updates, "skipped_updates": self.skipped_updates}
        # One entry, as the library writes several in no fixed order, and equal snapshots should have equal bytes.
        return safetensors.numpy.save(arrays, {"record": json.dumps({"format": SNAPSHOT_FORMAT, **counters})})

    def load(self, data: bytes, now: float) -> None:
        """Go on from a snapshot. Raises SnapshotError if it makes no sense; the record is then undefined."""
        try:
            arrays = safetensors.numpy.load(data)
            prefix = "curriculum."
            mine = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            self.curriculum.load(mine, now)
            rows = [tuple(float(value) for value in row if not np.isnan(value)) for row in arrays["recent_returns"]]
            self._recent_returns = deque((row for row in rows if row), maxlen=RECENT_EPISODES)
            self._recent_tasks = deque(arrays["recent_tasks"].tolist(), maxlen=RECENT_TASKS)
            self.history.load(arrays["history"].tobytes())
            learned, other = arrays["timesteps_at_point"].tolist()
            self._timesteps_at_point = (learned, other)
            counters = read_counters(data)
            self.frames, self.updates = counters["frames"], counters["updates"]
            self.skipped_updates = counters["skipped_updates"]
        except (SafetensorError, KeyError, ValueError, IndexError, TypeError, OverflowError) as error:
            raise SnapshotError(f"snapshot of stage {self.name} makes no sense: {error}") from error
        self._speed.clear()

    def task_metrics(self) -> dict[str, float]:
        """Return the means of the measures of the tasks trained on lately, of those that were measured last."""
        return self._task_metrics

    def trained_tasks(self) -> tuple[int, int]:
        """Return how many of the last trained episodes we know, and how many different tasks they are of."""
        return len(self._trained_tasks), len(set(self._trained_tasks))

    def _measure_tasks(self) -> None:
        """Take over what is known by now of the tasks sampled before, and sample anew: tasks may never come again."""
        if self._measures.is_busy_with(self._sample):
            return
        self._task_metrics = self._measures.mean(self._sample)
        self._sample = list(self._recent_tasks)
        self._measures.ask_for(self._sample)

    def _point(self, request: AdvanceRequest, now: float) -> dict[str, object]:
        self._measure_tasks()
        figures: Mapping[str, float] = {
            to_camel(name): value for name, value in self.curriculum.method.figures().items()
        }
        return {
            **request.metrics,
            **self.task_metrics(),
            **figures,
            "time": now,
            "updates": request.updates,
            "skippedUpdates": request.skipped_updates,
            "framesPerSecond": self.frames_per_second(now),
            "workers": self.workers,
            "score": self.score(),
            "scoreByTrial": self.score_by_trial(),
            "replayShare": self._learned_share(),
        }

    def _learned_share(self) -> float | None:
        """Return the share of timesteps since the last point that the learner could use."""
        counts = self.curriculum.counts
        now = (counts["learned_timesteps"], counts["other_timesteps"])
        learned, other = (after - before for after, before in zip(now, self._timesteps_at_point, strict=True))
        self._timesteps_at_point = now
        return learned / (learned + other) if learned + other > 0 else None


def snapshot_score(data: bytes) -> float | None:
    """Return the score at a snapshot, None if too few episodes had been played. Raises SnapshotError."""
    try:
        returns = safetensors.numpy.load(data)["recent_returns"]
        if len(returns) < FEWEST_EPISODES:
            return None
        lasts = np.count_nonzero(~np.isnan(returns), axis=1) - 1
        return float(returns[np.arange(len(returns)), lasts].mean())
    except (SafetensorError, KeyError, ValueError, IndexError) as error:
        raise SnapshotError(f"snapshot holds no score: {error}") from error


def read_counters(data: bytes) -> dict[str, int]:
    """Return frames, updates and skipped updates from a snapshot's header."""
    length = int.from_bytes(data[:8], "little")
    entry = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["record"])
    if entry["format"] != SNAPSHOT_FORMAT:
        raise ValueError(f"snapshot format {entry['format']!r} is not {SNAPSHOT_FORMAT}")
    return {name: int(entry[name]) for name in ("frames", "updates", "skipped_updates")}
