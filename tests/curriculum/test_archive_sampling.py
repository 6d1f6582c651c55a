"""The fast archive against the plain definition of prioritised level replay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ada_curriculum.archive import Archive
from ada_curriculum.ranking import BLOCK, Ranking


def plain_weights(fitness: np.ndarray, stale: np.ndarray, temperature: float, share: float) -> np.ndarray:
    """The definition, slot by slot."""
    order = sorted(range(len(fitness)), key=lambda slot: (-fitness[slot], slot))
    rank = np.empty(len(fitness))
    for position, slot in enumerate(order):
        rank[slot] = position + 1
    by_rank = rank ** (-1 / temperature)
    uniform = np.full(len(fitness), 1 / len(fitness))
    by_staleness = stale / stale.sum() if stale.sum() else uniform
    return (1 - share) * by_rank / by_rank.sum() + share * by_staleness


def filled(size: int, seed: int, temperature: float = 0.3, share: float = 0.2) -> Archive:
    rng = np.random.default_rng(seed)
    archive = Archive(size, temperature, share)
    archive.load(
        {
            "tasks": np.arange(100, 100 + size, dtype=np.uint64),
            "fitness": rng.normal(size=size).round(1),  # with ties
            "last_used": rng.integers(0, 50, size),
            "clock": np.array([60]),
        }
    )
    return archive


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_draws_follow_the_plain_definition(share: float, temperature: float) -> None:
    archive = filled(23, seed=1, temperature=temperature, share=share)
    start = archive.to_arrays()
    stale = (60 - start["last_used"]).astype(float)
    expected = plain_weights(start["fitness"], stale, temperature, share)
    rng, draws = np.random.default_rng(2), 20_000
    counts = np.zeros(23)
    for _ in range(draws):
        archive.load(start)
        counts[archive.draw(rng.random(), rng.random()) - 100] += 1
    likely = expected * draws >= 5  # the chi-squared test's own condition
    rest = np.array([counts[~likely].sum(), expected[~likely].sum() * draws])
    chi = ((counts[likely] - expected[likely] * draws) ** 2 / (expected[likely] * draws)).sum()
    chi += (rest[0] - rest[1]) ** 2 / rest[1] if rest[1] > 0 else 0.0
    assert chi < 22 + 5 * np.sqrt(2 * 22)  # mean + 5 standard deviations of chi-squared at most


def test_every_point_of_the_unit_interval_leads_to_the_slot_of_the_definition() -> None:
    archive = filled(40, seed=3)
    start = archive.to_arrays()
    totals = np.cumsum((60 - start["last_used"]).astype(float))
    order = sorted(range(40), key=lambda slot: (-start["fitness"][slot], slot))
    rank_totals = np.cumsum(np.arange(1, 41) ** (-1 / 0.3))
    for where in np.linspace(0, 1, 500, endpoint=False):
        archive.load(start)
        assert archive.draw(0.0, where) == 100 + np.searchsorted(totals, int(where * totals[-1]), side="right")
        archive.load(start)
        rank = np.searchsorted(rank_totals, where * rank_totals[-1], side="right")
        assert archive.draw(0.999, where) == 100 + order[rank]


def test_a_draw_resets_staleness_and_ages_the_others() -> None:
    archive = filled(5, seed=4)
    before = {task: archive.staleness_of(task) for task in range(100, 105)}
    drawn = archive.draw(0.9, 0.5)
    assert archive.staleness_of(drawn) == 0
    assert all(archive.staleness_of(task) == before[task] + 1 for task in before if task != drawn)


def test_tasks_all_used_just_now_are_drawn_uniformly() -> None:
    archive = Archive(1, 0.3, 1.0)
    archive.offer(7, 0.0)
    assert archive.draw(0.0, 0.99) == 7


def test_a_full_archive_takes_only_a_fitter_task_and_drops_the_least_fit() -> None:
    archive = Archive(3, 0.3, 0.2)
    assert all(archive.offer(task, fitness) for task, fitness in ((1, 0.1), (2, -0.5), (3, 0.4)))
    assert not archive.offer(4, -0.5)  # equal is not fitter
    assert archive.offer(5, -0.4)
    assert 2 not in archive and 5 in archive and len(archive) == 3
    assert [archive.fitness_at_rank(rank) for rank in range(3)] == [0.4, 0.1, -0.4]


def test_a_task_that_is_held_is_refreshed_and_never_held_twice() -> None:
    archive = Archive(3, 0.3, 0.2)
    archive.offer(1, 0.1)
    archive.offer(2, 0.2)
    assert archive.offer(1, 0.9)
    assert len(archive) == 2 and archive.fitness_of(1) == 0.9 and archive.fitness_at_rank(0) == 0.9
    assert not archive.refresh(99, 1.0)


operations = st.lists(st.tuples(st.integers(0, 60), st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 3.0])), max_size=200)


@settings(deadline=None)
@given(operations=operations, draws=st.integers(0, 3))
def test_any_sequence_of_operations_leaves_what_plain_bookkeeping_would(
    operations: list[tuple[int, float]], draws: int
) -> None:
    archive, plain, used, clock = Archive(20, 0.3, 0.5), {}, {}, 0
    for number, (task, fitness) in enumerate(operations):
        held = archive.offer(task, fitness)
        clock += 1
        if task not in plain and len(plain) == 20:
            least = min(plain.values())
            if fitness > least:
                gone = next(other for other in archive_order(plain, archive) if other not in archive)
                assert plain.pop(gone) == least
        if held:
            plain[task], used[task] = fitness, clock
        for draw in range(draws):
            drawn = archive.draw(draw % 2, (number % 10) / 10)
            clock += 1
            used[drawn] = clock
        assert {one: archive.fitness_of(one) for one in plain} == plain and len(archive) == len(plain)
        assert all(archive.staleness_of(one) == clock - used[one] for one in plain)
        ranked = [archive.fitness_at_rank(rank) for rank in range(len(plain))]
        assert ranked == sorted(plain.values(), reverse=True)


def archive_order(plain: dict[int, float], archive: Archive) -> list[int]:
    return sorted(plain, key=lambda task: plain[task])


def test_a_ranking_of_many_blocks_stays_sorted_through_splits_and_removals() -> None:
    rng = np.random.default_rng(5)
    fitness = rng.normal(size=6 * BLOCK).round(2)
    ranking = Ranking(fitness[: 2 * BLOCK])
    for slot in range(2 * BLOCK, 6 * BLOCK):
        ranking.insert(fitness[slot], slot)
    for slot in range(0, 6 * BLOCK, 2):
        ranking.remove(fitness[slot], slot)
    left = sorted(range(1, 6 * BLOCK, 2), key=lambda slot: (-fitness[slot], slot))
    assert len(ranking) == len(left)
    assert [ranking.slot_at(rank) for rank in range(len(left))] == left
    for slot in left:
        ranking.remove(fitness[slot], slot)
    ranking.insert(1.0, 3)
    assert ranking.slot_at(0) == 3


def test_a_restored_archive_draws_the_same() -> None:
    rng = np.random.default_rng(6)
    archive = Archive(50, 0.3, 0.2)
    for _ in range(300):
        archive.offer(int(rng.integers(1 << 63)), round(rng.normal(), 1))
        archive.draw(rng.random(), rng.random())
    twin = Archive(50, 0.3, 0.2)
    twin.load(archive.to_arrays())
    for _ in range(300):
        choice, where, task, fitness = rng.random(), rng.random(), int(rng.integers(1 << 63)), float(rng.normal())
        assert archive.draw(choice, where) == twin.draw(choice, where)
        assert archive.offer(task, fitness) == twin.offer(task, fitness)
    assert all(np.array_equal(array, twin.to_arrays()[name]) for name, array in archive.to_arrays().items())


@pytest.mark.parametrize(
    ("name", "array"),
    [
        pytest.param("tasks", np.array([1, 1], np.uint64), id="a-task-twice"),
        pytest.param("fitness", np.array([0.0, np.nan]), id="fitness-not-finite"),
        pytest.param("fitness", np.array([0.0]), id="lengths-differ"),
        pytest.param("last_used", np.array([0, 99]), id="used-in-the-future"),
        pytest.param("tasks", np.arange(4, dtype=np.uint64), id="too-many"),
    ],
)
def test_a_snapshot_that_makes_no_sense_is_refused(name: str, array: np.ndarray) -> None:
    good = {
        "tasks": np.array([1, 2], np.uint64),
        "fitness": np.array([0.0, 1.0]),
        "last_used": np.array([0, 1]),
        "clock": np.array([2]),
    }
    archive = Archive(3, 0.3, 0.2)
    archive.load(good)
    with pytest.raises(ValueError, match="snapshot"):
        archive.load({**good, name: array})
