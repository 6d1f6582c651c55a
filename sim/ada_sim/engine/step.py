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
def advance(worlds, tasks, assigned, out, actions, chosen, restarts, symbolic):  # type: ignore[no-untyped-def]
    """Advance the chosen worlds (int64 [N]) by one timestep, or, if `restarts`, end their episodes and start the next.

    Worlds share nothing, so any choice and split of them gives the same bits. One function for both, compiled once.
    """
    for b in chosen:
        w = worlds[b]
        t = tasks[b]
        if restarts:
            restart(worlds, tasks, assigned, out, b)
        else:
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
