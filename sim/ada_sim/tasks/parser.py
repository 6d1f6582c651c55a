"""Reads a task template: one statement a line, each begun by its keyword; errors point at what they did not expect."""

from collections.abc import Callable
from typing import Literal

from ada_sim.constants import TIMESTEP_S
from ada_sim.tasks.drawing import empty_room, read_drawing
from ada_sim.tasks.lexer import Line, TemplateError, Token
from ada_sim.tasks.syntax import (
    Drawing,
    HideLine,
    Kind,
    ObjectLine,
    Place,
    PlayerExpression,
    PredicateExpression,
    RuleLine,
    Template,
    TypeExpression,
    Variable,
)
from ada_sim.tasks.task import COLOURS, MAX_RULES, MAX_SPAWNS, MAX_WORLD_SIZE, SHAPES, Relation

MAX_TRIAL_SECONDS = 120
MAX_OBJECTS_PER_LINE = 16
DEFAULT_APART_M = 2.0

_RELATIONS = {relation.name.lower(): relation for relation in Relation}
_KINDS: dict[str, Kind] = {
    "types": "type",
    "shapes": "shape",
    "colours": "colour",
    "places": "place",
}
_RESERVED = {"player", "anywhere", "nothing", "not", "or", "of", "frozen", *COLOURS, *SHAPES, *_RELATIONS}


def parse(name: str, text: str) -> Template:
    """Return the template that `text` says; raises TemplateError."""
    return _Parser(name, text).parse()


