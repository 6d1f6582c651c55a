"""`python -m ada_trainer watch`: film a task being played, from above and through the agent's eyes."""

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ada_api.experiment import AdaExperiment
from ada_api.stages import CheckpointReference
from ada_curriculum.manifest import CheckpointError, newest_whole
from ada_curriculum.store import StoreError
from ada_sim.batch import BatchSim
from ada_sim.constants import TIMESTEP_S
from ada_sim.tasks.probes import probe_names
from ada_sim.tasks.source import TaskSource, template_task
from ada_sim.tasks.words import TaskWords, describe
from ada_trainer.checkpoint import read_agent
from ada_trainer.evaluation.episodes import Policy, draw_tasks, play
from ada_trainer.evaluation.policies import AgentPolicy, NoopPolicy, RandomPolicy, ScriptedPolicy
from ada_trainer.evaluation.probes import probe_environment
from ada_trainer.evaluation.program import build_network, experiment_store
from ada_trainer.exits import EXIT_CONFIGURATION, EXIT_DONE, EXIT_TROUBLE, ConfigurationError
from ada_trainer.settings import find_stage, read_experiment

VIEW_PX = 288  # height of both pictures
CAPTION_PX = 30
GAP_PX = 12
TASK_STREAM = 0x7761746368
POLICIES = ("agent", "random", "noop", "scripted")
PAUSE_FRAMES = 6  # on the last frame of a trial
PAGE_RGB, INK_RGB, GOAL_RGB = (24, 27, 31), (230, 233, 236), (110, 231, 160)


@dataclass(frozen=True)
class Film:
    """An animated picture, the task it shows, and that task in words."""

    task: int
    words: TaskWords
    shares: tuple[float, ...]  # of each trial's time in the goal
    gif: bytes


class _Camera:
    """Takes a picture of world 0 on every timestep of the trials that are shown."""

    def __init__(self, trials: int, shown: Sequence[int]) -> None:
        self._trials = trials
        self._shown = shown
        self._trial = 0
        self.frames: list[Image.Image] = []

    def __call__(self, sim: BatchSim) -> None:
        step = sim.timestep()
        if step.trial_ended[0] >= 0:
            self._trial = int(step.trial_ended[0]) + 1
            if self._trial - 1 in self._shown:
                self.frames += [self.frames[-1]] * PAUSE_FRAMES
        if self._trial in self._shown:
            caption = f"trial {self._trial + 1} of {self._trials}"
            in_goal = bool(step.reward[0].any()) and step.trial_ended[0] < 0
            self.frames.append(compose(sim.top_view(0), sim.render(np.array([0]))[0, 0], caption, in_goal=in_goal))


def compose(above: np.ndarray, eyes: np.ndarray, caption: str, *, in_goal: bool) -> Image.Image:
    """Put both views side by side under a caption; the frame turns green while the goal holds.

    Args:
        above, eyes: uint8 [height, width, 3].
    """
    views = [Image.fromarray(above), Image.fromarray(eyes)]
    scaled = [
        view.resize((round(view.width * VIEW_PX / view.height), VIEW_PX), Image.Resampling.NEAREST) for view in views
    ]
    width = sum(view.width for view in scaled) + 3 * GAP_PX
    picture = Image.new("RGB", (width, VIEW_PX + CAPTION_PX + 2 * GAP_PX), PAGE_RGB)
    draw = ImageDraw.Draw(picture)
    colour = GOAL_RGB if in_goal else INK_RGB
    text = f"{caption}: in the goal" if in_goal else caption
    draw.text((GAP_PX, GAP_PX), text, fill=colour, font=ImageFont.load_default(18))
    left = GAP_PX
    for view in scaled:
        top = CAPTION_PX + GAP_PX
        if in_goal:
            draw.rectangle((left - 3, top - 3, left + view.width + 2, top + view.height + 2), fill=GOAL_RGB)
        picture.paste(view, (left, top))
        left += view.width + GAP_PX
    return picture


def film(
    experiment: AdaExperiment,
    policy: Policy,
    trials: int,
    shown: Sequence[int],
    task: int | None = None,
    look: Callable[[BatchSim], None] | None = None,
) -> Film:
    """Play a task for `trials` trials and film those with an index in `shown`.

    Args:
        experiment: whose task it is.
        policy: who plays.
        trials: of the episode.
        shown: indices of trials.
        task: its number; without one a held-out task is drawn.
        look: called with the simulator before each action, for a policy that knows the world.
    """
    environment = experiment.spec.environment
    source = TaskSource(environment)
    number = drawn_task(source) if task is None else task
    camera = _Camera(trials, shown)

    def watch(sim: BatchSim) -> None:
        camera(sim)
        if look is not None:
            look(sim)

    tasks = np.array([number], np.uint64)
    shares = play(environment, source, tasks, trials, policy, seed=experiment.spec.seed, watch=watch)
    words = describe(source.task(number))
    return Film(number, words, tuple(float(share) for share in shares[0]), encode(camera.frames))


