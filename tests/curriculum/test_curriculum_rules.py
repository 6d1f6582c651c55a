"""AdA's curriculum rules: no-op filter, normalisation, replay decision, training visits."""

import math

import numpy as np
import pytest

from ada_api.curriculum import Curriculum, NoopFilter, PrioritisedLevelReplay
from ada_curriculum.fitness import WINDOW, RollingStatistics
from ada_curriculum.noop_filter import NoopFiltering, reason_to_reject
from ada_curriculum.orders import Order, Purpose
from ada_curriculum.plr import PrioritisedReplay, is_replay, visit_episodes
from ada_curriculum.stage import LEASE_S, ResultRefusedError, StageCurriculum, make_method, random_generator
from ada_curriculum.types import Lease, Result


class FakeTasks:
    """A pool of `size` numbers; task n has 1 + n % 5 trials."""

    def __init__(self, size: int = 1 << 62) -> None:
        self.size = size

    def draw(self, rng: np.random.Generator, held_out: bool = False) -> int:
        assert not held_out
        return int(rng.integers(self.size))

    def trials(self, number: int) -> int:
        return 1 + number % 5


def stage(
    curriculum: Curriculum, seed: int = 1, incarnation: int = 1, tasks: FakeTasks | None = None
) -> StageCurriculum:
    random = random_generator(seed, "teacher")
    return StageCurriculum(make_method(curriculum, None), tasks or FakeTasks(), random, incarnation)


def result_of(lease: Lease, fitness: float | None = None) -> Result:
    value = (lease.task * 2654435761 % 1009) / 1009 if fitness is None else fitness
    return Result(lease.id, (value,) * lease.trials, value * lease.trials, 75 * lease.trials)


PLR = Curriculum(plr=PrioritisedLevelReplay(archive_size=30, min_archive_size=20))
NOOP = Curriculum(method="noop-filter", noop_filter=NoopFilter(episodes=3, epsilon_3=2, training_episodes=4))
UNIFORM = Curriculum(method="uniform")
METHODS = [pytest.param(PLR, id="plr"), pytest.param(NOOP, id="noop-filter"), pytest.param(UNIFORM, id="uniform")]


@pytest.mark.parametrize(
    ("agent", "noop", "reason"),
    [
        pytest.param([0.5] + [0.0] * 9, [0.0] * 10, None, id="one-run-that-beats-noop-is-enough"),
        pytest.param([0.5] * 5 + [0.0] * 5, [0.0] * 10, None, id="five-successes-are-allowed"),
        pytest.param([0.5] * 6 + [0.0] * 4, [0.0] * 10, "too_easy", id="six-successes-are-too-easy"),
        pytest.param([0.4] * 6 + [0.0] * 4, [0.0] * 10, "too_easy", id="success-begins-at-forty-percent"),
        pytest.param([0.39] * 6 + [0.0] * 4, [0.0] * 10, None, id="less-than-forty-percent-is-no-success"),
        pytest.param([0.0] * 10, [0.0] * 10, "agent_like_noop", id="nothing-happens"),
        pytest.param([0.3] * 8 + [0.2] * 2, [0.3] * 10, "agent_like_noop", id="two-runs-below-noop-are-not-enough"),
        pytest.param([0.3] * 7 + [0.2] * 3, [0.3] * 10, None, id="three-runs-below-noop-are-enough"),
        pytest.param([0.305] * 10, [0.3] * 10, "agent_like_noop", id="half-a-percent-is-within-the-margin"),
        pytest.param([0.31] + [0.3] * 9, [0.2] * 9 + [0.305], "agent_like_noop", id="must-beat-the-best-noop-run"),
        pytest.param([0.3] * 10, [0.0] * 10, "too_even", id="all-runs-alike"),
        pytest.param([0.3] * 9 + [0.309], [0.0] * 10, "too_even", id="a-spread-below-one-percent"),
        pytest.param([0.3] * 9 + [0.32], [0.0] * 10, None, id="a-spread-above-one-percent"),
    ],
)
def test_the_noop_filter_keeps_adas_criteria(agent: list[float], noop: list[float], reason: str | None) -> None:
    assert reason_to_reject(agent, noop, NoopFilter()) == reason


def test_the_first_criterion_never_binds_at_its_published_value_but_can_be_set() -> None:
    agent, noop = [0.2] * 5 + [0.0] * 5, [1.0] * 10
    assert reason_to_reject(agent, noop, NoopFilter()) is None
    assert reason_to_reject(agent, noop, NoopFilter(epsilon_1=0.9)) == "solved_by_noop"


def test_a_candidate_is_played_by_both_policies_in_single_trials_without_learning() -> None:
    leases = stage(Curriculum(method="noop-filter")).lease(20, 0.0)
    assert len({lease.task for lease in leases}) == 1
    assert {(lease.trials, lease.learn) for lease in leases} == {(1, False)}
    assert sorted(lease.policy for lease in leases) == ["agent"] * 10 + ["noop"] * 10
    assert len({lease.seed for lease in leases}) == 20


