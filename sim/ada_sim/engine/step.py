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


@njit(cache=True, nogil=True)
def step_worlds(worlds, tasks, assigned, out, actions, begin, end, symbolic):  # type: ignore[no-untyped-def]
    """Advance worlds begin <= b < end by one timestep. Worlds share nothing, so any split gives the same bits."""
    for b in range(begin, end):
        w = worlds[b]
        t = tasks[b]
        begin_step(w, out, actions, b)
        if w.active:
            for _ in range(TICKS_PER_TIMESTEP):
                move_players(w, t)
                use_hands(w, t)
                move_objects(w, t)
                separate_bodies(w, t)
                fire_rules(w, t)
                look_at_goals(w, t)
        end_step(worlds, tasks, assigned, out, b)
        observe(w, t, out, b, symbolic)


@njit(cache=True)
def restart_worlds(worlds, tasks, assigned, out, chosen, symbolic):  # type: ignore[no-untyped-def]
    """End the present episode of the chosen worlds (int64 [N]), start the assigned one, and write its observation."""
    for b in chosen:
        restart(worlds, tasks, assigned, out, b)
        observe(worlds[b], tasks[b], out, b, symbolic)
