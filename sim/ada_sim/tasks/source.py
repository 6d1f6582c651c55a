"""Every task of an experiment by number, generated and from templates alike; the only door of other parts to tasks.

A task's number is 64 bits; nothing but the experiment's `environment` is needed to rebuild the task from it:

    bit 63      held out
    bit 62      from a template
    template:   bits 48..61 index of the template, bits 0..47 number within it
    generated:  bits 0..61  world * games + game
"""

from collections import OrderedDict

import numpy as np

from ada_api.environment import Environment, TaskTemplate
from ada_sim.tasks.generator import Generator
from ada_sim.tasks.metrics import metrics_of
from ada_sim.tasks.random import hash_of
from ada_sim.tasks.task import Task
from ada_sim.tasks.template import TemplateTasks, read_template

HELD_OUT_BIT = 1 << 63
TEMPLATE_BIT = 1 << 62
_INDEX_SHIFT = 48
_NUMBER_MASK = (1 << _INDEX_SHIFT) - 1
_INDEX_MASK = (1 << 14) - 1

CACHED_TASKS = 4096
_TRIALS_STREAM = 0x7472_6961_6C73


def template_task(index: int, number: int = 0) -> int:
    """Return the number, among an experiment's tasks, of a training task of its template `index` (from 0)."""
    return TEMPLATE_BIT | index << _INDEX_SHIFT | number


def template_of(number: int) -> int | None:
    """Return which of an experiment's templates (from 0) a task's number is of; None for a generated task."""
    return number >> _INDEX_SHIFT & _INDEX_MASK if number & TEMPLATE_BIT else None


class TaskSource:
    """The tasks of one experiment. Pure: a number always means the same task; tasks lately asked for are kept."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self._seed = environment.task_pool.seed
        self._templates = [_template_tasks(template, environment) for template in environment.templates]
        self._generator = Generator(environment)
        weights = [environment.generated_weight, *(template.weight for template in environment.templates)]
        self._shares = _cumulative(weights, "no tasks to draw: generatedWeight is 0 and there are no templates")
        can_hold_out = [True, *(tasks.has_held_out for tasks in self._templates)]
        self._held_out_weights = [w if can else 0.0 for w, can in zip(weights, can_hold_out, strict=True)]
        self._cache: OrderedDict[int, Task] = OrderedDict()

    def task(self, number: int) -> Task:
        """Return the task that `number` (uint64) means; raises ValueError for a number that means none."""
        number = int(number)
        if not 0 <= number < 1 << 64:
            raise ValueError(f"task number {number} is not from 0 to 2**64 - 1")
        task = self._cache.get(number)
        if task is None:
            task = self._build(number)
            self._cache[number] = task
            if len(self._cache) > CACHED_TASKS:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(number)
        return task

    def draw(self, rng: np.random.Generator, held_out: bool) -> int:
        """Return the number of a task: a source by weight, then one of its tasks uniformly."""
        shares = self._held_out_shares() if held_out else self._shares
        source = int(np.searchsorted(shares, rng.random(), side="right"))
        if source == 0:
            pool = self.environment.task_pool
            number = int(rng.integers(pool.worlds * pool.games))
        else:
            number = template_task(source - 1, int(rng.integers(1 << _INDEX_SHIFT)))
        return number | HELD_OUT_BIT if held_out else number

    def trials(self, number: int) -> int:
        """Return the number of trials k that belongs to the task, uniform over the experiment's range."""
        allowed = self.environment.trials
        choices = allowed.max - allowed.min + 1
        return allowed.min + hash_of(self._seed, _TRIALS_STREAM, int(number)) % choices

    def metrics(self, number: int) -> dict[str, float]:
        """Return the twelve figures by which AdA describes tasks (`ada_sim.tasks.metrics`)."""
        return metrics_of(self.task(number), self.trials(number))

    def _build(self, number: int) -> Task:
        held_out = bool(number & HELD_OUT_BIT)
        number &= ~HELD_OUT_BIT
        index = template_of(number)
        if index is None:
            return self._generator.task(number, held_out)
        if index >= len(self._templates):
            raise ValueError(f"task {number:#x} is of template {index}; the experiment has {len(self._templates)}")
        return self._templates[index].task(number & _NUMBER_MASK, held_out)

    def _held_out_shares(self) -> np.ndarray:
        names = ", ".join(template.name for template in self.environment.templates)
        return _cumulative(
            self._held_out_weights,
            f"no held-out tasks to draw: the templates ({names}) always draw the same task; "
            "add variables (`X, Y: distinct types`) to one of them, or set generatedWeight above 0",
        )


def _cumulative(weights: list[float], problem: str) -> np.ndarray:
    """Return cumulative shares of `weights`; raises ValueError(problem) if all are 0."""
    total = sum(weights)
    if total <= 0:
        raise ValueError(problem)
    return np.cumsum(weights) / total


def _template_tasks(template: TaskTemplate, environment: Environment) -> TemplateTasks:
    if template.text is None:
        raise ValueError(f"template {template.name} has no text: references to ConfigMaps are resolved by the operator")
    tasks = read_template(template.name, template.text, environment.task_pool.seed)
    players = len(tasks.template.players)
    if players != environment.players:
        raise ValueError(
            f"template {template.name} is for {players} player(s), environment.players is {environment.players}; "
            "add or remove `player 2 anywhere`"
        )
    return tasks
