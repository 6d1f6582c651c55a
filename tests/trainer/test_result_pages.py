"""What the studies run is valid and is what they say; their pages say what was run and what was not."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ada_api.experiment import AdaExperiment
from ada_api.rules import broken
from ada_sim.observation import specification
from ada_sim.tasks.source import HELD_OUT_BIT, TaskSource, template_task
from ada_trainer.evaluation.result import AGENT, Evaluation
from ada_trainer.networks.agent import AgentNetwork

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.results import __main__ as results
from benchmarks.results import adaptation, emergence, studies, validation
from benchmarks.results.tables import put_section
from benchmarks.validation import Run, settings_of


def run(task: str, system: str, seed: int, solved_at: int | None) -> Run:
    return Run(task, system, seed, solved_at or 1_000, solved_at, [], 10.0 * seed, settings_of(task, system))


@pytest.mark.parametrize("study", studies.STUDIES)
def test_every_experiment_of_a_study_is_valid_and_has_its_seed_and_frames(study: str) -> None:
    documents = studies.STUDIES[study].build(3, 90_000)
    for document in documents.values():
        experiment = AdaExperiment.model_validate(document)
        assert not list(broken(experiment.spec, "spec"))
        assert experiment.spec.seed == 3 and experiment.spec.stages[-1].frames in (90_000, 270_000)
    names = {document["metadata"]["name"] for document in documents.values()}
    assert len(names) == len(documents), "runs of one study do not share a store"


def test_the_curricula_differ_in_their_method_alone() -> None:
    documents = studies.curriculum(1, 1_000)
    assert [one["spec"]["curriculum"].pop("method") for one in documents.values()] == list(studies.METHODS)
    specs = [one["spec"] for one in documents.values()]
    assert specs[0] == specs[1] == specs[2]


def test_scores_are_told_apart_by_template() -> None:
    document = studies.curriculum(1, 1_000)["plr"]
    tasks = tuple(template_task(index, 7) | HELD_OUT_BIT for index in (0, 1, 2, 0))
    played = Evaluation("teacher", 9, "", tasks, {AGENT: {5: np.array([0.5, 0.0, 1.0, 0.75])}}, 1.0)
    assert studies.scores_by_kind(played, document) == {"one-try": 0.625, "in-vain": 0.0, "no-need": 1.0}
    document["spec"]["environment"]["templates"] = document["spec"]["environment"]["templates"][:1]
    assert studies.scores_by_kind(played, document) == {}


def test_in_the_study_of_curricula_only_the_quickstarts_tasks_can_be_learned_from() -> None:
    source = TaskSource(AdaExperiment.model_validate(studies.curriculum(1, 1_000)["plr"]).spec.environment)
    for index, (reachable, holds) in enumerate(((True, False), (False, False), (False, True))):
        game = source.task(template_task(index, 3)).game
        (goal,) = game.goals
        assert any(goal.second in rule.spawns for rule in game.rules) == reachable
        assert goal.negated == holds


def test_the_large_student_has_ten_times_its_teachers_parameters_and_a_twin_without_a_teacher() -> None:
    experiment = AdaExperiment.model_validate(studies.large(1, 1_000)["large"])
    environment = experiment.spec.environment
    torch.set_num_threads(1)
    counts = {
        stage.name: sum(p.numel() for p in agent(stage.model, environment).parameters())
        for stage in experiment.spec.stages
    }
    assert counts["large"] == counts["large-alone"] >= 10 * counts["teacher"]
    taught, alone = experiment.spec.stages[1:]
    assert taught.distillation is not None and alone.distillation is None
    assert taught.model_copy(update={"distillation": None, "name": ""}) == alone.model_copy(update={"name": ""})


def agent(model: object, environment: object) -> AgentNetwork:
    return AgentNetwork(model, specification(environment), environment.action_groups)


def test_each_generation_is_taught_by_the_one_before_and_all_are_of_one_size() -> None:
    stages = AdaExperiment.model_validate(studies.generations(1, 900)["generations"]).spec.stages
    teachers = {stage.name: stage.distillation.teacher if stage.distillation else None for stage in stages}
    assert teachers == {"first": None, "second": "first", "third": "second", "alone": None}
    assert len({stage.model.model_dump_json() for stage in stages}) == 1
    assert stages[-1].frames == sum(stage.frames for stage in stages[:-1]), "alone, it learns for as long"


def test_a_study_says_scores_frames_to_the_teacher_and_how_the_curriculum_moved() -> None:
    arms = [
        studies.Arm("plr", 1, 5_000, (0.5, 0.75), None, {"num_rules": (1.0, 2.5)}, "abc", {"one-try": 0.25}),
        studies.Arm("uniform", 1, 5_000, (0.5, 0.5), None, {}, "abc"),
    ]
    text = "\n".join(studies.section("curriculum", arms))
    assert "| plr | 1 | 5,000 | 0.500 | 0.750 | 0.250 | 1.00 to 2.50 |" in text
    assert "| uniform | 1 | 5,000 | 0.500 | 0.500 |  |  |" in text and "rules, early to late" in text
    arms = [studies.Arm(name, 1, 5_000, (0.5, 0.75), None, {}, "abc") for name in ("teacher", "large-alone")]
    text = "\n".join(studies.section("large", [*arms, replace(arms[0], name="large", to_teacher=1_234.0)]))
    assert "| large | 1 | 5,000 | 0.500 | 0.750 | 1,234 |" in text
    assert "| large-alone | 1 | 5,000 | 0.500 | 0.750 | not reached |" in text
    assert "| teacher | 1 | 5,000 | 0.500 | 0.750 |  |" in text


def test_what_came_of_an_experiment_is_read_as_long_as_the_experiment_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm, trained = studies.Arm("plr", 1, 5_000, (0.5, 0.75), None, {"num_rules": (1.0, 2.5)}, "abc"), []
    monkeypatch.setattr(studies, "train", lambda document, run: trained.append(run.name))
    monkeypatch.setattr(studies, "read_arms", lambda store, document, seed: [arm])
    for frames, runs in ((1_000, 1), (1_000, 1), (2_000, 2)):
        document = studies.curriculum(1, frames)["plr"]
        arms = studies.arms_of(document, 1, tmp_path / "kept", tmp_path / "runs")
        assert studies.section("curriculum", arms) == studies.section("curriculum", [arm])
        assert trained == ["curriculum-plr-1"] * runs
        assert [one.name for one in studies.read_kept(document, 1, tmp_path / "kept")] == ["plr"]
        assert studies.read_kept(document, 2, tmp_path / "kept") == []


def test_what_emerged_is_told_by_means_over_each_fifth_of_the_frames() -> None:
    history = [{"frames": 100 * n, **dict.fromkeys(emergence.MEASURES, float(n))} for n in range(11)]
    history.append({"frames": 1_000, "score": 0.5})
    assert emergence.by_parts(history, "num_rules") == [0.5, 2.5, 4.5, 6.5, 9.0]
    assert emergence.early_and_late(history, "num_rules") == (0.5, 9.0)
    lines = emergence.section([("seed 1", history)])
    assert lines[-1].startswith("| seed 1 | 0.50, 2.50, 4.50, 6.50, 9.00 |") and "hidden critical rules" in lines[0]
    assert emergence.chart(history).count("</text>") > len(emergence.MEASURES)
    played = Evaluation("student", 9, "", (1, 2), {AGENT: {1: np.array([0.0, 0.5]), 5: np.array([0.5, 1.0])}}, 1.0)
    outcomes = [adaptation.Outcome(seed, (played,), (1.0,), commit, history) for seed, commit in ((1, "c1"), (2, "c2"))]
    page = adaptation.emerged(outcomes)
    assert [line.split(" |")[0] for line in page[-2:]] == [
        "| seed 1, k=1 0.250, k=5 0.750",
        "| seed 2, k=1 0.250, k=5 0.750",
    ]
    assert any("--adaptation-seeds 2`, trained at commit c1 and c2." in line for line in page)


def test_the_validations_page_counts_what_was_not_solved_and_names_what_was_not_run() -> None:
    runs = [run("catch", "muesli", seed, at) for seed, at in ((1, 100), (2, None), (3, 300))]
    runs += [run("catch", "peer", seed, 400) for seed in (3, 1, 2)]
    runs += [run("tmaze", "ppo", seed, None) for seed in (1, 2)]
    text = "\n".join(validation.section(runs))
    assert "| catch | 0.95 | our Muesli | 100, > 1,000, 300 | 300 | 0.75 | 20 |" in text
    assert "| catch | 0.95 | Stable-Baselines3 | 400, 400, 400 | 400 |  | 20 |" in text
    assert "| tmaze | 0.9 | our PPO | > 1,000, > 1,000 | not solved |  | 15 |" in text
    assert "* `catch`: our PPO none\n* `cartpole`" in text
    assert "* `tmaze`: our Muesli none, our PPO 2, Stable-Baselines3 none" in text


def test_a_peer_that_had_not_solved_a_task_when_its_runs_ended_gives_a_bound() -> None:
    peers = [run("tmaze", "peer", seed, at) for seed, at in ((1, None), (2, 600), (3, None))]  # None: of 1,000 frames
    text = "\n".join(validation.section([run("tmaze", "muesli", 1, 400), run("tmaze", "ppo", 1, None), *peers]))
    assert "| tmaze | 0.9 | our Muesli | 400 | 400 | < 0.40 | 10 |" in text
    assert "| tmaze | 0.9 | our PPO | > 1,000 | not solved |  | 10 |" in text


def test_a_section_takes_the_place_of_the_one_with_its_title(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text("# Results\n\n## Before\n\nkept\n\n## Mine\n\nreplaced\n\n## Mine too\n\nkept too\n")
    for _ in range(2):
        put_section(["## Mine", "", "new"], page)
        assert page.read_text() == "# Results\n\n## Before\n\nkept\n\n## Mine\n\nnew\n\n## Mine too\n\nkept too\n"
    put_section(["## Last", "", "added"], page)
    assert page.read_text().endswith("## Mine too\n\nkept too\n\n## Last\n\nadded\n")


def test_runs_with_other_settings_are_not_read(tmp_path: Path) -> None:
    present, stale = run("catch", "ppo", 1, 100), replace(run("catch", "ppo", 2, 5), settings="")
    for name, done in (("new", present), ("stale", stale)):
        (tmp_path / f"{name}.json").write_text(json.dumps(asdict(done)))
    assert validation.read_runs(tmp_path) == [present]


def test_an_example_without_seeds_leaves_its_part_of_the_page_and_the_others_are_there() -> None:
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    titles = [lines[0] for lines in results.sections([], [])]
    assert titles == [
        validation.TITLE,
        *(f"## Study: {name}" for name in studies.STUDIES if f"Study: {name}\n" in page),
    ]
    assert all(f"\n{title}\n" in page for title in ["## Quickstart", "## Adaptation", *titles])
