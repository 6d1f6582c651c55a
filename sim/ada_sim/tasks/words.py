"""Goals and production rules as sentences for people.

Square brackets mark what is hidden from the player: `When you touch a [black cube], it becomes a yellow pyramid.`
"""

from dataclasses import dataclass

from ada_sim.tasks.metrics import is_hidden
from ada_sim.tasks.task import COLOURS, PLAYER_1, SHAPES, Hiding, Predicate, ProductionRule, Relation, Task

# Relation -> for you, for another; then negated, for you, for another.
_VERBS = {
    Relation.TOUCHING: ("touch", "touches", "don't touch", "doesn't touch"),
    Relation.NEAR: ("are near", "is near", "aren't near", "isn't near"),
    Relation.HOLD: ("hold", "holds", "don't hold", "doesn't hold"),
    Relation.SEE: ("see", "sees", "don't see", "doesn't see"),
}
_IN_VIEW = ("is in view of", "isn't in view of")  # what `see` means between objects
_GOALS = {Relation.TOUCHING: "touch", Relation.NEAR: "be near", Relation.HOLD: "hold", Relation.SEE: "see"}
_NO_HIDING = Hiding()


@dataclass(frozen=True)
class TaskWords:
    """A task in words, as one player has it: `rules` the whole truth, `shown` what the player is told."""

    goal: str
    rules: tuple[str, ...]
    shown: tuple[str, ...]
    hidden: tuple[bool, ...]  # whether any part of the rule is hidden


def describe(task: Task, player: int = 0) -> TaskWords:
    """Return goal and rules in words for `player`, 0 or 1."""
    hiding = task.game.hidings[player]
    rules = list(enumerate(task.game.rules))
    return TaskWords(
        goal=goal_sentence(task.game.goals[player], player),
        rules=tuple(_rule_sentence(index, rule, player, hiding, reveals=True) for index, rule in rules),
        shown=tuple(_rule_sentence(index, rule, player, hiding, reveals=False) for index, rule in rules),
        hidden=tuple(is_hidden(index, rule, hiding) for index, rule in rules),
    )


def type_name(kind: int) -> str:
    """Return what people call an object type: `black cube`."""
    shape, colour = divmod(kind, len(COLOURS))
    return f"{COLOURS[colour]} {SHAPES[shape]}"


def goal_sentence(goal: Predicate, player: int) -> str:
    """Return a goal as an order."""
    second = _noun(goal.second, player, _NO_HIDING, True, "any" if goal.negated else "a")
    if goal.first == PLAYER_1 + player:
        order = f"{_GOALS[goal.relation]} {second}"
        return f"Don't {order}." if goal.negated else f"{order[0].upper()}{order[1:]}."
    article = "no" if goal.negated else "a"
    first = _noun(goal.first, player, _NO_HIDING, True, article)
    # `no black cube is near any ...` has its negation in the article; `the other player isn't near any ...` has not.
    negated = goal.negated and goal.first >= PLAYER_1
    return f"See to it that {first} {_verb(goal.relation, goal.first, player, negated)} {second}."


def _rule_sentence(index: int, rule: ProductionRule, player: int, hiding: Hiding, reveals: bool) -> str:
    if index in hiding.rules:
        whole = _rule_sentence(index, rule, player, _NO_HIDING, True)
        return f"[{whole}]" if reveals else "There is a rule."
    condition = rule.condition
    verb = _verb(condition.relation, condition.first, player, condition.negated)
    if index in hiding.predicates:
        verb = f"[{verb}]" if reveals else f"<predicate {hiding.predicates.index(index) + 1}>"
    first = _noun(condition.first, player, hiding, reveals, "a")
    second = _noun(condition.second, player, hiding, reveals, "a")
    spawns = _listing([_noun(kind, player, hiding, reveals, "a") for kind in rule.spawns])
    objects = sum(entity < PLAYER_1 for entity in (condition.first, condition.second))
    return f"When {first} {verb} {second}, {_outcome(objects, spawns)}."


def _verb(relation: Relation, first: int, player: int, negated: bool) -> str:
    if relation == Relation.SEE and first < PLAYER_1:
        return _IN_VIEW[negated]
    return _VERBS[relation][(0 if first == PLAYER_1 + player else 1) + (2 if negated else 0)]


def _outcome(objects: int, spawns: str) -> str:
    match objects, bool(spawns):
        case 0, False:
            return "nothing happens"
        case 0, True:
            return f"there appears {spawns}"
        case 1, False:
            return "it vanishes"
        case 1, True:
            return f"it becomes {spawns}"
        case _, False:
            return "both vanish"
        case _:
            return f"they become {spawns}"


def _noun(entity: int, player: int, hiding: Hiding, reveals: bool, article: str) -> str:
    if entity >= PLAYER_1:
        return "you" if entity == PLAYER_1 + player else "the other player"
    if entity not in hiding.objects:
        return f"{article} {type_name(entity)}"
    if reveals:
        return f"{article} [{type_name(entity)}]"
    return f"<object {hiding.objects.index(entity) + 1}>"


def _listing(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
