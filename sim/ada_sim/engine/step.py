"""The schedule: what happens in a timestep, in order."""

from numba import njit

from ada_sim.constants import TICKS_PER_TIMESTEP
from ada_sim.engine.bodies import move_objects
from ada_sim.engine.contacts import separate_bodies
from ada_sim.engine.episodes import begin_step, end_step, restart
from ada_sim.engine.goals import look_at_goals
from ada_sim.engine.gripping import use_hands
from ada_sim.engine.movement import move_players
from ada_sim.engine.observing import observe
from ada_sim.engine.rules import fire_rules

CHUNK = 16  # worlds that go through a tick together: few enough to stay in the cache, enough to pay for the calls


@njit(cache=True, nogil=True)
def step_worlds(worlds, tasks, assigned, out, actions, begin, end, symbolic):  # type: ignore[no-untyped-def]
    """Advance worlds begin <= b < end by one timestep. Worlds share nothing, so any split gives the same bits."""
    for first in range(begin, end, CHUNK):
        last = min(first + CHUNK, end)
        begin_step(worlds, out, first, last)
        for _ in range(TICKS_PER_TIMESTEP):
            move_players(worlds, tasks, actions, first, last)
            use_hands(worlds, tasks, actions, first, last)
            move_objects(worlds, tasks, first, last)
            separate_bodies(worlds, tasks, first, last)
            fire_rules(worlds, tasks, first, last)
            look_at_goals(worlds, tasks, first, last)
        end_step(worlds, tasks, assigned, out, actions, first, last)
        observe(worlds, tasks, out, first, last, symbolic)


@njit(cache=True)
def restart_worlds(worlds, tasks, assigned, out, chosen, symbolic):  # type: ignore[no-untyped-def]
    """End the present episode of the chosen worlds (int64 [N]), start the assigned one, and write its observation."""
    restart(worlds, tasks, assigned, out, chosen)
    for b in chosen:
        observe(worlds, tasks, out, b, b + 1, symbolic)
