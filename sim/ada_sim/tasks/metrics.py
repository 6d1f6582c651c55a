"""Twelve figures that describe a task, as AdA plots them for its curricula, and the search for a shortest plan.

AdA names the figures without defining them; the definitions are ours, chosen so that they explain AdA's means:

    productive rule   makes an object that the goal, or another productive rule, takes
    plan              a shortest sequence of productive rules after which the goal can hold; empty for a negated goal
    critical rule     one that the plan fires
    dead-end rule     one that is not productive
    dangerous rule    takes for good an object that the goal or a (further) critical rule needs, or, itself not
                      critical, leads to objects of a negated goal
    hidden rule       one of which player 1 is not shown everything
    distractor        an initial object of a type that neither the goal nor any rule's condition names
"""

from collections import Counter, deque

from ada_sim.tasks.task import NUM_OBJECT_TYPES, PLAYER_1, Game, Hiding, Predicate, ProductionRule, Task

METRICS = (
    "num_rules",
    "num_trials",
    "min_rules_to_trigger",
    "hidden_critical_rules",
    "dead_end_rules",
    "hidden_dead_end_rules",
    "initial_objects",
    "distractor_objects",
    "dangerous_rules",
    "hidden_dangerous_rules",
    "critical_dangerous_rules",
    "max_rule_repetitions",
)

# Means over AdA's test tasks, which have the distribution of its pool (its figure on emergent curricula).
PAPER_MEANS = dict(zip(METRICS, (3.35, 3.49, 1.77, 1.12, 0.81, 0.45, 7.50, 3.56, 1.12, 0.64, 0.00, 1.00), strict=True))

_MOST_OF_A_TYPE = 8
_MOST_STATES = 20_000

Counts = tuple[int, ...]


def metrics_of(task: Task, trials: int) -> dict[str, float]:
    """Return the figures of METRICS for `task` in an episode of `trials`."""
    rules, hiding = task.game.rules, task.game.hidings[0]
    plan = shortest_plan(task) or ()
    critical = set(plan)
    productive = productive_rules(task.game)
    dead_ends = set(range(len(rules))) - productive
    dangerous = {index for index in range(len(rules)) if _is_dangerous(index, task.game, critical, productive)}
    hidden = {index for index in range(len(rules)) if is_hidden(index, rules[index], hiding)}
    named = {kind for goal in task.game.goals for kind in _objects(goal)}
    named |= {kind for rule in rules for kind in _objects(rule.condition)}
    figures = (
        len(rules),
        trials,
        len(plan),
        len(critical & hidden),
        len(dead_ends),
        len(dead_ends & hidden),
        len(task.objects),
        sum(thing.type not in named for thing in task.objects),
        len(dangerous),
        len(dangerous & hidden),
        len(dangerous & critical),
        max([1, *Counter(plan).values()]),
    )
    return dict(zip(METRICS, map(float, figures), strict=True))


def shortest_plan(task: Task) -> tuple[int, ...] | None:
    """Return indices of rules that, fired in this order, let player 1's goal hold; None if there are none.

    Breadth first over how many objects of each type there are; whether a condition can be brought about in the world
    is left to the world (`walking`). A negated goal holds at the beginning or can be made to.
    """
    goal = task.game.goals[0]
    if goal.negated:
        return ()
    rules = [(index, task.game.rules[index]) for index in sorted(productive_rules(task.game))]
    present = Counter(thing.type for thing in task.objects)
    start = tuple(min(_MOST_OF_A_TYPE, present[kind]) for kind in range(NUM_OBJECT_TYPES))
    seen = {start}
    queue: deque[tuple[Counts, tuple[int, ...]]] = deque([(start, ())])
    while queue and len(seen) < _MOST_STATES:
        counts, plan = queue.popleft()
        if _are_present(goal, counts):
            return plan
        for index, rule in rules:
            if _are_present(rule.condition, counts):
                after = _fire(rule, counts)
                if after not in seen:
                    seen.add(after)
                    queue.append((after, (*plan, index)))
    return None


def productive_rules(game: Game) -> set[int]:
    """Return the indices of rules that make something which the goals, or other such rules, take."""
    wanted = {kind for goal in game.goals for kind in _objects(goal)}
    productive: set[int] = set()
    while True:
        found = {
            index
            for index, rule in enumerate(game.rules)
            if index not in productive and wanted.intersection(rule.spawns) and not _gives_back_only(rule, wanted)
        }
        if not found:
            return productive
        productive |= found
        wanted |= {kind for index in found for kind in _objects(game.rules[index].condition)}


def is_hidden(index: int, rule: ProductionRule, hiding: Hiding) -> bool:
    """Return whether any part of rule `index` is hidden."""
    types = {*_objects(rule.condition), *rule.spawns}
    return index in hiding.rules or index in hiding.predicates or bool(types.intersection(hiding.objects))


def _gives_back_only(rule: ProductionRule, wanted: set[int]) -> bool:
    """Return whether all that is wanted of the rule's spawns is what it took."""
    made = Counter(rule.spawns)
    made.subtract(_objects(rule.condition))
    return not any(made[kind] > 0 for kind in wanted)


def _is_dangerous(index: int, game: Game, critical: set[int], productive: set[int]) -> bool:
    rule = game.rules[index]
    others = [game.rules[other].condition for other in critical if other != index]
    goals = [goal for goal in game.goals if not goal.negated]
    needed = {kind for predicate in (*goals, *others) for kind in _objects(predicate)}
    takes_needed = any(kind in needed and kind not in rule.spawns for kind in _objects(rule.condition))
    leads_astray = index in productive and all(goal.negated for goal in game.goals)
    return takes_needed or (leads_astray and index not in critical)


def _objects(predicate: Predicate) -> list[int]:
    return [entity for entity in (predicate.first, predicate.second) if entity < PLAYER_1]


def _are_present(predicate: Predicate, counts: Counts) -> bool:
    objects = _objects(predicate)
    return all(counts[kind] >= objects.count(kind) for kind in objects)


def _fire(rule: ProductionRule, counts: Counts) -> Counts:
    after = list(counts)
    for kind in _objects(rule.condition):
        after[kind] -= 1
    for kind in rule.spawns:
        after[kind] = min(_MOST_OF_A_TYPE, after[kind] + 1)
    return tuple(after)
