"""BatchSim: B worlds in one process, stepped together. The edge between Python and the compiled engine.

Checks everything that comes in before any world changes; decides nothing about the world itself.
"""

import itertools
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from ada_api.environment import Environment
from ada_sim import constants as c
from ada_sim.engine.loading import Listed, listed, load
from ada_sim.engine.sharing import no_progress, open_worlds
from ada_sim.engine.step import advance, take_actions
from ada_sim.engine.types import TASK, TOLD, WORLD, empty_outputs, rows_of
from ada_sim.helpers import Helpers
from ada_sim.observation import MAX_TRIALS, specification
from ada_sim.render.first_person import draw_worlds
from ada_sim.render.native import native_draw
from ada_sim.render.top_view import top_view
from ada_sim.tasks.task import Task

CACHED_TASKS = 2048
WORLDS_WORTH_A_THREAD = 16
CACHE_LINE_BYTES = 64


class Source(Protocol):
    """Where tasks come from: `ada_sim.tasks.source.TaskSource`, or a test's own."""

    def task(self, number: int) -> Task:
        """Return the task with this number."""
        ...


@dataclass(frozen=True)
class TimeStep:
    """What one step returns, worlds first, then players. The arrays are reused by the next step."""

    observation: dict[str, np.ndarray]
    reward: np.ndarray  # float32 [B, P]: share of the timestep's ticks in the goal
    trial_ended: np.ndarray  # int16 [B]: index of the trial that ended with this step, or -1
    episode_ended: np.ndarray  # bool [B]
    episode_started: np.ndarray  # bool [B]: the observation is the first of a new episode
    active: np.ndarray  # bool [B]: False while a world idles