def drawn_task(source: TaskSource) -> int:
    """Return the number of a held-out task, always the same."""
    return int(draw_tasks(source, 1, seed=TASK_STREAM)[0])


def encode(frames: Sequence[Image.Image]) -> bytes:
    """Encode frames as a GIF that runs at the speed of the world, for ever."""
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=round(TIMESTEP_S * 1000), loop=0, optimize=True
    )
    return buffer.getvalue()


def main(arguments: Sequence[str]) -> int:
    """Film a task; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        experiment, task = _chosen_task(options, read_experiment(options.experiment))
        policy = _policy(options, experiment, task)
        look = policy.look if isinstance(policy, ScriptedPolicy) else None
        shown = range(options.trials) if options.all_trials else sorted({0, options.trials - 1})
        filmed = film(experiment, policy, options.trials, shown, task, look)
        options.output.write_bytes(filmed.gif)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_CONFIGURATION
    except (CheckpointError, StoreError, OSError, ValueError) as error:
        sys.stderr.write(f"watch failed: {error}\n")
        return EXIT_TROUBLE
    lines = [f"task {filmed.task}: {filmed.words.goal}", *(f"  {rule}" for rule in filmed.words.rules)]
    lines.append("share of each trial in the goal: " + " ".join(f"{share:.2f}" for share in filmed.shares))
    sys.stdout.write("\n".join([*lines, str(options.output)]) + "\n")
    return EXIT_DONE


def _chosen_task(options: argparse.Namespace, experiment: AdaExperiment) -> tuple[AdaExperiment, int]:
    """Return the experiment, with the probe tasks for its tasks if one is asked for, and the number of the task."""
    if options.probe is None:
        source = TaskSource(experiment.spec.environment)
        return experiment, drawn_task(source) if options.task is None else options.task
    players = experiment.spec.environment.players
    names = probe_names(players)
    if options.probe not in names:
        which = f"of the experiment's number of players, {players}"
        raise ConfigurationError(f"there is no probe task {options.probe!r} {which}; there are {', '.join(names)}")
    environment = probe_environment(experiment.spec.environment)
    spec = experiment.spec.model_copy(update={"environment": environment})
    return experiment.model_copy(update={"spec": spec}), template_task(names.index(options.probe))


def _policy(options: argparse.Namespace, experiment: AdaExperiment, task: int) -> Policy:
    match options.policy:
        case "random":
            return RandomPolicy(experiment.spec.seed)
        case "noop":
            return NoopPolicy()
        case "scripted":
            return ScriptedPolicy(TaskSource(experiment.spec.environment).task(task))
    stage = find_stage(experiment, options.stage or experiment.spec.stages[-1].name)
    store = experiment_store(experiment)
    checkpoint = newest_whole(store, stage.name)
    if checkpoint is None:
        where = f"stage {stage.name} has no committed checkpoint in {store.uri}"
        raise CheckpointError(f"{where}: train it first, or use --policy random")
    network = build_network(*read_agent(CheckpointReference(uri=checkpoint.uri, digest=checkpoint.digest)))
    return AgentPolicy(network, experiment.spec.seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ada_trainer watch",
        description="Film a task: from above and through the agent's eyes, trial by trial.",
        epilog="Example: python -m ada_trainer watch --experiment quickstart.yaml --policy random --output task.gif",
    )
    parser.add_argument("--experiment", type=Path, required=True, metavar="FILE", help="JSON or YAML file")
    parser.add_argument("--output", type=Path, required=True, metavar="GIF", help="file to write")
    parser.add_argument("--policy", choices=POLICIES, default="agent", help="who plays; scripted knows all")
    parser.add_argument("--stage", metavar="NAME", help="whose newest checkpoint plays; default: the last stage")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--task", type=int, metavar="NUMBER", help="default: a held-out one")
    which.add_argument("--probe", metavar="NAME", help="a probe task instead; `ada tasks probes` lists them")
    parser.add_argument("--trials", type=int, default=5, choices=range(1, 49), metavar="K", help="trials (1 to 48)")
    parser.add_argument("--all-trials", action="store_true", help="show all, not only the first and the last")
    return parser
