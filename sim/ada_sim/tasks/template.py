"""Draws tasks from a template: variables, then places; one in five games and layouts is kept for held-out tasks.

Task `number` of a template follows from (key, number, held out) alone, by a counter-based generator.
"""

import zlib
from collections.abc import Iterable

import numpy as np

from ada_sim.tasks.parser import parse
from ada_sim.tasks.placing import Layout, Placer
from ada_sim.tasks.syntax import ObjectLine, PlayerExpression, PredicateExpression, Template, TypeExpression, Variable
from ada_sim.tasks.task import COLOURS, PLAYER_1, Game, Hiding, InitialObject, Predicate, ProductionRule, Task

HELD_OUT_ONE_IN = 5
_DISTINCT_ATTEMPTS = 10_000
_SPLIT_ATTEMPTS = 2_000
_SPLIT_SAMPLE = 256  # draws by which we tell whether a template has games, or layouts, on both sides of the split

Values = dict[str, int | str]


class NothingHeldOutError(ValueError):
    """Held-out tasks were asked of a template that always draws the same task."""


class TemplateTasks:
    """The tasks of one template. `key` is the pool's seed; templates of different names draw differently."""

    def __init__(self, template: Template, key: int = 0) -> None:
        self.template = template
        self.key = (key * 0x9E3779B97F4A7C15 + zlib.crc32(template.name.encode())) % 2**64
        self._placer = Placer(template)
        in_game = tuple(dict.fromkeys(_types_in_game(template)))
        self._types_in_game = len(in_game)
        self._expressions = tuple(dict.fromkeys((*in_game, *_types_beside_game(template))))
        self._variables = [variable for variable in template.variables if variable.kind != "place"]
        self._place_variables = [variable for variable in template.variables if variable.kind == "place"]
        self._splits_games, self._splits_layouts = self._what_splits()

    @property
    def has_held_out(self) -> bool:
        """Whether some games or layouts are kept from training."""
        return self._splits_games or self._splits_layouts

    def task(self, number: int, held_out: bool = False) -> Task:
        """Return task `number` (below 2**63) of the training or of the held-out tasks.

        Raises NothingHeldOutError, and ValueError where the template can't be satisfied.
        """
        if not 0 <= number < 1 << 63:
            raise ValueError(f"template {self.template.name} has tasks 0 to 2**63 - 1, not {number}")
        if held_out and not self.has_held_out:
            raise NothingHeldOutError(
                f"template {self.template.name} draws too few different tasks to hold any out; "
                "add variables (`X, Y: distinct types`) or places to draw from"
            )
        rng = self._generator(number, held_out)
        for _ in range(_SPLIT_ATTEMPTS):
            values = self._assign(rng)
            if not self._splits_games or self._game_is_held_out(values) == held_out:
                break
        lines = self._object_lines(rng, values)
        for _ in range(_SPLIT_ATTEMPTS):
            layout = self._placer.draw(rng, self._assign_places(rng), lines)
            if not self._splits_layouts or _layout_is_held_out(layout) == held_out:
                break
        objects = tuple(
            InitialObject(_type_of(line.type, values), x, y, line.frozen)
            for line, (x, y) in zip(lines, layout.objects, strict=True)
        )
        durations = self.template.trial_timesteps
        timesteps = durations[int(rng.random() * len(durations))]
        game = self._game(values)
        return Task(self.template.drawing.world, game, objects, layout.players, timesteps, self.template.name)

    def _generator(self, number: int, held_out: bool) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=np.array([self.key, number | held_out << 63], np.uint64)))

    def _what_splits(self) -> tuple[bool, bool]:
        """Return whether games, and whether layouts, fall on both sides of the split."""
        games: set[bool] = set()
        layouts: set[bool] = set()
        for sample in range(_SPLIT_SAMPLE):
            rng = self._generator(sample, False)
            values = self._assign(rng)
            if len(games) < 2:
                games.add(self._game_is_held_out(values))
            if len(layouts) < 2:
                layout = self._placer.draw(rng, self._assign_places(rng), self._object_lines(rng, values))
                layouts.add(_layout_is_held_out(layout))
            if len(games) == len(layouts) == 2:
                break
        return len(games) == 2, len(layouts) == 2

    def _assign(self, rng: np.random.Generator) -> Values:
        """Draw the variables, but places, until no two type expressions of the template mean the same type."""
        for _ in range(_DISTINCT_ATTEMPTS):
            values = _distinct(rng, self._variables)
            if values is not None:
                types = [_type_of(expression, values) for expression in self._expressions]
                if len(set(types)) == len(types):
                    return values
        raise ValueError(
            f"template {self.template.name}: found no values that keep its {len(self._expressions)} object types "
            "distinct; use fewer variables or widen their `among`"
        )

    def _assign_places(self, rng: np.random.Generator) -> dict[str, str]:
        for _ in range(_DISTINCT_ATTEMPTS):
            values = _distinct(rng, self._place_variables)
            if values is not None:
                return {name: str(value) for name, value in values.items()}
        names = ", ".join(variable.name for variable in self._place_variables)
        raise ValueError(f"template {self.template.name}: found no distinct places for {names}; widen their `among`")

    def _game_is_held_out(self, values: Values) -> bool:
        """Return the side of the game; all games of a template are alike but for the types in goals and rules."""
        types = [_type_of(expression, values) for expression in self._expressions[: self._types_in_game]]
        return zlib.crc32(bytes(types)) % HELD_OUT_ONE_IN == 0

    def _object_lines(self, rng: np.random.Generator, values: Values) -> list[ObjectLine]:
        """Return each object's line, once per object."""
        lines: list[ObjectLine] = []
        for line in self.template.objects:
            if isinstance(line.count, str):
                count = int(values[line.count])
            else:
                low, high = line.count
                count = low + int(rng.random() * (high - low + 1))
            lines += [line] * count
        return lines

    def _game(self, values: Values) -> Game:
        template = self.template
        return Game(
            goals=tuple(_predicate(goal, values) for goal in template.goals),
            rules=tuple(
                ProductionRule(
                    _predicate(rule.condition, values), tuple(_type_of(spawn, values) for spawn in rule.spawns)
                )
                for rule in template.rules
            ),
            hidings=tuple(self._hiding(player, values) for player in range(len(template.players))),
        )

    def _hiding(self, player: int, values: Values) -> Hiding:
        lines = [hide for hide in self.template.hides if hide.player in (None, player)]
        rules = {index for index, rule in enumerate(self.template.rules) if rule.hidden}
        return Hiding(
            rules=frozenset(rules | {hide.rule for hide in lines if hide.what == "rule"}),
            objects=tuple(dict.fromkeys(_type_of(hide.type, values) for hide in lines if hide.type is not None)),
            predicates=tuple(dict.fromkeys(hide.rule for hide in lines if hide.what == "predicate")),
        )