def test_an_accepted_task_is_trained_on_with_its_own_trials_and_then_dropped() -> None:
    curriculum = stage(Curriculum(method="noop-filter"))
    leases = curriculum.lease(20, 0.0)
    acting = [lease for lease in leases if lease.policy == "agent"]
    curriculum.apply([result_of(lease, 0.5 if lease is acting[0] else 0.0) for lease in leases])
    training = curriculum.lease(31, 0.0)
    assert {(one.task, one.trials, one.learn) for one in training[:30]} == {
        (leases[0].task, FakeTasks().trials(leases[0].task), True)
    }
    assert not training[30].learn and training[30].task != leases[0].task


def test_a_rejected_task_is_never_trained_on() -> None:
    curriculum = stage(Curriculum(method="noop-filter"))
    leases = curriculum.lease(20, 0.0)
    curriculum.apply([result_of(lease, 0.0) for lease in leases])
    assert not any(lease.task == leases[0].task for lease in curriculum.lease(40, 0.0))
    assert curriculum.method.figures()["rejected_agent_like_noop"] == 1


def test_a_candidates_lost_episode_is_played_again() -> None:
    curriculum = stage(NOOP)
    leases = curriculum.lease(6, 0.0)
    curriculum.apply([result_of(lease) for lease in leases[1:]])
    again = curriculum.lease(1, LEASE_S + 1)[0]
    assert (again.task, again.policy, again.id != leases[0].id) == (leases[0].task, leases[0].policy, True)


def slow_statistics(values: list[float]) -> tuple[float, float]:
    """Mean and deviation with each value's weight written out."""
    weights: list[float] = []
    for position in range(1, len(values) + 1):
        newest = 1 / min(position, WINDOW)
        weights = [weight * (1 - newest) for weight in weights] + [newest]
    mean = sum(weight * value for weight, value in zip(weights, values, strict=True))
    variance = sum(weight * (value - mean) ** 2 for weight, value in zip(weights, values, strict=True))
    return mean, math.sqrt(variance)


@pytest.mark.parametrize("count", [1, 2, 50, WINDOW, WINDOW + 700])
def test_normalisation_is_what_weights_written_out_give(count: int) -> None:
    values = list(np.random.default_rng(count).normal(3.0, 2.0, count))
    statistics = RollingStatistics()
    for value in values:
        statistics.add(3, value)
    mean, deviation = slow_statistics(values)
    assert statistics.normalise(3, 4.0) == pytest.approx((4.0 - mean) / max(deviation, 1e-8), rel=1e-6)


def test_each_number_of_trials_has_statistics_of_its_own() -> None:
    statistics = RollingStatistics()
    for value in (1.0, 3.0):
        statistics.add(1, value)
        statistics.add(6, 100 * value)
    assert statistics.normalise(1, 3.0) == pytest.approx(1.0) == statistics.normalise(6, 300.0)
    assert statistics.normalise(2, 5.0) == 0.0


def test_equal_values_normalise_to_zero() -> None:
    statistics = RollingStatistics()
    for _ in range(10):
        statistics.add(1, 0.1)
    assert abs(statistics.normalise(1, 0.1)) < 1e-3


def test_replay_waits_for_the_archive() -> None:
    assert not is_replay(chance=0.0, probability=1.0, archive_size=19, min_archive_size=20)
    assert is_replay(chance=0.19, probability=0.2, archive_size=20, min_archive_size=20)
    assert not is_replay(chance=0.2, probability=0.2, archive_size=20, min_archive_size=20)


@pytest.mark.parametrize(("trials", "episodes"), [(1, 30), (4, 8), (6, 5), (30, 1), (31, 1)])
def test_a_training_visit_has_enough_whole_episodes(trials: int, episodes: int) -> None:
    assert visit_episodes(30, trials) == episodes


def play(curriculum: StageCurriculum, rounds: int, count: int = 16) -> list[Lease]:
    leases = []
    for _ in range(rounds):
        batch = curriculum.lease(count, 0.0)
        curriculum.apply([result_of(lease) for lease in batch])
        leases += batch
    return leases


def test_new_tasks_are_evaluated_once_without_learning_until_the_archive_is_large_enough() -> None:
    leases = stage(PLR).lease(19, 0.0)
    assert not any(lease.learn for lease in leases)
    assert len({lease.task for lease in leases}) == 19


def test_plain_level_replay_learns_from_new_tasks_too() -> None:
    plain = Curriculum(plr=PrioritisedLevelReplay(train_on_new_tasks=True))
    assert all(lease.learn for lease in stage(plain).lease(8, 0.0))


def test_the_share_of_replay_visits_is_the_replay_probability() -> None:
    curriculum = stage(PLR)
    play(curriculum, 400)
    visits = sum(1 / visit_episodes(30, lease.trials) for lease in play(curriculum, 2000) if lease.learn)
    new = curriculum.counts["lent_evaluate"]
    assert visits / (visits + new * 2000 / 2400) == pytest.approx(0.2, abs=0.02)


