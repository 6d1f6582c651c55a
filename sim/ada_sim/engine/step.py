"""The schedule: what happens in a timestep, in order."""

import numpy as np
from numba import njit

from ada_sim.constants import TICKS_PER_TIMESTEP
from ada_sim.engine.bits import prefetch
from ada_sim.engine.bodies import move_objects
from ada_sim.engine.contacts import separate_bodies
from ada_sim.engine.episodes import begin_episode, begin_step, begin_trial, end_step
from ada_sim.engine.goals import look_at_goals
from ada_sim.engine.gripping import use_hands
from ada_sim.engine.movement import move_players, settle_players
from ada_sim.engine.publishing import publish
from ada_sim.engine.rules import fire_rules
from ada_sim.engine.sharing import are_open_again, take_some, tell_done, wait_for
from ada_sim.engine.types import SIGHT, TASK, WORLD


def _lines(record: np.dtype[np.void], parts: tuple[tuple[str, int], ...]) -> np.ndarray:
    """Return where in a record the cache lines begin that hold the first so many bytes from these fields on."""
    assert record.fields is not None
    starts = [record.fields[name][1] + line for name, size in parts for line in range(0, size, 64)]
    return np.array(starts, np.int64)


HOT_IN_WORLD = _lines(WORLD, (("active", 1070), ("velocity", 192), ("beside", 128), ("watch", 256), ("spent", 128)))
HOT_IN_SIGHT = _lines(SIGHT, (("objects", 640),))
HOT_IN_TASK = _lines(
    TASK, (("present", 448), ("ramp_lines", 256), ("around", 384), ("cell", 384), ("sight_lines", 384))
)


@njit(error_model="numpy")
def ask_ahead(w, t, sight, tick):  # type: ignore[no-untyped-def]
    """Let the memory of the next world travel while this one is worked on: a batch is larger than the near caches.

    A part with each tick: a processor asks for a dozen lines at once, and waits if it is to ask for more.
    """
    for n in range(tick, len(HOT_IN_WORLD), TICKS_PER_TIMESTEP):
        prefetch(w, HOT_IN_WORLD[n])
    for n in range(tick, len(HOT_IN_TASK), TICKS_PER_TIMESTEP):
        prefetch(t, HOT_IN_TASK[n])
    for n in range(tick, len(HOT_IN_SIGHT), TICKS_PER_TIMESTEP):
        prefetch(sight, HOT_IN_SIGHT[n])


@njit(inline="always", error_model="numpy")
def advance_some(  # type: ignore[no-untyped-def]
    worlds, tasks, assigned, one, out, rows, actions, chosen, first, last, restarts, symbolic
):
    """Advance the worlds chosen[first] to chosen[last - 1], as `advance` says."""
    for n in range(first, last):
        b = chosen[n]
        after = chosen[min(n + 1, last - 1)]
        w = worlds[b]
        t = tasks[b]
        begin_step(w, one)
        over = True
        if w.active and not restarts:
            for p in range(actions.shape[1]):
                for group in range(actions.shape[2]):
                    w.action[p, group] = actions[b, p, group]
            for tick in range(TICKS_PER_TIMESTEP):
                ask_ahead(worlds[after], tasks[after], rows.sight[after, 0], tick)
                move_players(w, t)
                use_hands(w, t)
                move_objects(w, t)
                separate_bodies(w, t)
                fire_rules(w, t)
                look_at_goals(w, t)
            settle_players(w, t)
            over = end_step(w, t, one)
        if over:
            waits = assigned[b].present
            begin_episode(w, waits, one)
            if waits:
                tasks[b] = assigned[b]
                assigned[b].present = 0
                begin_trial(w, t)
        publish(w, t, one, out, rows, b, symbolic)


# Without numba's runtime: it would count references to the arrays of `out` each time that one is used, atomically.
@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)  # type: ignore[call-overload]
def advance(worlds, tasks, assigned, told, out, rows, actions, chosen, progress, restarts, symbolic, helps):  # type: ignore[no-untyped-def]
    """Advance the chosen worlds (int64 [N]) by one timestep, or, if `restarts`, end their episodes and start the next.

    Worlds share nothing, so any choice and split of them gives the same bits. One function for both, compiled once.
    Threads that share a `progress` (PROGRESS [1]) take worlds by turns (`sharing`): one returns when all are done,
    those that only help when nothing is left and no other step comes soon.
    `told` (a TOLD [1], one a thread) is where a world's step is written down; systems take records, which are single
    pointers, `rows` of what comes out among them, and never the many arrays of `out`.
    """
    p = progress[0]
    stays = True
    while stays:
        first = take_some(p)
        while first < len(chosen):
            last = min(first + p.block, len(chosen))
            advance_some(worlds, tasks, assigned, told[0], out, rows, actions, chosen, first, last, restarts, symbolic)
            tell_done(p, last - first)
            first = take_some(p)
        stays = helps and are_open_again(p, len(chosen))
    if not helps:
        wait_for(p, len(chosen))


@njit(cache=True, nogil=True, error_model="numpy")
def take_actions(given, kept, controlled, sizes):  # type: ignore[no-untyped-def]
    """Copy the choices (int8 [B, P, 6]) of the controlled groups; returns -1, or where the first wrong one is."""
    for b in range(given.shape[0]):
        for p in range(given.shape[1]):
            for group in range(given.shape[2]):
                if given[b, p, group] < 0 or given[b, p, group] >= sizes[group]:
                    return (b * given.shape[1] + p) * given.shape[2] + group
    for b in range(given.shape[0]):
        for p in range(given.shape[1]):
            for group in range(given.shape[2]):
                if controlled[group]:
                    kept[b, p, group] = given[b, p, group]
    return -1
