"""A player that knows the rules and follows the shortest plan that leads to the goal.

It walks to what a condition names, grips one of two objects and carries it to the other, and keeps out of the way of
dead ends where that is easy. It can't push, throw or hand things over, and plays alone: what it does not solve may well
be solvable.
"""

from dataclasses import replace

import numpy as np

from ada_sim.constants import FIRST_OBJECT
from ada_sim.scripted.walker import GRIP, MOVE, REACH, Walker, resting
from ada_sim.tasks.metrics import shortest_plan
from ada_sim.tasks.task import PLAYER_1, InitialObject, Predicate, Relation, Task


class Planner(Walker):
    """Plays a task for one player, trial after trial."""

    def __init__(self, task: Task, world: np.void, detour: tuple[int, ...] = ()) -> None:
        """Follow the shortest plan, or as much of `detour` (indices of rules) as what is present allows.

        Raises:
            ValueError: the task has more than one player.
        """
        if len(task.spawns) != 1:
            raise ValueError(f"the scripted player plays alone, but the task has {len(task.spawns)} players")
        super().__init__(task, world)
        self.detour = detour
        planned = set(shortest_plan(task) or ())
        others = [rule.condition for index, rule in enumerate(task.game.rules) if index not in planned]
        self.never_hold = {c.second for c in others if c.relation == Relation.HOLD}
        self.never_touch = {c.second for c in others if c.first >= PLAYER_1 and c.relation == Relation.TOUCHING}
        self.plan: tuple[int, ...] | None = ()
        self.seen: tuple[int, ...] = (-1,)

    def act(self) -> np.ndarray:
        """Return the choice in each action group, int8 [6], for the world as it is now."""
        self.action = resting()
        condition = self.next_condition()
        if condition is not None:
            self.bring_about(condition)
        return self.action

    def next_condition(self) -> Predicate | None:
        """Return what to bring about now: a rule's condition, or the goal; None if nothing leads to the goal."""
        present = tuple(int(kind) for kind in self.kinds[FIRST_OBJECT:] if kind >= 0)
        if present != self.seen:
            now = replace(self.task, objects=tuple(InitialObject(kind, 0, 0) for kind in present))
            self.seen, self.plan = present, shortest_plan(now)
        rules = self.task.game.rules
        for index in reversed(self.detour):
            if {rules[index].condition.first, rules[index].condition.second} <= {*present, PLAYER_1}:
                return rules[index].condition
        if self.plan is None:
            return None
        return rules[self.plan[0]].condition if self.plan else self.task.game.goals[0]

    def bring_about(self, condition: Predicate) -> None:
        """Choose the action that gets closest to a condition."""
        if condition.negated:
            self.get_away_from(self.nearest(condition.second) if condition.first >= PLAYER_1 else None)
        elif condition.first < PLAYER_1:
            self.bring_together(condition.first, condition.second)
        elif condition.relation == Relation.HOLD:
            self.grip(self.nearest(condition.second))
        else:
            self.walk_up_to(self.nearest(condition.second))

    def bring_together(self, carried: int, other: int) -> None:
        """Carry an object of one type to one of another; the other way round if it must not be held, or is frozen."""
        if carried in self.never_hold or self.is_frozen(carried):
            carried, other = other, carried
        if self.held >= 0 and self.kinds[self.held] == carried:
            self.action[GRIP], self.action[REACH] = 1, 0
            self.walk_up_to(self.nearest(other, but=self.held))
        else:
            self.grip(self.nearest(carried))

    def is_frozen(self, kind: int) -> bool:
        """Return whether the task has a frozen object of this type."""
        return any(thing.frozen for thing in self.task.objects if thing.type == kind)

    def grip(self, target: int | None) -> None:
        """Walk up to an object and close the hand on it."""
        if target is None:
            return
        if self.held == target:
            self.action[GRIP] = 1
        elif self.held < 0 and self.can_grip(target):  # else what is in the open hand is let go
            off = self.angle_to(self.at(target))
            self.turn(off)
            self.action[GRIP] = int(abs(off) < 0.4)
        elif self.held < 0:
            self.walk_up_to(target)

    def walk_up_to(self, target: int | None) -> None:
        """Walk to a body, and touch nothing on the way that sets off a rule outside of the plan."""
        if target is None:
            return
        spared = (target, self.held)
        never = [k for k in self.objects() if k not in spared and self.kinds[k] in self.never_touch]
        self.walk_to(self.at(target), spared, never)

    def get_away_from(self, target: int | None) -> None:
        """Turn the back to a body and walk."""
        if target is None:
            return
        x, y = self.here
        there = self.at(target)
        off = self.angle_to((2 * x - there[0], 2 * y - there[1]))
        self.turn(off)
        self.action[MOVE] = 2 if abs(off) < 0.5 else 1