def test_the_archive_comes_to_hold_the_fittest_tasks_and_a_visit_learns_from_them() -> None:
    curriculum = stage(PLR, tasks=FakeTasks(5000))
    method = curriculum.method
    assert isinstance(method, PrioritisedReplay)
    play(curriculum, 300)
    assert len(method.archive) == 30
    assert method.figures()["fitness_q0"] > 1.0  # standard deviations above the mean of all tasks
    assert all(lease.task in method.archive for lease in play(curriculum, 1) if lease.learn)


def test_replay_refreshes_the_fitness_of_an_archived_task() -> None:
    curriculum = stage(PLR)
    method = curriculum.method
    assert isinstance(method, PrioritisedReplay)
    play(curriculum, 60)
    task = next(int(task) for task in method.archive.to_arrays()["tasks"])
    before = method.statistics.to_array()
    order = Order(task, FakeTasks().trials(task), learn=True, purpose=Purpose.REPLAY)
    method.apply(order, [0.0], -50.0, FakeTasks())
    assert method.archive.fitness_of(task) == method.archive.fitness_at_rank(29) < -5
    assert np.array_equal(before, method.statistics.to_array())  # statistics are those of new tasks


def test_a_pool_smaller_than_the_archive_does_not_wait_for_ever() -> None:
    assert PrioritisedReplay(PrioritisedLevelReplay(), pool_size=10).min_archive_size == 5
    assert PrioritisedReplay(PrioritisedLevelReplay(), pool_size=10**9).min_archive_size == 900


def test_uniform_learns_from_everything() -> None:
    leases = stage(UNIFORM).lease(50, 0.0)
    assert all(lease.learn and lease.policy == "agent" for lease in leases)
    assert all(lease.trials == FakeTasks().trials(lease.task) for lease in leases)


@pytest.mark.parametrize("curriculum", METHODS)
def test_the_same_seed_lends_the_same_episodes(curriculum: Curriculum) -> None:
    assert play(stage(curriculum), 40) == play(stage(curriculum), 40)
    assert play(stage(curriculum), 2) != play(stage(curriculum, seed=2), 2)


def without_ids(leases: list[Lease]) -> list[tuple[object, ...]]:
    return [(one.task, one.trials, one.seed, one.learn, one.policy) for one in leases]


@pytest.mark.parametrize("curriculum", METHODS)
def test_a_restored_stage_goes_on_as_if_nothing_had_been(curriculum: Curriculum) -> None:
    first = stage(curriculum)
    play(first, 30)
    lent = first.lease(13, 0.0)
    snapshot = first.to_arrays()
    second = stage(curriculum, incarnation=2)
    second.load(snapshot, 100.0)
    for one in (first, second):
        assert len(one.apply([result_of(lease) for lease in lent])) == 13
    for _ in range(30):
        batches = [one.lease(16, 100.0) for one in (first, second)]
        assert without_ids(batches[0]) == without_ids(batches[1])
        for one, batch in zip((first, second), batches, strict=True):
            one.apply([result_of(lease) for lease in batch])
    states = [one.to_arrays() for one in (first, second)]
    assert all(np.array_equal(array, states[1][name], equal_nan=True) for name, array in states[0].items())


def test_a_lease_forgotten_by_a_restore_is_not_taken_for_a_later_one() -> None:
    first = stage(PLR)
    snapshot = first.to_arrays()
    forgotten = first.lease(5, 0.0)
    second = stage(PLR, incarnation=2)
    second.load(snapshot, 0.0)
    later = second.lease(5, 0.0)
    assert not {lease.id for lease in forgotten} & {lease.id for lease in later}
    assert second.apply([result_of(lease) for lease in forgotten]) == []
    assert second.outstanding == 5


def test_a_result_reported_twice_counts_once() -> None:
    curriculum = stage(PLR)
    results = [result_of(lease) for lease in curriculum.lease(4, 0.0)]
    assert len(curriculum.apply([*results, *results])) == 4
    assert curriculum.apply(results) == []
    assert curriculum.counts["ignored"] == 8


def test_an_episode_that_stays_away_is_forgotten() -> None:
    curriculum = stage(UNIFORM)
    lost = curriculum.lease(3, 0.0)
    curriculum.lease(1, LEASE_S - 1)
    assert curriculum.outstanding == 4
    curriculum.lease(1, LEASE_S)
    assert curriculum.outstanding == 2
    assert curriculum.apply([result_of(lost[0])]) == []


def test_a_result_with_another_number_of_trials_is_refused() -> None:
    curriculum = stage(UNIFORM)
    lease = curriculum.lease(1, 0.0)[0]
    with pytest.raises(ResultRefusedError, match=f"not one for each of its {lease.trials} trials"):
        curriculum.check([Result(lease.id, (0.5,) * (lease.trials + 1), 0.1, 10)])


def test_the_snapshot_of_a_filter_with_other_settings_is_refused() -> None:
    other = NoopFiltering(NoopFilter(episodes=5))
    other.next_orders(np.random.default_rng(1), FakeTasks())
    with pytest.raises(ValueError, match="candidates"):
        NoopFiltering(NoopFilter(episodes=3)).load(other.to_arrays())
