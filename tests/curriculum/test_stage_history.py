"""A stage's learning curve, speed, score and snapshot."""

import threading

import numpy as np
import pytest

from ada_api.curriculum import Curriculum, PrioritisedLevelReplay
from ada_curriculum.history import MAX_POINTS, History
from ada_curriculum.measures import MAX_WAITING, TaskMeasures
from ada_curriculum.orders import Order, Purpose
from ada_curriculum.record import (
    FEWEST_EPISODES,
    RECENT_EPISODES,
    RECENT_TASKS,
    SnapshotError,
    StageRecord,
    snapshot_score,
)
from ada_curriculum.requests import AdvanceRequest
from ada_curriculum.stage import Applied, StageCurriculum, make_method, random_generator
from ada_curriculum.types import Result


class CountedTasks:
    """Counts how often a task is measured."""

    measured = 0

    def draw(self, rng: np.random.Generator, held_out: bool) -> int:
        return int(rng.integers(1 << 40))

    def trials(self, number: int) -> int:
        return 2

    def metrics(self, number: int) -> dict[str, float]:
        self.measured += 1
        return {"num_rules": float(number % 7)}


def record(archive_size: int = 20, tasks: CountedTasks | None = None) -> StageRecord:
    parameters = PrioritisedLevelReplay(archive_size=archive_size, min_archive_size=5)
    tasks = tasks or CountedTasks()
    method = make_method(Curriculum(plr=parameters), None)
    curriculum = StageCurriculum(method, tasks, random_generator(0, "s"), 1)
    return StageRecord("s", curriculum, TaskMeasures(tasks.metrics))


def advance(frames: int, **metrics: float) -> AdvanceRequest:
    return AdvanceRequest(stage="s", generation=1, frames=frames, updates=frames, metrics=metrics)


def learned(task: int, *returns: float) -> Applied:
    order = Order(task, len(returns), learn=True, purpose=Purpose.REPLAY)
    return Applied(order, Result("1-1", returns, 0.0, 10))


def test_a_history_stays_bounded_and_evenly_spread() -> None:
    history = History()
    for frames in range(0, 100_000, 7):
        history.add({"value": frames}, frames)
    frames = [int(str(point["frames"])) for point in history.points]
    assert MAX_POINTS // 4 < len(frames) <= MAX_POINTS
    assert frames[0] == 0 and frames[-1] > 95_000
    gaps = np.diff(frames)
    assert gaps.max() <= 2 * gaps.min()


def test_points_that_were_rolled_back_are_dropped() -> None:
    history = History()
    for frames in (10, 20, 30, 40):
        history.add({}, frames)
    history.add({"again": True}, 20)
    assert history.points == [{"frames": 10}, {"frames": 20, "again": True}]


def test_a_history_continues_from_its_bytes() -> None:
    first, second = History(), History()
    for frames in range(5000):
        first.add({}, frames)
    second.load(first.to_bytes())
    for history in (first, second):
        for frames in range(5000, 9000):
            history.add({}, frames)
    assert first.points == second.points


@pytest.mark.parametrize(
    "data", [b"[]", b"{}", b'{"spacing":0,"points":[1]}', b"not json", b'{"spacing":0,"points":3}']
)
def test_a_history_that_makes_no_sense_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, KeyError)):
        History().load(data)


def test_speed_is_that_of_the_last_half_minute() -> None:
    stage = record()
    assert stage.frames_per_second(0.0) == 0.0
    for second in range(100):
        stage.advance(advance(100 * second if second < 50 else 5000 + 300 * (second - 50)), float(second))
    assert stage.frames_per_second(99.0) == pytest.approx(300.0)
    assert stage.frames_per_second(200.0) == 0.0


def test_the_score_is_that_of_recent_episodes_that_were_learned_from() -> None:
    stage = record()
    evaluated = Applied(Order(1, 1, learn=False, purpose=Purpose.EVALUATE), Result("1-1", (1.0,), 0.0, 10))
    stage.note([learned(1, 0.1, 0.3), learned(2, 0.5), evaluated])
    assert stage.score() == pytest.approx(0.4)
    assert stage.score_by_trial() == [pytest.approx(0.3), pytest.approx(0.3)]
    stage.note([learned(1, 0.9)] * RECENT_EPISODES)
    assert stage.score() == pytest.approx(0.9)


