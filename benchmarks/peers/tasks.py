"""Small tasks that others know, B copies at once, for our learner and for its peers alike; needs NumPy alone.

    catch     bsuite's: a ball falls, a paddle moves
    cartpole  Gymnasium's CartPole-v1 (Barto, Sutton and Anderson, 1983)
    tmaze     a corridor of 50 whose first sight tells the way at its end (Bakker, 2002)
    memory    MiniGrid-MemoryS7-v0, as published (minigrid must be importable)
    doorkey   MiniGrid-DoorKey-5x5-v0, as published
    one-try   the quickstart's (benchmarks/one_try.py); its simulator runs in our environment, the task is `Served`

All agents see the same numbers and choose among the same actions. Copies start anew by themselves.
"""

import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

EPISODES = 100  # a task is solved when the mean return of so many episodes in a row reaches its `best`


@dataclass(frozen=True)
class Step:
    """What came of a timestep; `look` shows the next one already, of a new episode where one ended."""

    reward: np.ndarray  # float64 [B]
    ended: np.ndarray  # bool [B]
    cut: np.ndarray  # bool [B]: ended by a limit of time alone, as Gymnasium's `truncated`
    last: np.ndarray  # float64 [B, numbers]: the observation that the timestep led to


class Task(Protocol):
    """B copies of a task."""

    numbers: int  # of an observation
    actions: int
    best: float  # mean return that counts as solved

    def look(self) -> np.ndarray:
        """Return float64 [B, numbers]."""
        ...

    def step(self, actions: np.ndarray) -> Step:
        """Take actions, int [B]."""
        ...


class Tally:
    """Frames and returns of B copies, and when the task was solved."""

    def __init__(self, worlds: int, best: float, episodes: int = EPISODES) -> None:
        self.frames, self.best, self.episodes = 0, best, episodes
        self.solved_at: int | None = None  # frames
        self.recent: deque[float] = deque(maxlen=episodes)
        self._sums = np.zeros(worlds)

    def add(self, step: Step) -> list[float]:
        """Count a timestep of all copies; return the returns of the episodes that ended, by world."""
        self.frames += len(self._sums)
        self._sums += step.reward
        ended = self._sums[step.ended].tolist()
        self._sums[step.ended] = 0
        self.recent.extend(ended)
        if self.solved_at is None and len(self.recent) == self.episodes and self.mean >= self.best:
            self.solved_at = self.frames
        return ended

    @property
    def mean(self) -> float:
        """Return the mean return of the newest episodes."""
        return float(np.mean(self.recent)) if self.recent else float("nan")


class Catch:
    """A ball falls through 10 rows of 5; the paddle at the bottom moves left, stays or moves right."""

    numbers, actions, best = 50, 3, 0.95

    def __init__(self, worlds: int, seed: int) -> None:
        self.rng, self.every = np.random.default_rng([seed, 1]), np.arange(worlds)
        self.row = np.zeros(worlds, np.int64)
        self.ball, self.paddle = self.rng.integers(0, 5, worlds), np.full(worlds, 2)

    def look(self) -> np.ndarray:
        board = np.zeros((len(self.every), 10, 5))
        board[self.every, self.row, self.ball] = 1
        board[self.every, 9, self.paddle] = 1
        return board.reshape(len(board), -1)

    def step(self, actions: np.ndarray) -> Step:
        self.paddle = np.clip(self.paddle + actions - 1, 0, 4)
        self.row = self.row + 1
        ended = self.row == 9
        reward, last = np.where(ended, np.where(self.paddle == self.ball, 1.0, -1.0), 0.0), self.look()
        self.row = np.where(ended, 0, self.row)
        self.ball = np.where(ended, self.rng.integers(0, 5, len(ended)), self.ball)
        self.paddle = np.where(ended, 2, self.paddle)
        return Step(reward, ended, np.zeros_like(ended), last)


