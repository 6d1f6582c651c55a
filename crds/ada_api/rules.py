"""What a schema can't say: rules between fields, each once as CEL for the API server and once as Python for a file.

Both sides of a rule stand next to each other and share one message; tests run the same bad inputs through both.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ada_api.base import Model
from ada_api.curriculum import PrioritisedLevelReplay
from ada_api.environment import Bounds, Environment, IntRange, TaskTemplate
from ada_api.experiment import MAX_STAGES, ExperimentSpec
from ada_api.operations import Evaluation, Scheduling
from ada_api.stages import AgentModel, Algorithm, CoPlayer, Distillation, Nodes, Stage

Found = tuple[str, Any]  # path of the field below the rule's object, and its value


@dataclass(frozen=True)
class Rule:
    """A claim about one object of the resource."""

    about: type[Model]
    cel: str  # true where all is well; `self` is the object
    message: str
    check: Callable[[Any], Iterator[Found]]  # yields what breaks the rule
    field: str = ""  # where the CEL rule hangs below the object; the object itself if empty


@dataclass(frozen=True)
class Frozen:
    """A field that keeps the value the experiment was created with."""

    about: type[Model]
    field: str  # path below the object, as on the wire
    optional: bool = False

    @property
    def cel(self) -> str:
        """Return the transition rule; it hangs on the object, because a field may come or go."""
        mine, old = f"self.{self.field}", f"oldSelf.{self.field}"
        if not self.optional:
            return f"{mine} == {old}"
        return f"has({mine}) == has({old}) && (!has({mine}) || {mine} == {old})"

    @property
    def message(self) -> str:
        """Return why the change is refused and what helps."""
        return f"{self.field} can't change after creation: create another experiment"


def _range(found: Any) -> Iterator[Found]:
    if found.min > found.max:
        yield "min", found.min


def _archive(plr: PrioritisedLevelReplay) -> Iterator[Found]:
    if plr.min_archive_size > plr.archive_size:
        yield "minArchiveSize", plr.min_archive_size


def _one_source(template: TaskTemplate) -> Iterator[Found]:
    if (template.text is None) == (template.config_map is None):
        yield "", template.name


def _some_task(environment: Environment) -> Iterator[Found]:
    if environment.generated_weight == 0 and not environment.templates:
        yield "generatedWeight", environment.generated_weight


def _room_for_games(environment: Environment) -> Iterator[Found]:
    size, rules = environment.world.size.max, environment.game.rules.max
    if environment.generated_weight > 0 and ((size - 1) // 2) ** 2 < environment.players + rules + 2:
        yield "world.size.max", size


def _distinct_templates(environment: Environment) -> Iterator[Found]:
    return _repeated("templates", "name", [template.name for template in environment.templates])


def _distinct_groups(environment: Environment) -> Iterator[Found]:
    for position, group in enumerate(environment.action_groups):
        if group in environment.action_groups[:position]:
            yield f"actionGroups[{position}]", group


def _one_teacher(distillation: Distillation) -> Iterator[Found]:
    if (distillation.teacher is None) == (distillation.checkpoint is None):
        yield "", distillation.teacher


def _whole_heads(model: AgentModel) -> Iterator[Found]:
    if model.width is not None and model.heads is not None and model.width % model.heads:
        yield "heads", model.heads


def _consistency_without_model(algorithm: Algorithm) -> Iterator[Found]:
    if algorithm.name != "muesli" and algorithm.muesli.consistency_weight > 0:
        yield "muesli.consistencyWeight", algorithm.muesli.consistency_weight


def _frozen_from_a_checkpoint(co_player: CoPlayer) -> Iterator[Found]:
    if (co_player.kind == "frozen") != (co_player.checkpoint is not None):
        yield "checkpoint", co_player.kind


def _seat_for_a_co_player(spec: ExperimentSpec) -> Iterator[Found]:
    for position, stage in enumerate(spec.stages):
        if stage.co_player.kind != "self" and spec.environment.players < 2:
            yield f"stages[{position}].coPlayer.kind", stage.co_player.kind


def _simulator_for_each_worker(stage: Stage) -> Iterator[Found]:
    if stage.simulators.replicas < stage.trainer.nodes.max * stage.trainer.workers_per_node:
        yield "simulators.replicas", stage.simulators.replicas


def _world_for_each_simulator(stage: Stage) -> Iterator[Found]:
    if stage.algorithm.worlds < stage.simulators.replicas:
        yield "algorithm.worlds", stage.algorithm.worlds


def _distinct_stages(spec: ExperimentSpec) -> Iterator[Found]:
    return _repeated("stages", "name", [stage.name for stage in spec.stages])


def _earlier_teacher(spec: ExperimentSpec) -> Iterator[Found]:
    for position, stage in enumerate(spec.stages):
        teacher = stage.distillation.teacher if stage.distillation else None
        if teacher is not None and teacher not in [earlier.name for earlier in spec.stages[:position]]:
            yield f"stages[{position}].distillation.teacher", teacher


def _gate_of_a_stage(spec: ExperimentSpec) -> Iterator[Found]:
    for position, gate in enumerate(spec.evaluation.gates):
        if gate.stage not in [stage.name for stage in spec.stages]:
            yield f"evaluation.gates[{position}].stage", gate.stage


def _distinct_gates(evaluation: Evaluation) -> Iterator[Found]:
    return _repeated("gates", "stage", [(gate.stage, gate.trials) for gate in evaluation.gates])


def _gate_is_measured(evaluation: Evaluation) -> Iterator[Found]:
    for position, gate in enumerate(evaluation.gates):
        if gate.trials not in evaluation.trials:
            yield f"gates[{position}].trials", gate.trials


def _queue_of_kueue(scheduling: Scheduling) -> Iterator[Found]:
    if scheduling.gang == "kueue" and scheduling.queue_name is None:
        yield "queueName", None


def _fitness_without_model(spec: ExperimentSpec) -> Iterator[Found]:
    measured = spec.curriculum.method == "plr" and spec.curriculum.plr.fitness != "td-error"
    if measured and any(stage.algorithm.name != "muesli" for stage in spec.stages):
        yield "curriculum.plr.fitness", spec.curriculum.plr.fitness


def _repeated(path: str, key: str, values: list[Any]) -> Iterator[Found]:
    for position, value in enumerate(values):
        if value in values[:position]:
            yield f"{path}[{position}].{key}", value


def _ascending(path: str, read: Callable[[Any], list[int]]) -> Callable[[Any], Iterator[Found]]:
    def check(found: Any) -> Iterator[Found]:
        values = read(found)
        for position in range(1, len(values)):
            if values[position] <= values[position - 1]:
                yield f"{path}[{position}]", values[position]

    return check


# CEL has no index in a loop over a list, and a search for one costs more than the API server allows.
_POSITIONS = str(list(range(MAX_STAGES)))
ASCENDING_CEL = "self.isSorted() && self.all(x, self.exists_one(y, y == x))"
ASCENDING_MESSAGE = "must ascend, each number once"

RULES: tuple[Rule, ...] = (
    Rule(IntRange, "self.min <= self.max", "min must be at most max", _range),
    Rule(Nodes, "self.min <= self.max", "min must be at most max", _range),
    Rule(
        PrioritisedLevelReplay,
        "self.minArchiveSize <= self.archiveSize",
        "minArchiveSize must be at most archiveSize",
        _archive,
    ),
    Rule(
        TaskTemplate,
        "has(self.text) != has(self.configMap)",
        "a template needs either text or configMap, not both",
        _one_source,
    ),
    Rule(
        Environment,
        "self.generatedWeight > 0.0 || self.templates.size() > 0",
        "there are no tasks: set generatedWeight above 0 or name templates",
        _some_task,
    ),
    Rule(  # a chain of n rules needs at most n + 2 objects, and nothing stands beside anything else
        Environment,
        "self.generatedWeight == 0.0 || ((self.world.size.max - 1) / 2) * ((self.world.size.max - 1) / 2) "
        ">= self.players + self.game.rules.max + 2",
        "world.size.max is too small for the objects that game.rules.max needs: allow larger worlds or fewer rules",
        _room_for_games,
    ),
    Rule(
        Environment,
        "self.all(t, self.exists_one(u, u.name == t.name))",
        "two templates have this name: each needs its own",
        _distinct_templates,
        "templates",
    ),
    Rule(
        Environment,
        ASCENDING_CEL,
        ASCENDING_MESSAGE,
        _ascending("trialSeconds", lambda e: list(e.trial_seconds)),
        "trialSeconds",
    ),
    Rule(
        Environment,
        "self.all(g, self.exists_one(h, h == g))",
        "an action group is listed twice",
        _distinct_groups,
        "actionGroups",
    ),
    Rule(
        Distillation,
        "has(self.teacher) != has(self.checkpoint)",
        "distillation needs either teacher (an earlier stage) or checkpoint, not both",
        _one_teacher,
    ),
    Rule(
        AgentModel,
        "!has(self.width) || !has(self.heads) || self.width % self.heads == 0",
        "heads must divide width",
        _whole_heads,
    ),
    Rule(
        CoPlayer,
        "(self.kind == 'frozen') == has(self.checkpoint)",
        "a frozen co-player needs checkpoint, and no other kind has one",
        _frozen_from_a_checkpoint,
    ),
    Rule(
        ExperimentSpec,
        "self.environment.players > 1 || self.stages.all(s, s.coPlayer.kind == 'self')",
        "a co-player needs tasks of two players: set environment.players to 2, or coPlayer.kind to self",
        _seat_for_a_co_player,
    ),
    Rule(
        Algorithm,
        "self.name == 'muesli' || self.muesli.consistencyWeight == 0.0",
        "consistencyWeight needs the model of algorithm muesli: use it, or leave the weight at 0",
        _consistency_without_model,
    ),
    Rule(
        Stage,
        "self.simulators.replicas >= self.trainer.nodes.max * self.trainer.workersPerNode",
        "simulators.replicas must be at least trainer.nodes.max * trainer.workersPerNode: each worker needs its own",
        _simulator_for_each_worker,
    ),
    Rule(
        Stage,
        "self.algorithm.worlds >= self.simulators.replicas",
        "algorithm.worlds must be at least simulators.replicas: each simulator needs a world",
        _world_for_each_simulator,
    ),
    Rule(
        ExperimentSpec,
        "self.all(s, self.exists_one(t, t.name == s.name))",
        "two stages have this name: each needs its own",
        _distinct_stages,
        "stages",
    ),
    Rule(
        ExperimentSpec,
        f"{_POSITIONS}.all(i, i >= self.size() || !has(self[i].distillation) || !has(self[i].distillation.teacher) || "
        f"{_POSITIONS}.exists(j, j < i && self[j].name == self[i].distillation.teacher))",
        "distillation.teacher must name an earlier stage",
        _earlier_teacher,
        "stages",
    ),
    Rule(
        ExperimentSpec,
        "self.evaluation.gates.all(g, self.stages.exists(s, s.name == g.stage))",
        "evaluation.gates must name stages of this experiment",
        _gate_of_a_stage,
    ),
    Rule(
        ExperimentSpec,
        "self.curriculum.method != 'plr' || self.curriculum.plr.fitness == 'td-error' || "
        "self.stages.all(s, s.algorithm.name == 'muesli')",
        "fitness value-model and action-model need the model of algorithm muesli in every stage: use it, or td-error",
        _fitness_without_model,
    ),
    Rule(
        Evaluation,
        "self.all(g, self.exists_one(h, h.stage == g.stage && h.trials == g.trials))",
        "two gates are about this stage and number of trials: keep one",
        _distinct_gates,
        "gates",
    ),
    Rule(
        Evaluation,
        "self.gates.all(g, g.trials in self.trials)",
        "a gate's trials must be one of evaluation.trials, else it is never measured",
        _gate_is_measured,
    ),
    Rule(Evaluation, ASCENDING_CEL, ASCENDING_MESSAGE, _ascending("trials", lambda e: list(e.trials)), "trials"),
    Rule(
        Scheduling,
        "self.gang != 'kueue' || has(self.queueName)",
        "gang kueue needs queueName, the local queue that admits the pods",
        _queue_of_kueue,
    ),
)

STAGES_STAY_CEL = (
    f"oldSelf.size() <= self.size() && {_POSITIONS}.all(i, i >= oldSelf.size() || self[i].name == oldSelf[i].name)"
)
STAGES_STAY_MESSAGE = "stages can't be removed, renamed or moved: append new ones at the end"

# What was learned so far depends on these; nodes, resources, intervals, retention, gates and suspend may change.
FROZEN: tuple[Frozen, ...] = (
    Frozen(ExperimentSpec, "seed"),
    Frozen(ExperimentSpec, "environment"),
    Frozen(ExperimentSpec, "curriculum"),
    Frozen(ExperimentSpec, "evaluation.tasks"),
    Frozen(ExperimentSpec, "evaluation.trials"),
    Frozen(ExperimentSpec, "evaluation.repetitions"),
    Frozen(ExperimentSpec, "evaluation.probeTasks"),
    Frozen(ExperimentSpec, "checkpoint.store", optional=True),
    Frozen(Stage, "model"),
    Frozen(Stage, "algorithm"),
    Frozen(Stage, "frames"),
    Frozen(Stage, "distillation", optional=True),
    Frozen(Stage, "warmStart", optional=True),
    Frozen(Stage, "coPlayer"),
)


def broken(part: Model, path: str) -> Iterator[tuple[str, Any, str]]:
    """Yield path, value and message of every broken rule in a part of the resource and in all parts below it."""
    for rule in RULES:
        if type(part) is rule.about:
            for below, value in rule.check(part):
                yield _join(path, below), value, rule.message
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        children = enumerate(value) if isinstance(value, list) else [(None, value)]
        for position, child in children:
            if isinstance(child, Model):
                index = "" if position is None else f"[{position}]"
                yield from broken(child, _join(path, f"{field.alias or name}{index}"))
                for bounds in field.metadata:
                    yield from _outside(child, bounds, _join(path, f"{field.alias or name}"))


def _outside(child: Model, bounds: Any, path: str) -> Iterator[tuple[str, Any, str]]:
    """Yield the ends of a range that leave the bounds its field gives it."""
    if isinstance(child, IntRange) and isinstance(bounds, Bounds):
        for end in ("min", "max"):
            value = getattr(child, end)
            if not bounds.low <= value <= bounds.high:
                yield f"{path}.{end}", value, f"must be {bounds.low} to {bounds.high}"


def _join(path: str, below: str) -> str:
    return re.sub(r"^\.|\.$", "", f"{path}.{below}")
