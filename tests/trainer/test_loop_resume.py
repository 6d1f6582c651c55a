"""A run that is stopped and resumed ends where an undisturbed one does, bit for bit."""

import importlib.util
from pathlib import Path

import pytest
import torch

from ada_api.stages import CheckpointReference
from ada_curriculum.manifest import newest_whole
from ada_trainer import checkpoint as checkpoints
from ada_trainer.loop import Ending, Worker
from ada_trainer.snapshot import pack
from ada_trainer.work import load_agent

_spec = importlib.util.spec_from_file_location("loop_parts", Path(__file__).with_name("loop_parts.py"))
assert _spec is not None and _spec.loader is not None
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)


def learned(worker: Worker) -> bytes:
    return pack(worker.work.learner_state())


MUESLI = {"name": "muesli", "muesli": {"samples": 4, "bins": 21, "valueRange": 3.0}}


@pytest.mark.parametrize("algorithm", [pytest.param({}, id="ppo"), pytest.param(MUESLI, id="muesli")])
def test_k_updates_a_restart_and_the_rest_give_the_same_bytes_as_all_updates_at_once(
    tmp_path: Path, algorithm: dict[str, object]
) -> None:
    experiment = parts.tiny_experiment(frames=400, **algorithm)

    stopped = parts.Run(tmp_path / "stopped", experiment)
    stopped.curriculum.stop_at = 200
    ending, first = stopped.train()
    assert ending is Ending.STOPPED
    assert first.counts.frames == 200
    stopped.curriculum.stop_at = 1 << 60
    ending, second = stopped.train()
    assert ending is Ending.TRAINED

    # The episodes in flight are dropped in both: that is what a restart costs, and all it costs.
    undisturbed = parts.Run(tmp_path / "undisturbed", experiment)
    worker = undisturbed.start()
    undisturbed.curriculum.stop_at = 200
    assert worker.train() is Ending.STOPPED
    undisturbed.curriculum.stop_at = 1 << 60
    random = worker.work.collector_state()
    worker.work.begin(200)
    assert worker.work._collector is not None
    worker.work._collector.load_state_dict(random)
    assert worker.train() is Ending.TRAINED
    worker.close()

    assert second.counts == worker.counts
    assert learned(second) == learned(worker)
    assert learned(second) != learned(first)
    assert stopped.curriculum.results == undisturbed.curriculum.results != []


def test_the_same_experiment_learns_the_same_bytes_twice(tmp_path: Path) -> None:
    experiment = parts.tiny_experiment(frames=160)
    _, one = parts.Run(tmp_path / "one", experiment).train()
    _, two = parts.Run(tmp_path / "two", experiment).train()
    assert learned(one) == learned(two)


def test_a_finished_stage_is_committed_and_finished_once(tmp_path: Path) -> None:
    run = parts.Run(tmp_path, parts.tiny_experiment(frames=80))
    ending, worker = run.train()
    assert ending is Ending.TRAINED
    assert run.curriculum.asked[-2:] == [("commit", worker.counts.frames), ("finish", "trained")]
    found = newest_whole(run.store, "teacher")
    assert found is not None and found.manifest.frames == worker.counts.frames == 80

    ending, again = run.train()
    assert ending is Ending.TRAINED
    assert again.counts == worker.counts, "a trained stage learns nothing more"
    assert newest_whole(run.store, "teacher") == found, "and its last checkpoint stays the one that others pinned"


def test_sigterm_ends_the_step_commits_and_stops(tmp_path: Path) -> None:
    run = parts.Run(tmp_path, parts.tiny_experiment(frames=4000))
    run.told.set()
    ending, worker = run.train()
    assert ending is Ending.STOPPED
    assert worker.counts.frames == 40
    found = newest_whole(run.store, "teacher")
    assert found is not None and found.manifest.frames == 40


