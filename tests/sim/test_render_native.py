"""The C kernel draws what numba draws, byte for byte; without a compiler numba draws."""

import numpy as np
import pytest

from ada_api.environment import Environment
from ada_sim import constants as c
from ada_sim.batch import BatchSim
from ada_sim.render.first_person import draw_worlds
from ada_sim.render.native import native_draw

WORLDS = 16
WILD = """
############
#1111..CS..#
#1@C1<.....#
#11>2.~~.P.#
#.^.22S~W..#
#..#.###...#
#.C#S#.#.c.#
#..#.#.#...#
#W.....<1..#
#...s.2111P#
#...p.....&#
############
"""


@pytest.fixture
def kernel():
    """Return the function that finds the kernel, with nothing remembered."""
    native_draw.cache_clear()
    yield native_draw
    native_draw.cache_clear()


def test_both_draw_the_same_pixels(draw, source_of, kernel):
    native = kernel()
    if native is None:
        pytest.skip("no C compiler")
    sim = BatchSim(WORLDS, Environment(observation="symbolic", players=2), source_of(draw(WILD)))
    everyone, rng = np.arange(WORLDS), np.random.default_rng(0)
    sim.assign(everyone[1:], np.zeros(WORLDS - 1, np.uint64), np.ones(WORLDS - 1, int), everyone[1:].astype(np.uint64))
    sim.reset(everyone)
    shape = (WORLDS, 2, c.IMAGE_HEIGHT_PX, c.IMAGE_WIDTH_PX, 3)
    ours, numbas = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
    canvas = (
        np.empty((c.IMAGE_WIDTH_PX, c.IMAGE_HEIGHT_PX)),
        np.empty((c.IMAGE_WIDTH_PX, c.IMAGE_HEIGHT_PX, 3), np.uint8),
    )
    for timestep in range(60):
        choices = [rng.integers(0, size, (WORLDS, 2)) for size in c.ACTION_SIZES]
        sim.step(np.stack(choices, axis=-1).astype(np.int8))
        if timestep % 6:
            continue
        native(sim._worlds, sim._tasks, everyone, ours)
        draw_worlds(sim._worlds, sim._tasks, everyone, *canvas, numbas)
        assert np.array_equal(ours, numbas)
    assert ours[1:].std(axis=(2, 3, 4)).min() > 5
    assert not ours[0].any(), "an idle world is black"


@pytest.mark.parametrize(("name", "value"), [("ADA_NATIVE", "0"), ("CC", "false"), ("CC", "no-such-compiler")])
def test_without_a_compiler_numba_draws(kernel, monkeypatch, tmp_path, name, value):
    monkeypatch.setenv(name, value)
    monkeypatch.setattr("ada_sim.render.native.code_folder", lambda: tmp_path)
    assert kernel() is None
    assert not list(tmp_path.iterdir())
