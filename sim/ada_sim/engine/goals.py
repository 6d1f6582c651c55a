"""Goals: whether each player's predicate holds."""

from numba import njit

from ada_sim.engine.rules import find_pair


@njit(error_model="numpy")
def look_at_goals(w, t):  # type: ignore[no-untyped-def]
    """Count this tick for each player whose goal holds: for some pair of its kinds, or, if negated, for none."""
    for p in range(t.players):
        first = t.goal[p, 1]
        second = t.goal[p, 2]
        found = False
        if w.bodies_of[first] != 0 and w.bodies_of[second] != 0:
            found = find_pair(w, t, t.goal[p, 0], first, second, True, 0) >= 0
        if found != (t.goal[p, 3] != 0):
            w.in_goal[p] += 1