class _Parser:
    """Collects the statements of one template."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.lines = text.expandtabs().splitlines()
        self.variables: dict[str, Variable] = {}
        self.drawing: Drawing | None = None
        self.objects: list[ObjectLine] = []
        self.players: dict[int, Place] = {}
        self.goals: dict[int, PredicateExpression] = {}
        self.rules: list[RuleLine] = []
        self.hides: list[tuple[HideLine, Line, Token]] = []
        self.trial: tuple[int, ...] = ()
        self.apart_m = DEFAULT_APART_M
        self.players_named: list[tuple[int, Line, Token]] = []
        self.places_named: list[tuple[str, Line, Token]] = []
        self.statements: dict[str, Callable[[Line, Token], None]] = {
            "trial": self.read_trial,
            "room": self.read_room,
            "object": self.read_object,
            "objects": self.read_object,
            "player": self.read_player,
            "goal": self.read_goal,
            "rule": self.read_rule,
            "hidden": self.read_hidden_rule,
            "hide": self.read_hide,
            "apart": self.read_apart,
        }

    def parse(self) -> Template:
        index = 0
        while index < len(self.lines):
            line = Line(self.name, index + 1, self.lines[index])
            index += 1
            if line.token.kind == "end":
                continue
            if line.token.text == "world":
                index = self.read_world(line, index)
            elif len(line.tokens) > 1 and line.tokens[1].text in (",", ":"):
                self.read_variables(line)
                line.end()
            else:
                first = line.take()
                if first.text not in self.statements:
                    known = ", ".join(sorted([*self.statements, "world"]))
                    raise line.error(f"a statement ({known}) or variables (`X, Y: distinct types`)", first)
                self.statements[first.text](line, first)
                line.end()
        return self.template()

    def template(self) -> Template:
        """Put the statements together and check what no single line can tell."""
        if self.drawing is None:
            raise self.missing("a world: `room 6x6`, or `world` and a drawing")
        if not self.trial:
            raise self.missing("the length of a trial: `trial 10 s`")
        if 0 not in self.goals:
            raise self.missing("a goal: `goal near(player, black cube)`")
        players = max([0, *self.players]) + 1
        for index, line, token in self.players_named:
            if index >= players:
                raise line.problem(f"there is no player {index + 1}; add `player {index + 1} anywhere`", token)
        known_places = {*self.drawing.places, *(name for name, v in self.variables.items() if v.kind == "place")}
        for place, line, token in self.places_named:
            if place not in known_places:
                known = ", ".join(sorted(known_places)) or "none"
                raise line.problem(f"no place `{place}` is drawn or declared (there are: {known})", token)
        for hide, line, token in self.hides:
            if hide.rule >= len(self.rules):
                raise line.problem(f"there is no rule {hide.rule + 1}; the template has {len(self.rules)}", token)
        if len(self.rules) > MAX_RULES:
            raise self.missing(f"at most {MAX_RULES} rules, not {len(self.rules)}")
        return Template(
            name=self.name,
            drawing=self.drawing,
            variables=tuple(self.variables.values()),
            objects=tuple(self.objects),
            players=tuple(self.players.get(index, Place()) for index in range(players)),
            goals=tuple(self.goals.get(index, self.goals[0]) for index in range(players)),
            rules=tuple(self.rules),
            hides=tuple(hide for hide, _, _ in self.hides),
            trial_timesteps=self.trial,
            apart_m=self.apart_m,
        )

    def missing(self, expected: str) -> TemplateError:
        return TemplateError(self.name, len(self.lines), 1, f"expected {expected}")

    # Statements.

    def read_variables(self, line: Line) -> None:
        names: list[Token] = []
        while True:
            token = line.expect_kind("word", "the name of a variable")
            if token.text in _RESERVED or token.text in self.variables or token.text in [n.text for n in names]:
                raise line.problem(f"`{token.text}` already means something; choose another name", token)
            names.append(token)
            if not line.take_if(","):
                break
        line.expect(":", " after the names of variables")
        if line.take_if("number"):
            low = line.whole_number("the smallest number", 0, MAX_OBJECTS_PER_LINE)
            line.expect("to", " between smallest and largest number")
            high = line.whole_number("the largest number", low, MAX_OBJECTS_PER_LINE)
            kind: Kind = "number"
            choices: tuple[int | str, ...] = tuple(range(low, high + 1))
        else:
            line.take_if("distinct")
            word = line.take()
            plural = word.text if word.text.endswith("s") else word.text + "s"
            if plural not in _KINDS:
                raise line.error("`distinct types`, `shapes`, `colours` or `places`, or `number A to B`", word)
            kind = _KINDS[plural]
            choices = self.read_choices(line, kind)
            if len(choices) < len(names):
                raise line.problem(f"{len(names)} distinct {plural} can't be drawn from {len(choices)}", word)
        for token in names:
            self.variables[token.text] = Variable(token.text, kind, choices)

    def read_choices(self, line: Line, kind: Kind) -> tuple[int | str, ...]:
        """`among ...`, or everything of that kind."""
        if not line.take_if("among"):
            if kind == "place":
                raise line.error("`among` and the places to choose from: `p: place among A, B`")
            whole = {"type": len(COLOURS) * len(SHAPES), "shape": len(SHAPES), "colour": len(COLOURS)}
            return tuple(range(whole[kind]))
        choices: list[int | str] = []
        while True:
            choices += self.read_choice(line, kind)
            if not line.take_if(","):
                return tuple(dict.fromkeys(choices))

    def read_choice(self, line: Line, kind: Kind) -> list[int | str]:
        token = line.expect_kind("word", f"a {kind}")
        if kind == "place":
            self.places_named.append((token.text, line, token))
            return [token.text]
        if kind == "shape" and token.text in SHAPES:
            return [SHAPES.index(token.text)]
        if kind == "colour" and token.text in COLOURS:
            return [COLOURS.index(token.text)]
        if kind == "type" and token.text in SHAPES:
            shape = SHAPES.index(token.text)
            return [shape * len(COLOURS) + colour for colour in range(len(COLOURS))]
        if kind == "type" and token.text in COLOURS:
            colour = COLOURS.index(token.text)
            if line.token.text in SHAPES:
                return [SHAPES.index(line.take().text) * len(COLOURS) + colour]
            return [shape * len(COLOURS) + colour for shape in range(len(SHAPES))]
        raise line.error(f"a {kind}", token)

    def read_trial(self, line: Line, first: Token) -> None:
        seconds: list[int] = []
        while True:
            token = line.expect_kind("number", "seconds")
            if not 1 <= float(token.text) <= MAX_TRIAL_SECONDS:
                raise line.error(f"a trial of 1 to {MAX_TRIAL_SECONDS} s", token)
            seconds.append(round(float(token.text) / TIMESTEP_S))
            if not line.take_if(",", "or"):
                break
        if not line.take_if("s", "seconds"):
            raise line.error("`s` (seconds)")
        self.trial = tuple(seconds)

    def read_room(self, line: Line, first: Token) -> None:
        self.refuse_second_world(line, first)
        size = line.expect_kind("size", "a size such as `6x6` (metres east, metres north)")
        width, depth = (int(side) for side in size.text.split("x"))
        if not all(2 <= side <= MAX_WORLD_SIZE - 2 for side in (width, depth)):
            raise line.error(f"sides from 2 to {MAX_WORLD_SIZE - 2}", size)
        self.drawing = empty_room(width, depth)

    def read_world(self, line: Line, index: int) -> int:
        """Read the indented drawing that begins on line `index` (from 0); return the line behind it."""
        self.refuse_second_world(line, line.take())
        line.end()
        end = index
        while end < len(self.lines) and self.lines[end].startswith(" ") and self.lines[end].strip():
            end += 1
        if end == index:
            raise TemplateError(self.name, index + 1, 1, "expected a drawing of the world, indented, below `world`")
        self.drawing = read_drawing(self.name, index + 1, self.lines[index:end])
        return end

    def refuse_second_world(self, line: Line, token: Token) -> None:
        if self.drawing is not None:
            raise line.problem("the template has a world already", token)

    def read_object(self, line: Line, first: Token) -> None:
        count = self.read_count(line)
        kind = self.read_type(line)
        place = self.read_place(line)
        line.take_if(",")
        self.objects.append(ObjectLine(count, kind, place, line.take_if("frozen"), line.number))

    def read_count(self, line: Line) -> tuple[int, int] | str:
        if line.token.kind == "number":
            low = line.whole_number("a number of objects", 0, MAX_OBJECTS_PER_LINE)
            high = line.whole_number("the most objects", low, MAX_OBJECTS_PER_LINE) if line.take_if("to") else low
            return low, high
        variable = self.variables.get(line.token.text)
        return line.take().text if variable and variable.kind == "number" else (1, 1)

    def read_player(self, line: Line, first: Token) -> None:
        index = line.whole_number("player", 1, 2) - 1 if line.token.kind == "number" else 0
        if index in self.players:
            raise line.problem(f"player {index + 1} has a place already", first)
        self.players[index] = self.read_place(line)

    def read_goal(self, line: Line, first: Token) -> None:
        index = 0
        if line.take_if("of"):
            line.expect("player")
            index = line.whole_number("player", 1, 2) - 1
            line.take_if(":")
            self.players_named.append((index, line, first))
        if index in self.goals:
            raise line.problem(f"player {index + 1} has a goal already", first)
        self.goals[index] = self.read_predicate(line)

    def read_hidden_rule(self, line: Line, first: Token) -> None:
        line.expect("rule", " after `hidden`")
        self.read_rule(line, first, hidden=True)

    def read_rule(self, line: Line, first: Token, hidden: bool = False) -> None:
        condition = self.read_predicate(line)
        line.expect("->", " between the condition and what appears")
        spawns: list[TypeExpression] = []
        if not line.take_if("nothing"):
            spawns.append(self.read_type(line, " or `nothing`"))
            while line.take_if(","):
                extra = line.token
                spawns.append(self.read_type(line))
                if len(spawns) > MAX_SPAWNS:
                    raise line.problem(f"a rule makes at most {MAX_SPAWNS} objects", extra)
        self.rules.append(RuleLine(condition, tuple(spawns), hidden))

    def read_hide(self, line: Line, first: Token) -> None:
        kind: Literal["object", "rule", "predicate"] = "object"
        expression, rule, at = None, -1, line.token
        if line.take_if("predicate"):
            kind = "predicate"
            line.expect("of")
        if line.token.text == "rule":
            line.take()
            kind = "rule" if kind == "object" else kind
            at = line.token
            rule = line.whole_number("the number of a rule", 1, MAX_RULES) - 1
        elif kind == "predicate":
            raise line.error("`rule` and its number")
        else:
            expression = self.read_type(line, ", `rule` or `predicate of rule`")
        player = None
        if line.take_if("from"):
            named = line.expect("player")
            player = line.whole_number("player", 1, 2) - 1
            self.players_named.append((player, line, named))
        self.hides.append((HideLine(kind, expression, rule, player), line, at))

    def read_apart(self, line: Line, first: Token) -> None:
        token = line.expect_kind("number", "a distance in metres")
        if not 0 <= float(token.text) <= MAX_WORLD_SIZE:
            raise line.error(f"a distance from 0 to {MAX_WORLD_SIZE} m", token)
        line.expect("m", " (metres)")
        self.apart_m = float(token.text)

    # Parts of statements.

    def read_place(self, line: Line) -> Place:
        if line.take_if("anywhere"):
            return Place()
        if not line.take_if("at"):
            raise line.error("a place: `anywhere`, `at A`, `at A or B`, or `at 2.5, 3`")
        if line.token.kind == "number":
            x = float(line.take().text)
            line.expect(",", " between metres east and metres north")
            y = float(line.expect_kind("number", "metres north of the inner south-west corner").text)
            return Place(point=(x, y))
        names: list[str] = []
        while True:
            token = line.expect_kind("word", "the name of a place")
            names.append(token.text)
            self.places_named.append((token.text, line, token))
            if not line.take_if("or"):
                return Place(names=tuple(names))

    def read_predicate(self, line: Line) -> PredicateExpression:
        negated = line.take_if("not")
        word = line.take()
        if word.text not in _RELATIONS:
            raise line.error(f"a predicate ({', '.join(_RELATIONS)}, or `not` and one of them)", word)
        relation = _RELATIONS[word.text]
        line.expect("(", f" after `{word.text}`")
        at = line.token
        first = self.read_entity(line)
        line.expect(",", " between the two arguments")
        second = self.read_entity(line)
        line.expect(")", " after the second argument")
        if relation == Relation.HOLD and not isinstance(first, PlayerExpression):
            raise line.error("a player: only players hold", at)
        return PredicateExpression(relation, first, second, negated)

    def read_entity(self, line: Line) -> TypeExpression | PlayerExpression:
        if line.token.text != "player":
            return self.read_type(line, " or `player`")
        token = line.take()
        index = line.whole_number("player", 1, 2) - 1 if line.token.kind == "number" else 0
        self.players_named.append((index, line, token))
        return PlayerExpression(index)

    def read_type(self, line: Line, otherwise: str = "") -> TypeExpression:
        token = line.token
        variable = self.variables.get(token.text)
        if variable is not None and variable.kind == "type":
            return TypeExpression(variable=line.take().text)
        if token.text not in COLOURS and not (variable and variable.kind == "colour"):
            known = ", ".join(name for name, v in self.variables.items() if v.kind == "type")
            also = f", one of the variables {known}" if known else ""
            raise line.error(f"an object type such as `black cube`{also}{otherwise}")
        line.take()
        shape = line.token
        shape_variable = self.variables.get(shape.text)
        if shape.text not in SHAPES and not (shape_variable and shape_variable.kind == "shape"):
            raise line.error(f"a shape ({', '.join(SHAPES)}) after the colour `{token.text}`")
        line.take()
        return TypeExpression(
            colour=token.text if variable else COLOURS.index(token.text),
            shape=shape.text if shape_variable else SHAPES.index(shape.text),
        )