class BatchSim:
    """B worlds with P players each, and the episodes assigned to them."""

    def __init__(
        self, num_worlds: int, environment: Environment, source: Source | None = None, threads: int = 1
    ) -> None:
        """Make idle worlds; `threads` above 1 shares them out from 16 worlds a thread on.

        Raises:
            ValueError: fewer than one world or thread.
        """
        if num_worlds < 1:
            raise ValueError(f"num_worlds is {num_worlds}, must be at least 1")
        if threads < 1:
            raise ValueError(f"threads is {threads}, must be at least 1")
        if source is None:
            from ada_sim.tasks.source import TaskSource

            source = TaskSource(environment)
        self.num_worlds = num_worlds
        self.environment = environment
        self.players = environment.players
        self.specification = specification(environment)
        self._source = source
        self._lists: OrderedDict[int, Listed] = OrderedDict()
        self._worlds, self._tasks, self._assigned = (_records(num_worlds, kind) for kind in (WORLD, TASK, TASK))
        self._out = empty_outputs(num_worlds, self.players)
        self._out_rows = rows_of(self._out)
        self._symbolic = environment.observation == "symbolic"
        self._pixels = np.zeros(
            (0 if self._symbolic else num_worlds, self.players, c.IMAGE_HEIGHT_PX, c.IMAGE_WIDTH_PX, 3), np.uint8
        )
        self._actions = np.empty((num_worlds, self.players, len(c.ACTION_SIZES)), np.int8)
        self._actions[:] = c.ACTION_REST
        self._given = self._actions.copy()
        self._controlled = np.array([name in environment.action_groups for name in c.ACTION_GROUPS])
        self._sizes = np.array(c.ACTION_SIZES, np.int8)
        arrays = self._out._asdict() | {"pixels": self._pixels}
        observation = {field.name: arrays[field.name] for field in self.specification}
        self._timestep = TimeStep(
            observation,
            self._out.reward,
            self._out.trial_ended,
            self._out.episode_ended,
            self._out.episode_started,
            self._out.active,
        )
        self._shares = _shares(num_worlds, threads)
        self._canvases = {share.start: _canvas() for share in self._shares}
        self._told = {share.start: np.zeros(1, TOLD) for share in self._shares}
        self._everyone = np.arange(num_worlds)
        self._alone = no_progress(num_worlds)  # of the one thread that restarts worlds
        shared = len(self._shares) > 1
        self._progress = no_progress(WORLDS_WORTH_A_THREAD if shared else num_worlds)
        everyone = partial(self._advancing, self._everyone, self._progress, restarts=False)
        self._advance_all, *others = (everyone(told, helps=n > 0) for n, told in enumerate(self._told.values()))
        self._helpers = Helpers(others)
        self._pool = ThreadPoolExecutor(len(others)) if shared and not self._symbolic else None

    def assign(self, worlds: np.ndarray, tasks: np.ndarray, trials: np.ndarray, seeds: np.ndarray) -> None:
        """Set the episode that each of these worlds starts when its present one ends; idle ones with the next step.

        Args:
            worlds: int64 [N]; tasks: uint64 [N]; trials: int64 [N]; seeds: uint64 [N].

        Raises:
            ValueError: an argument is out of range or a task breaks a limit; no world has changed.
        """
        chosen = self._checked_worlds(worlds)
        for name, values in (("tasks", tasks), ("trials", trials), ("seeds", seeds)):
            if np.shape(values) != chosen.shape:
                raise ValueError(f"{name} has shape {np.shape(values)}, must be {chosen.shape} like worlds")
        for k in np.asarray(trials).tolist():
            if not 1 <= k <= MAX_TRIALS:
                raise ValueError(f"trials holds {k}, must be 1 to {MAX_TRIALS}")
        load(self._assigned, chosen, [self._listed(int(number)) for number in np.asarray(tasks).tolist()])
        self._assigned["trials"][chosen] = trials
        self._assigned["seed"][chosen] = seeds

    def reset(self, worlds: np.ndarray, pixels: np.ndarray | None = None) -> None:
        """End the present episode of these worlds (int64 [N]) now and start the assigned one, if there is one.

        Pictures lie in `pixels` from now on, if given, as `step` says.
        """
        chosen = self._checked_worlds(worlds)
        if pixels is not None:
            np.copyto(pixels, self._pixels)
            self._draw_into(pixels)
        open_worlds(self._alone)
        self._advancing(chosen, self._alone, self._told[0], restarts=True, helps=False)()
        if not self._symbolic:
            self._pixels[chosen] = self.render(chosen)

    def step(self, actions: np.ndarray, pixels: np.ndarray | None = None) -> TimeStep:
        """Advance every world by one timestep of four ticks.

        Args:
            actions: int8 [B, P, 6], the choice in each action group.
            pixels: uint8 [B, P, 72, 96, 3]; where pictures are drawn from now on, so that nobody has to copy them
                there. What was drawn before stays where it is.

        Raises:
            ValueError: wrong shape, dtype or choice; no world has changed.
        """
        self._take(actions)
        if pixels is not None:
            self._draw_into(pixels)
        self._helpers.ring(open_worlds(self._progress))
        self._advance_all()
        if not self._symbolic:
            self._draw_all()
        return self._timestep

    def render(self, worlds: np.ndarray) -> np.ndarray:
        """Return what the players of these worlds (int64 [N]) see: uint8 [N, P, 72, 96, 3]; black where idle."""
        chosen = self._checked_worlds(worlds)
        frames = np.empty((len(chosen), self.players, c.IMAGE_HEIGHT_PX, c.IMAGE_WIDTH_PX, 3), np.uint8)
        self._draw(chosen, _canvas(), frames)
        return frames

    def top_view(self, world: int, pixels_per_tile: int = 24) -> np.ndarray:
        """Return a world from above, north up, for people: uint8 [height, width, 3]; black while it idles."""
        (chosen,) = self._checked_worlds(np.array([world]))
        if not self._worlds["active"][chosen]:
            return np.zeros((8 * pixels_per_tile, 8 * pixels_per_tile, 3), np.uint8)
        return top_view(self._worlds[chosen], self._tasks[chosen], pixels_per_tile)

    def world(self, world: int) -> np.void:
        """Return the record of a world (`engine.types.WORLD`) as it changes, to be read by scripts that know all."""
        (chosen,) = self._checked_worlds(np.array([world]))
        return self._worlds[chosen]  # type: ignore[no-any-return]

    def timestep(self) -> TimeStep:
        """Return the present timestep without stepping."""
        return self._timestep

    def close(self) -> None:
        """End the threads, if there are any."""
        self._helpers.close()
        if self._pool is not None:
            self._pool.shutdown()

    def state(self) -> dict[str, np.ndarray]:
        """Return copies of everything that makes the next steps the same, by name."""
        return {name: array.copy() for name, array in self._arrays().items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state of a batch of the same shape.

        Raises:
            ValueError: an array is missing, unknown, or of another shape or dtype; no world has changed.
        """
        own = self._arrays()
        if state.keys() != own.keys():
            odd = sorted(state.keys() ^ own.keys())
            raise ValueError(f"state has other arrays than this simulator: {', '.join(odd)}")
        for name, array in own.items():
            given = state[name]
            if given.shape != array.shape or given.dtype != array.dtype:
                raise ValueError(
                    f"state[{name!r}] is {given.dtype} {given.shape}, this batch needs {array.dtype} {array.shape}"
                )
        for name, array in own.items():
            array[...] = state[name]
        self._worlds["settled"] = 0  # only remembered to save time; the given state may have been changed by hand
        if not self._symbolic:
            self._pixels[:] = self.render(self._everyone)

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {f"out.{name}": array for name, array in self._out._asdict().items()}
        for part, records in (("world", self._worlds), ("task", self._tasks), ("assigned", self._assigned)):
            arrays |= {f"{part}.{name}": records[name] for name in records.dtype.names or ()}
        return arrays

    def _draw_all(self) -> None:
        own, *others = self._shares
        drawn = [self._pool.submit(self._draw_share, share) for share in others] if self._pool else []
        self._draw_share(own)
        for one in drawn:
            one.result()

    def _draw_share(self, share: slice) -> None:
        self._draw(self._everyone[share], self._canvases[share.start], self._pixels[share])

    def _draw_into(self, pixels: np.ndarray) -> None:
        if self._symbolic or pixels.shape != self._pixels.shape or not pixels.flags.c_contiguous:
            raise ValueError(f"pixels have shape {pixels.shape}, must be {self._pixels.shape}, C order")
        self._pixels = self._timestep.observation["pixels"] = pixels

    def _draw(self, chosen: np.ndarray, canvas: tuple[np.ndarray, np.ndarray], frames: np.ndarray) -> None:
        draw = native_draw()
        if draw is None:
            draw_worlds(self._worlds, self._tasks, chosen, *canvas, frames)
        else:
            draw(self._worlds, self._tasks, chosen, frames)

    def _advancing(
        self, chosen: np.ndarray, progress: np.ndarray, told: np.ndarray, *, restarts: bool, helps: bool
    ) -> Callable[[], None]:
        """Return the call that advances these worlds; it doesn't hold the batch."""
        return partial(
            advance,
            self._worlds,
            self._tasks,
            self._assigned,
            told,
            self._out,
            self._out_rows,
            self._actions,
            chosen,
            progress,
            restarts,
            self._symbolic,
            helps,
        )

    def _take(self, actions: np.ndarray) -> None:
        """Check the actions and copy those of the controlled groups."""
        if not isinstance(actions, np.ndarray) or actions.dtype != np.int8:
            raise ValueError(f"actions are {getattr(actions, 'dtype', type(actions).__name__)}, must be int8")
        if actions.shape != self._actions.shape:
            raise ValueError(f"actions have shape {actions.shape}, must be {self._actions.shape}")
        np.copyto(self._given, actions)  # whatever its layout
        wrong = take_actions(self._given, self._actions, self._controlled, self._sizes)
        if wrong >= 0:
            b, p, group = np.unravel_index(wrong, actions.shape)
            raise ValueError(
                f"actions[{b}, {p}] has {actions[b, p, group]} for {c.ACTION_GROUPS[group]}, "
                f"must be 0 to {c.ACTION_SIZES[group] - 1}"
            )

    def _checked_worlds(self, worlds: np.ndarray) -> np.ndarray:
        chosen = np.asarray(worlds)
        if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
            raise ValueError(f"worlds are {chosen.dtype} {chosen.shape}, must be integers [N]")
        if chosen.size and (chosen.min() < 0 or chosen.max() >= self.num_worlds):
            raise ValueError(f"worlds holds {chosen.min()} to {chosen.max()}, must be 0 to {self.num_worlds - 1}")
        return np.ascontiguousarray(chosen, np.int64)

    def _listed(self, number: int) -> Listed:
        """Return the task as numbers, remembered for a while: tasks are assigned again and again."""
        task = self._lists.get(number)
        if task is None:
            task = self._lists[number] = listed(self._source.task(number), self.players)
            if len(self._lists) > CACHED_TASKS:
                self._lists.popitem(last=False)
        else:
            self._lists.move_to_end(number)
        return task


def _records(count: int, kind: np.dtype[np.void]) -> np.ndarray:
    """Return empty records, the first at the beginning of a cache line: else each touches more lines than it has to."""
    memory = np.zeros(count * kind.itemsize + CACHE_LINE_BYTES, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE_BYTES
    return memory[start : start + count * kind.itemsize].view(kind)


def _shares(num_worlds: int, threads: int) -> list[slice]:
    """Split the worlds among at most `threads` threads, at least 16 each."""
    count = max(1, min(threads, num_worlds // WORLDS_WORTH_A_THREAD, os.cpu_count() or 1))
    bounds = np.linspace(0, num_worlds, count + 1).astype(int)
    return [slice(int(low), int(high)) for low, high in itertools.pairwise(bounds)]


def _canvas() -> tuple[np.ndarray, np.ndarray]:
    """Return the depths and colours that a frame is drawn in, column by column."""
    return np.empty((c.IMAGE_WIDTH_PX, c.IMAGE_HEIGHT_PX)), np.empty((c.IMAGE_WIDTH_PX, c.IMAGE_HEIGHT_PX, 3), np.uint8)