class TMaze:
    """What is seen at the first timestep tells which way is right at the end of a corridor of 50.

    Actions: left, on, right. The right way is worth 1, the wrong one -1, and any other step aside -0.02.
    """

    numbers, actions, best = 3, 3, 0.9
    length, patience = 50, 150

    def __init__(self, worlds: int, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 1])
        self.place, self.clock = np.zeros(worlds, np.int64), np.zeros(worlds, np.int64)
        self.cue = self.rng.integers(0, 2, worlds) * 2 - 1

    def look(self) -> np.ndarray:
        start = self.clock == 0
        return np.stack([self.cue * start, start, self.place == self.length], 1).astype(float)

    def step(self, actions: np.ndarray) -> Step:
        junction, walks = self.place == self.length, actions == 1
        chooses = junction & ~walks
        right = (actions - 1) == self.cue
        reward = np.where(chooses, np.where(right, 1.0, -1.0), np.where(walks & ~junction, 0.0, -0.02))
        self.place = self.place + (walks & ~junction)
        self.clock = self.clock + 1
        ended, last = chooses | (self.clock == self.patience), self.look()
        self.place, self.clock = np.where(ended, 0, self.place), np.where(ended, 0, self.clock)
        self.cue = np.where(ended, self.rng.integers(0, 2, len(ended)) * 2 - 1, self.cue)
        return Step(reward, ended, ended & ~chooses, last)


class CartPole:
    """Push a cart left or right so that the pole on it stays up; 500 timesteps, then the episode is cut off.

    Gymnasium's CartPole-v1, its constants and its order of integration (a test steps both).
    """

    numbers, actions, best = 4, 2, 475.0  # Gymnasium's reward threshold

    def __init__(self, worlds: int, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 1])
        self.state, self.clock = self.rng.uniform(-0.05, 0.05, (4, worlds)), np.zeros(worlds, np.int64)

    def look(self) -> np.ndarray:
        return self.state.T.copy()

    def step(self, actions: np.ndarray) -> Step:
        _, speed, angle, turning = self.state  # m, m/s, rad, rad/s; masses 1 and 0.1 kg, half length 0.5 m
        push = (10.0 * (2 * actions - 1) + 0.05 * turning**2 * np.sin(angle)) / 1.1
        falling = (9.8 * np.sin(angle) - np.cos(angle) * push) / (0.5 * (4 / 3 - 0.1 * np.cos(angle) ** 2 / 1.1))
        moving = push - 0.05 * falling * np.cos(angle) / 1.1
        self.state = self.state + 0.02 * np.stack([speed, moving, turning, falling])
        self.clock = self.clock + 1
        fallen = (np.abs(self.state[0]) > 2.4) | (np.abs(self.state[2]) > np.radians(12))
        ended, last = fallen | (self.clock == 500), self.look()
        fresh = self.rng.uniform(-0.05, 0.05, self.state.shape)
        self.state, self.clock = np.where(ended, fresh, self.state), np.where(ended, 0, self.clock)
        return Step(np.ones(len(ended)), ended, ended & ~fallen, last)


class MiniGrid:
    """A task of MiniGrid; its picture of 7 x 7 cells as one-hot object, colour and state of each.

    MiniGrid publishes no threshold. An episode that succeeds is worth 1 - 0.9 (share of the time it took): a mean of
    0.9 leaves no room for more than a few failures in a hundred.
    """

    numbers, actions, best = 7 * 7 * (11 + 6 + 4), 7, 0.9
    kinds = (11, 6, 4)  # objects, colours, states (a fourth is an agent's direction)

    def __init__(self, name: str, worlds: int, seed: int) -> None:
        import gymnasium
        import minigrid  # noqa: F401  # registers its tasks

        self.copies: list[Any] = [gymnasium.make(name) for _ in range(worlds)]
        self.seen = np.stack(
            [copy.reset(seed=seed * 100_003 + place)[0]["image"] for place, copy in enumerate(self.copies)]
        )

    def look(self) -> np.ndarray:
        return self._numbers(self.seen)

    def step(self, actions: np.ndarray) -> Step:
        worlds = len(self.copies)
        reward, ended, cut = np.zeros(worlds), np.zeros(worlds, bool), np.zeros(worlds, bool)
        last = self.seen.copy()
        for place, copy in enumerate(self.copies):
            seen, reward[place], terminated, truncated, _ = copy.step(int(actions[place]))
            last[place] = self.seen[place] = seen["image"]
            if terminated or truncated:
                ended[place], cut[place] = True, truncated and not terminated
                self.seen[place] = copy.reset()[0]["image"]
        return Step(reward, ended, cut, self._numbers(last))

    def _numbers(self, seen: np.ndarray) -> np.ndarray:
        parts = [np.eye(size)[seen[..., part]] for part, size in enumerate(self.kinds)]
        return np.concatenate(parts, -1).reshape(len(seen), -1)