def test_commits_follow_the_interval_in_frames_and_old_ones_go(tmp_path: Path) -> None:
    experiment = parts.tiny_experiment(frames=400)
    rule = experiment.spec.checkpoint.model_copy(update={"interval_frames": 80})
    experiment = experiment.model_copy(update={"spec": experiment.spec.model_copy(update={"checkpoint": rule})})
    run = parts.Run(tmp_path, experiment)
    run.train()
    committed = [frames for name, frames in run.curriculum.asked if name == "commit"]
    assert committed == sorted(committed) and committed[-1] == 400 and len(committed) >= 3
    kept = [one.manifest.frames for one in checkpoints.list_checkpoints(run.store, "teacher")]
    assert kept == committed[-2:]


def test_the_checkpoint_of_the_best_training_score_outlives_its_turn(tmp_path: Path) -> None:
    experiment = parts.tiny_experiment(frames=400)
    rule = experiment.spec.checkpoint.model_copy(update={"interval_frames": 80})
    experiment = experiment.model_copy(update={"spec": experiment.spec.model_copy(update={"checkpoint": rule})})
    run = parts.Run(tmp_path, experiment)
    advance = run.curriculum.advance

    def scored(stage: str, generation: int, frames: int, *others: object) -> object:
        run.curriculum.score = 0.9 if frames <= 80 else 0.2
        return advance(stage, generation, frames, *others)

    run.curriculum.advance = scored
    run.train()
    kept = [(one.manifest.frames, one.manifest.score) for one in checkpoints.list_checkpoints(run.store, "teacher")]
    assert kept[0] == (80, pytest.approx(0.9))
    assert [score for _, score in kept[1:]] == pytest.approx([0.2, 0.2])


def test_a_lost_simulator_costs_its_episodes_and_nothing_else(tmp_path: Path) -> None:
    run = parts.Run(tmp_path, parts.tiny_experiment(frames=400))
    opened: list[str] = []

    def connect(address: str, worlds: int) -> "parts.LocalSimulator":
        opened.append(address)
        if address == "two" and opened.count("two") > 1:
            raise ConnectionRefusedError("still gone")
        return parts.LocalSimulator(
            worlds, run.settings.experiment.spec.environment, breaks_at=25 if address == "two" else 1 << 60
        )

    run.connect = connect
    ending, worker = run.train()
    assert ending is Ending.TRAINED
    assert worker.work.totals()["simulators_lost"] == 1
    assert worker.counts.frames >= 400
    assert opened[:3] == ["one", "two", "one"], "the simulator that is left opens the lost worlds too"


def test_the_agent_of_a_muesli_stage_is_the_network_that_acts(tmp_path: Path) -> None:
    run = parts.Run(tmp_path, parts.tiny_experiment(frames=40, **MUESLI))
    _, worker = run.train()
    found = newest_whole(run.store, "teacher")
    assert found is not None
    agent = load_agent(CheckpointReference(uri=found.uri, digest=found.digest))
    assert agent.model is not None
    acting, learned = worker.work._learner.acting.state_dict(), worker.work._network.state_dict()
    assert all(torch.equal(value, acting[name]) for name, value in agent.state_dict().items())
    assert not all(torch.equal(value, learned[name]) for name, value in agent.state_dict().items())


@pytest.mark.parametrize("changed", [{"core": "transformer-xl"}])
def test_a_checkpoint_of_another_model_is_a_configuration_error(tmp_path: Path, changed: dict[str, str]) -> None:
    run = parts.Run(tmp_path, parts.tiny_experiment(frames=40))
    run.train()
    other = parts.tiny_experiment(frames=80)
    stage = other.spec.stages[0]
    stage = stage.model_copy(update={"model": stage.model.model_copy(update=changed)})
    spec = other.spec.model_copy(update={"stages": [stage]})
    again = parts.Run(tmp_path, other.model_copy(update={"spec": spec}), run.curriculum)
    with pytest.raises(parts.ConfigurationError, match="does not fit its model"):
        again.start()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
