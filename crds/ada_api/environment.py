"""`spec.environment`: which tasks there are and what the agent sees of them."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from ada_api.base import Model

ActionGroup = Literal["move", "strafe", "turn", "pitch", "grip", "reach"]


@dataclass(frozen=True)
class Bounds:
    """Closed bounds of both ends of an `IntRange`, set by the field that holds it."""

    low: int
    high: int


class IntRange(Model):
    """A closed range of whole numbers, drawn uniformly."""

    min: int = Field(ge=0, le=1_000_000, description="Smallest value.")
    max: int = Field(ge=0, le=1_000_000, description="Largest value; at least `min`.")


WorldSize = Annotated[IntRange, Bounds(6, 24)]
Levels = Annotated[IntRange, Bounds(1, 8)]
Rules = Annotated[IntRange, Bounds(0, 8)]
Distractors = Annotated[IntRange, Bounds(0, 16)]
DeadEnds = Annotated[IntRange, Bounds(0, 8)]
Trials = Annotated[IntRange, Bounds(1, 48)]


class TaskPool(Model):
    """The generated tasks: task i is world i // games, game i % games, both rebuilt from the seed alone."""

    seed: int = Field(0, ge=0, lt=2**53, description="Seed of every world and game of the pool.")
    worlds: int = Field(50_000, ge=1, le=1_000_000_000, description="Number of distinct worlds.")
    games: int = Field(500_000, ge=1, le=1_000_000_000, description="Number of distinct games.")


class WorldRanges(Model):
    """Ranges from which generated worlds are drawn."""

    size: WorldSize = Field(IntRange(min=8, max=24), description="Tiles (1 m) along a side, walls included; 6 to 24.")
    levels: Levels = Field(
        IntRange(min=1, max=4), description="Height levels of the terrain, 1 to 8; 1 is a flat world."
    )
    wall_density: float = Field(0.1, ge=0, le=0.4, description="Share of inner tiles that are walls.")


class GameRanges(Model):
    """Ranges from which generated games are drawn (AdA, appendix A.2)."""

    rules: Rules = Field(IntRange(min=1, max=4), description="Length of the chain of production rules; 0 to 8.")
    distractors: Distractors = Field(IntRange(min=0, max=10), description="Distractor objects; 0 to 16.")
    dead_ends: DeadEnds = Field(IntRange(min=0, max=2), description="Production rules that lead to a dead end; 0 to 8.")
    hiding_probability: float = Field(0.75, ge=0, le=1, description="Share of games in which something is hidden.")
    frozen_probability: float = Field(0.0, ge=0, le=1, description="Chance that a type of initial object is frozen.")


class ConfigMapKey(Model):
    """One key of a ConfigMap in the experiment's namespace."""

    name: str = Field(min_length=1, max_length=253, description="Name of the ConfigMap.")
    key: str = Field(min_length=1, max_length=253, description="Key whose value is the text.")


class TaskTemplate(Model):
    """A task as text, with variables, from which any number of tasks is drawn."""

    name: str = Field(
        min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", description="Name, for reports."
    )
    weight: float = Field(1.0, gt=0, le=1_000_000, description="Relative share of tasks drawn from this template.")
    text: str | None = Field(None, min_length=1, max_length=65_536, description="The template (docs/tasks.md).")
    config_map: ConfigMapKey | None = Field(None, description="Where the text is, if not inline.")


class Environment(Model):
    """The task space and the observation of it."""

    observation: Literal["symbolic", "pixels"] = Field("pixels", description="What the agent sees.")
    players: int = Field(1, ge=1, le=2, description="Players in each task.")
    trials: Trials = Field(IntRange(min=1, max=6), description="Trials an episode, drawn with each task; 1 to 48.")
    trial_seconds: list[Annotated[int, Field(ge=1, le=120)]] = Field(
        [10, 25, 40],
        min_length=1,
        max_length=16,
        description="Durations of a trial of generated tasks, drawn uniformly; 1 to 120 s, ascending.",
    )
    action_groups: list[ActionGroup] = Field(
        ["move", "strafe", "turn", "pitch", "grip", "reach"],
        min_length=1,
        max_length=6,
        description="The groups the agent controls; the others rest.",
    )
    task_pool: TaskPool = Field(TaskPool(), description="The generated tasks.")
    world: WorldRanges = Field(WorldRanges(), description="Ranges of the generated worlds.")
    game: GameRanges = Field(GameRanges(), description="Ranges of the generated games.")
    templates: list[TaskTemplate] = Field([], max_length=64, description="Task templates drawn beside the pool.")
    generated_weight: float = Field(
        1.0, ge=0, le=1_000_000, description="Weight of generated tasks against the templates' weights; 0 for none."
    )