def test_each_task_trained_on_is_measured_once_and_beside_the_service() -> None:
    tasks = CountedTasks()
    stage = record(tasks=tasks)
    stage.note([learned(task, 0.5) for task in range(20)])
    for frames in range(1, 4):
        stage.advance(advance(frames), float(frames))
        stage._measures.wait()
    assert tasks.measured == 20
    assert stage.task_metrics() == {"num_rules": pytest.approx(np.mean([task % 7 for task in range(20)]))}
    assert stage.history.points[-1]["num_rules"] == stage.task_metrics()["num_rules"]


def test_tasks_that_never_come_again_are_measured_too_and_stand_in_the_next_point() -> None:
    stage = record(tasks=CountedTasks())
    for frames in range(1, 5):
        stage.note([learned(task + 100 * frames, 0.5) for task in range(RECENT_TASKS)])
        stage.advance(advance(frames), float(frames))
        stage._measures.wait()
    first, *rest = stage.history.points
    assert "num_rules" not in first
    assert [point["num_rules"] for point in rest] == [
        pytest.approx(np.mean([(task + 100 * frames) % 7 for task in range(RECENT_TASKS)])) for frames in range(1, 4)
    ]


def test_a_slow_measure_holds_nobody_up_and_a_failing_one_is_left_out() -> None:
    release = threading.Event()

    def measure(task: int) -> dict[str, float]:
        release.wait()
        if task == 3:
            raise ValueError("no such task")
        return {"num_rules": float(task)}

    measures = TaskMeasures(measure)
    measures.ask_for(range(10 * MAX_WAITING))  # returns at once, though nothing is measured yet
    assert measures.mean([1, 2]) == {}
    release.set()
    measures.wait()
    assert measures.mean([1, 2, 3]) == {"num_rules": 1.5}


def test_what_the_trainer_names_never_replaces_our_own_figures() -> None:
    stage = record()
    metrics = {"score": 99.0, "frames": 99.0, "loss": 1.0}
    stage.advance(AdvanceRequest(stage="s", generation=1, frames=5, updates=1, metrics=metrics), 1.0)
    point = stage.history.points[-1]
    assert point["score"] is None and point["frames"] == 5 and point["loss"] == 1.0


def test_a_snapshot_of_a_larger_archive_is_refused_with_a_reason() -> None:
    large = record(archive_size=20)
    for _ in range(30):
        leases = large.curriculum.lease(1, 0.0)
        large.curriculum.apply([Result(one.id, (0.5, 0.5), 0.1, 10) for one in leases])
    with pytest.raises(SnapshotError, match="does not fit an archive of 10"):
        record(archive_size=10).load(large.snapshot(), 0.0)


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_a_snapshot_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(SnapshotError):
        record().load(record().snapshot()[:cut], 0.0)


def test_a_snapshot_of_a_snapshot_is_the_same() -> None:
    first, second = record(), record()
    first.note([learned(1, 0.1, 0.3)])
    first.advance(advance(10, loss=0.5), 1.0)
    second.load(first.snapshot(), 2.0)
    assert second.snapshot() == first.snapshot()
    assert (second.frames, second.updates, second.score()) == (10, 10, pytest.approx(0.3))


def test_a_snapshot_has_the_score_once_enough_episodes_were_played() -> None:
    stage = record()
    stage.note([learned(task, 0.0, 0.25) for task in range(FEWEST_EPISODES - 1)])
    assert snapshot_score(stage.snapshot()) is None
    stage.note([learned(0, 0.75)])
    score = stage.score()
    assert score is not None and snapshot_score(stage.snapshot()) == pytest.approx(score)
    with pytest.raises(SnapshotError):
        snapshot_score(b"nonsense")
