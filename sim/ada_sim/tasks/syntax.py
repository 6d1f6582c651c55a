"""What a task template says, once read: plain frozen data, nothing drawn yet (docs/tasks.md has the language)."""

from dataclasses import dataclass, field
from typing import Literal

from ada_sim.tasks.task import Relation, World

Kind = Literal["type", "shape", "colour", "number", "place"]


@dataclass(frozen=True)
class Variable:
    """A name and what it may stand for; variables of one kind never take the same value."""

    name: str
    kind: Kind
    choices: tuple[int | str, ...]


@dataclass(frozen=True)
class TypeExpression:
    """An object type: either one variable, or a colour and a shape, each an index or a variable's name."""

    variable: str = ""
    colour: int | str = 0
    shape: int | str = 0


@dataclass(frozen=True)
class PlayerExpression:
    """A player as argument of a predicate; index 0 or 1."""

    index: int


@dataclass(frozen=True)
class PredicateExpression:
    """`relation(first, second)` or its negation."""

    relation: Relation
    first: TypeExpression | PlayerExpression
    second: TypeExpression | PlayerExpression
    negated: bool


@dataclass(frozen=True)
class RuleLine:
    """One production rule, and whether all players are shown only that it exists."""

    condition: PredicateExpression
    spawns: tuple[TypeExpression, ...]
    hidden: bool


@dataclass(frozen=True)
class Place:
    """Where something stands: a point (m, inside the outer wall), one of several named places, or anywhere."""

    point: tuple[float, float] | None = None
    names: tuple[str, ...] = ()

    @property
    def is_anywhere(self) -> bool:
        """Whether the place is drawn from the whole world."""
        return self.point is None and not self.names


@dataclass(frozen=True)
class ObjectLine:
    """Some objects of one type; `count` is a closed range or the name of a number variable."""

    count: tuple[int, int] | str
    type: TypeExpression
    place: Place
    frozen: bool
    line: int


@dataclass(frozen=True)
class HideLine:
    """Something hidden from one player, or from all (None)."""

    what: Literal["object", "rule", "predicate"]
    type: TypeExpression | None
    rule: int
    player: int | None


@dataclass(frozen=True)
class Drawing:
    """A world read from characters: its topology, and the tiles (i, j) that each place name stands on."""

    world: World
    places: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Template:
    """A whole template; from it any number of tasks is drawn."""

    name: str
    drawing: Drawing
    variables: tuple[Variable, ...]
    objects: tuple[ObjectLine, ...]
    players: tuple[Place, ...]
    goals: tuple[PredicateExpression, ...]
    rules: tuple[RuleLine, ...]
    hides: tuple[HideLine, ...]
    trial_timesteps: tuple[int, ...]
    apart_m: float