class Served:
    """A task that is stepped in a process of another virtual environment, which calls `serve`."""

    def __init__(self, command: Sequence[str], worlds: int) -> None:
        """Start the process; raises EOFError where it ends before it is ready, or later in mid-step."""
        self.worlds = worlds
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._told, self._heard = self._process.stdin, self._process.stdout
        word, *figures = self._heard.readline().decode().split() or [""]
        if word != "ready":
            self.close()
            raise EOFError(f"{' '.join(command)} ended before its task was ready")
        self.numbers, self.actions, self.best = int(figures[0]), int(figures[1]), float(figures[2])
        self._seen = self._read(self.numbers)

    def look(self) -> np.ndarray:
        return self._seen

    def step(self, actions: np.ndarray) -> Step:
        self._told.write(actions.astype(np.uint8).tobytes())
        self._told.flush()
        self._seen, last = self._read(self.numbers), self._read(self.numbers)
        reward, ended, cut = (self._read(1)[:, 0] for _ in range(3))
        return Step(reward.astype(np.float64), ended > 0, cut > 0, last)

    def close(self) -> None:
        """End the process: its input ends."""
        self._told.close()
        self._process.wait()
        self._heard.close()

    def _read(self, numbers: int) -> np.ndarray:
        size = self.worlds * numbers * 4
        if len(data := self._heard.read(size)) < size:
            raise EOFError("the process of the task ended")
        return np.frombuffer(data, np.float32).reshape(self.worlds, numbers)


def serve(task: Task, worlds: int) -> None:
    """Step a task for a `Served`, over standard input and output, until the input ends.

    Prints `ready NUMBERS ACTIONS BEST`, then for each B bytes of actions writes the step as float32: [B, numbers] to
    look at, [B, numbers] last seen, reward, ended and cut, [B] each. The first observation comes unasked.
    """
    # Buffered even where Python's own is not: a raw write may write less than it is told.
    out = open(sys.stdout.fileno(), "wb", closefd=False)  # noqa: SIM115  # for as long as the process lives
    out.write(f"ready {task.numbers} {task.actions} {task.best}\n".encode())
    out.write(task.look().astype(np.float32).tobytes())
    out.flush()
    while len(told := sys.stdin.buffer.read(worlds)) == worlds:
        step = task.step(np.frombuffer(told, np.uint8).astype(np.int64))
        for part in (task.look(), step.last, step.reward, step.ended, step.cut):
            out.write(part.astype(np.float32).tobytes())
        out.flush()


MINIGRID = {"memory": "MiniGrid-MemoryS7-v0", "doorkey": "MiniGrid-DoorKey-5x5-v0"}
CLASSIC = {"catch": Catch, "cartpole": CartPole, "tmaze": TMaze}
ONE_TRY = "one-try"
# Of 150 timesteps (5 trials). An agent that finds its way and remembers nothing gets 0.48 to 0.57 of them (the first
# trials of docs/results.md), one that remembers up to 0.7. Episodes differ so much that it takes 500 to tell.
ONE_TRY_BEST, ONE_TRY_EPISODES = 93.0, 500


def make(name: str, worlds: int, seed: int) -> Task:
    """Return copies of a task."""
    return MiniGrid(MINIGRID[name], worlds, seed) if name in MINIGRID else CLASSIC[name](worlds, seed)


def tally(name: str, worlds: int) -> Tally:
    """Return what counts them."""
    return Tally(worlds, threshold(name), ONE_TRY_EPISODES if name == ONE_TRY else EPISODES)


def threshold(name: str) -> float:
    """Return the mean return at which a task is solved."""
    if name == ONE_TRY:
        return ONE_TRY_BEST
    return MiniGrid.best if name in MINIGRID else CLASSIC[name].best
