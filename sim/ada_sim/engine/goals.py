"""Goals: whether each player's predicate holds."""

from numba import njit

from ada_sim.engine.rules import find_pair


@njit(cache=True)
def look_at_goals(worlds, tasks, begin, end):  # type: ignore[no-untyped-def]
    """Count this tick for each player whose goal holds: for some pair of its kinds, or, if negated, for none."""
    for b in range(begin, end):
        if not worlds.active[b]:
            continue
        for p in range(worlds.yaw.shape[1]):
            first = tasks.goal[b, p, 1]
            second = tasks.goal[b, p, 2]
            found = False
            if worlds.bodies_of[b, first] != 0 and worlds.bodies_of[b, second] != 0:
                found = find_pair(worlds, tasks, b, tasks.goal[b, p, 0], first, second, True, 0) >= 0
            if found != (tasks.goal[b, p, 3] != 0):
                worlds.in_goal[b, p] += 1
