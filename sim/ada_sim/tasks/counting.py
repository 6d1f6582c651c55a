"""How many tasks the generator can make, at least: families small enough to count exactly, and all of them possible.

A pool's numbers reach at most 2**62 of them; pools of other seeds reach others.
"""

from math import comb, perm

from ada_api.environment import Environment
from ada_sim.tasks.task import MAX_WORLD_SIZE, NUM_OBJECT_TYPES, Relation

_PLAYER_CONDITIONS = 2 * len(Relation) - 1  # each relation and its negation, but for `not hold`
_OBJECT_CONDITIONS = 2 * (len(Relation) - 1)  # objects don't hold


def distinct_worlds(environment: Environment) -> int:
    """Return how many flat worlds of the largest size have single tiles as walls, no two next to each other.

    They stand on every other tile along x and y, so all floor hangs together and every such world passes the search.
    """
    ranges = environment.world
    if ranges.levels.min > 1:
        return 1
    inner = min(MAX_WORLD_SIZE, ranges.size.max) - 2
    spots = (inner // 2) ** 2
    walls = int(2 * ranges.wall_density * inner**2)
    return sum(comb(spots, count) for count in range(min(spots, walls, 4 * inner) + 1))


def distinct_games(environment: Environment) -> int:
    """Return how many games there are with the longest chain, conditions all with the player, and most dead ends.

    The dead ends are between distractors; a game counts once whatever the order of its rules. Which rules are
    hidden as a whole, and which distractors there are, counts.
    """
    ranges = environment.game
    chain = min(ranges.rules.max, NUM_OBJECT_TYPES - 2)
    conditions: int = _PLAYER_CONDITIONS**chain
    goals_and_chains = 2 * len(Relation) * conditions * perm(NUM_OBJECT_TYPES, chain + 1)
    free = NUM_OBJECT_TYPES - chain - 1
    made = sum(comb(free + count - 1, count) for count in range(3))
    one_dead_end = _OBJECT_CONDITIONS * free * (free - 1) * made
    dead_ends = ranges.dead_ends.max if ranges.distractors.max >= free > 1 else 0
    distractors = comb(ranges.distractors.max - 1, free - 1) if dead_ends else 1
    hidings: int = 2 ** (chain + dead_ends) - 1 if ranges.hiding_probability > 0 else 1
    return goals_and_chains * comb(one_dead_end, dead_ends) * distractors * hidings


def distinct_tasks(environment: Environment) -> int:
    """Return a lower bound on the number of tasks (world and game) that can be generated."""
    return distinct_worlds(environment) * distinct_games(environment)