def read_template(name: str, text: str, key: int = 0) -> TemplateTasks:
    """Return the tasks of the template `text`; raises TemplateError if it can't be read."""
    return TemplateTasks(parse(name, text), key)


def _distinct(rng: np.random.Generator, variables: list[Variable]) -> Values | None:
    """Draw each variable, none (but numbers) equal to another of its kind; None where a choice ran out."""
    values: Values = {}
    taken: set[tuple[str, int | str]] = set()
    for variable in variables:
        free = [choice for choice in variable.choices if (variable.kind, choice) not in taken]
        if not free:
            return None
        values[variable.name] = free[int(rng.random() * len(free))]
        if variable.kind != "number":
            taken.add((variable.kind, values[variable.name]))
    return values


def _layout_is_held_out(layout: Layout) -> bool:
    """Return the side of a layout, to 0.1 m: layouts closer than that count as one."""
    decimetres = [round(10 * part) for point in (*layout.players, *layout.objects) for part in point]
    return zlib.crc32(bytes(decimetres)) % HELD_OUT_ONE_IN == 0


def _type_of(expression: TypeExpression, values: Values) -> int:
    if expression.variable:
        return int(values[expression.variable])
    shape = values[expression.shape] if isinstance(expression.shape, str) else expression.shape
    colour = values[expression.colour] if isinstance(expression.colour, str) else expression.colour
    return int(shape) * len(COLOURS) + int(colour)


def _entity(expression: TypeExpression | PlayerExpression, values: Values) -> int:
    if isinstance(expression, PlayerExpression):
        return PLAYER_1 + expression.index
    return _type_of(expression, values)


def _predicate(expression: PredicateExpression, values: Values) -> Predicate:
    first, second = _entity(expression.first, values), _entity(expression.second, values)
    return Predicate(expression.relation, first, second, expression.negated)


def _types_in_game(template: Template) -> Iterable[TypeExpression]:
    conditions = (*template.goals, *(rule.condition for rule in template.rules))
    arguments = (argument for condition in conditions for argument in (condition.first, condition.second))
    yield from (argument for argument in arguments if isinstance(argument, TypeExpression))
    yield from (spawn for rule in template.rules for spawn in rule.spawns)


def _types_beside_game(template: Template) -> Iterable[TypeExpression]:
    yield from (line.type for line in template.objects)
    yield from (hide.type for hide in template.hides if hide.type is not None)
