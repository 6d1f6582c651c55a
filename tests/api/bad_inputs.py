"""Documents that are wrong in one way each: the validator and a real API server both refuse all of them.

`BAD_INPUTS` holds (id, change, path, words): the change is applied to a copy of `good()`; path and words are what the
validator must say. `BAD_UPDATES` holds (id, change): changes that an existing experiment must refuse. `GOOD_INPUTS`
and `GOOD_UPDATES` are their counterparts.
"""

from collections.abc import Callable
from typing import Any

Document = dict[str, Any]
Change = Callable[[Document], object]

DIGEST = "sha256:" + "0" * 64
CHECKPOINT = {"uri": "s3://bucket/checkpoints/teacher/1", "digest": DIGEST}


def good() -> Document:
    """Return a valid experiment with a teacher, a student, a gate and a template."""
    return {
        "apiVersion": "ada.dev/v1alpha1",
        "kind": "AdaExperiment",
        "metadata": {"name": "good"},
        "spec": {
            "environment": {
                "observation": "symbolic",
                "trials": {"min": 1, "max": 6},
                "templates": [{"name": "find", "text": "any text"}],
            },
            "stages": [
                {"name": "teacher", "frames": 1000, "trainer": {"nodes": {"min": 1, "max": 1}}},
                {"name": "student", "frames": 1000, "distillation": {"teacher": "teacher"}},
            ],
            "evaluation": {"trials": [1, 5], "gates": [{"stage": "teacher", "trials": 5, "score": 0.5}]},
        },
    }


def put(path: str, value: object) -> Change:
    """Return a change that sets the value at a path such as `spec.stages.0.name`; missing objects are made."""

    def change(document: Document) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        place: Any = document
        for part in parents:
            place = place.setdefault(part, {}) if isinstance(place, dict) else place[part]
        place[last] = value

    return change


def drop(path: str) -> Change:
    """Return a change that removes what is at a path."""

    def change(document: Document) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        place: Any = document
        for part in parents:
            place = place[part]
        del place[last]

    return change


def both(*changes: Change) -> Change:
    """Return a change that makes several, in order."""

    def change(document: Document) -> None:
        for one in changes:
            one(document)

    return change


def add_stage(stage: Document) -> Change:
    """Return a change that appends a stage."""
    return lambda document: document["spec"]["stages"].append(stage)


STAGE = "spec.stages.0"
TEMPLATES = "spec.environment.templates"
STORE = {"endpoint": "https://minio:9000", "bucket": "ada"}

BAD_INPUTS: tuple[tuple[str, Change, str, str], ...] = (
    # --- shape
    ("no-spec", drop("spec"), "spec", "required"),
    ("no-stages", drop("spec.stages"), "spec.stages", "required"),
    ("empty-stages", put("spec.stages", []), "spec.stages", "at least 1"),
    ("stage-without-name", drop(f"{STAGE}.name"), "spec.stages[0].name", "required"),
    ("stage-without-frames", drop(f"{STAGE}.frames"), "spec.stages[0].frames", "required"),
    ("unknown-field-of-the-spec", put("spec.enviroment", {}), "spec.enviroment", "did you mean environment"),
    (
        "unknown-field-deep-inside",
        put(f"{STAGE}.trainer.nodes.maximum", 3),
        "spec.stages[0].trainer.nodes.maximum",
        "unknown field",
    ),
    ("unknown-field-in-snake-case", put("spec.failure_policy", {}), "spec.failure_policy", "did you mean failurePol"),
    ("unknown-field-at-the-top", put("specs", {}), "specs", "did you mean spec"),
    ("stages-as-an-object", put("spec.stages", {"name": "a"}), "spec.stages", "must be a list"),
    ("environment-as-text", put("spec.environment", "symbolic"), "spec.environment", "must be an object"),
    # --- types
    ("number-as-text", put(f"{STAGE}.frames", "3"), "spec.stages[0].frames", "whole number"),
    ("fraction-for-a-whole-number", put(f"{STAGE}.frames", 3.5), "spec.stages[0].frames", "whole number"),
    ("true-for-a-number", put("spec.seed", True), "spec.seed", "whole number"),
    (
        "text-for-a-fraction",
        put(f"{STAGE}.algorithm.discount", "0.9"),
        "spec.stages[0].algorithm.discount",
        "must be a number",
    ),
    ("text-for-a-switch", put("spec.suspend", "yes"), "spec.suspend", "true or false"),
    ("number-for-a-name", put(f"{STAGE}.name", 7), "spec.stages[0].name", "must be text"),
    (
        "number-for-a-label",
        put(f"{STAGE}.trainer.pod.nodeSelector", {"gpu": 1}),
        "spec.stages[0].trainer.pod.nodeSelector.gpu",
        "must be text",
    ),
    (
        "fraction-for-a-quantity",
        put(f"{STAGE}.trainer.pod.resources", {"limits": {"cpu": 1.5}}),
        "spec.stages[0].trainer.pod.resources.limits.cpu",
        "whole number or text",
    ),
    ("null-in-a-list", put("spec.evaluation.trials", [1, None]), "spec.evaluation.trials[1]", "whole number"),
    # --- choices and patterns
    (
        "worlds-too-small-for-their-games",
        put("spec.environment.world", {"size": {"min": 6, "max": 6}}),
        "spec.environment.world.size.max",
        "too small for the objects",
    ),
    (
        "unknown-observation",
        put("spec.environment.observation", "pixel"),
        "spec.environment.observation",
        "mean pixels",
    ),
    ("unknown-preset", put(f"{STAGE}.model", {"preset": "24m"}), "spec.stages[0].model.preset", "'23m'"),
    ("unknown-core", put(f"{STAGE}.model", {"core": "lstm"}), "spec.stages[0].model.core", "transformer-xl"),
    ("unknown-method", put("spec.curriculum", {"method": "PLR"}), "spec.curriculum.method", "did you mean plr"),
    (
        "unknown-action-group",
        put("spec.environment.actionGroups", ["move", "jump"]),
        "spec.environment.actionGroups[1]",
        "'grip'",
    ),
    ("name-too-long", put("metadata.name", "a" * 41), "metadata.name", "at most 40"),
    ("name-with-dots", put("metadata.name", "a.b"), "metadata.name", "must match"),
    ("stage-name-in-capitals", put(f"{STAGE}.name", "Teacher"), "spec.stages[0].name", "must match"),
    ("stage-name-too-long", put(f"{STAGE}.name", "a" * 41), "spec.stages[0].name", "at most 40"),
    (
        "digest-of-another-kind",
        put(f"{STAGE}.warmStart", {"uri": "s3://b/c", "digest": "md5:0"}),
        "spec.stages[0].warmStart.digest",
        "must match",
    ),
    (
        "store-without-scheme",
        put("spec.checkpoint.store", {**STORE, "endpoint": "minio:9000"}),
        "spec.checkpoint.store.endpoint",
        "must match",
    ),
    (
        "bucket-in-capitals",
        put("spec.checkpoint.store", {**STORE, "bucket": "Ada"}),
        "spec.checkpoint.store.bucket",
        "must match",
    ),
    # --- bounds
    ("no-frames", put(f"{STAGE}.frames", 0), "spec.stages[0].frames", "at least 1"),
    ("frames-below-zero", put(f"{STAGE}.frames", -5), "spec.stages[0].frames", "at least 1"),
    ("frames-beyond-64-bits", put(f"{STAGE}.frames", 2**64), "spec.stages[0].frames", "at most"),
    ("seed-beyond-a-double", put("spec.seed", 2**53), "spec.seed", "less than 9007199254740992"),
    ("three-players", put("spec.environment.players", 3), "spec.environment.players", "at most 2"),
    (
        "more-worlds-than-numbers",
        put("spec.environment.taskPool.worlds", 2**40),
        "spec.environment.taskPool.worlds",
        "most",
    ),
    ("no-games", put("spec.environment.taskPool.games", 0), "spec.environment.taskPool.games", "at least 1"),
    ("discount-of-one", put(f"{STAGE}.algorithm.discount", 1), "spec.stages[0].algorithm.discount", "less than 1"),
    (
        "learning-rate-of-zero",
        put(f"{STAGE}.algorithm.learningRate", 0),
        "spec.stages[0].algorithm.learningRate",
        "more than 0",
    ),
    (
        "world-too-small",
        put("spec.environment.world.size", {"min": 5, "max": 9}),
        "spec.environment.world.size.min",
        "6 to 24",
    ),
    (
        "world-too-large",
        put("spec.environment.world.size", {"min": 8, "max": 25}),
        "spec.environment.world.size.max",
        "6 to 24",
    ),
    ("no-trials", put("spec.environment.trials", {"min": 0, "max": 6}), "spec.environment.trials.min", "1 to 48"),
    (
        "too-many-trials",
        put("spec.environment.trials", {"min": 1, "max": 49}),
        "spec.environment.trials.max",
        "1 to 48",
    ),
    (
        "too-many-rules",
        put("spec.environment.game.rules", {"min": 0, "max": 9}),
        "spec.environment.game.rules.max",
        "8",
    ),
    ("trial-of-no-length", put("spec.environment.trialSeconds", [0]), "spec.environment.trialSeconds[0]", "at least 1"),
    ("no-trial-lengths", put("spec.environment.trialSeconds", []), "spec.environment.trialSeconds", "at least 1"),
    ("evaluation-of-49-trials", put("spec.evaluation.trials", [5, 49]), "spec.evaluation.trials[1]", "at most 48"),
    ("no-nodes-wanted", put("spec.nodes", 0), "spec.nodes", "at least 1"),
    (
        "33-stages",
        lambda d: d["spec"]["stages"].extend({"name": f"s{n}", "frames": 1} for n in range(31)),
        "spec.stages",
        "32",
    ),
    # --- rules between fields
    (
        "trials-from-six-to-two",
        put("spec.environment.trials", {"min": 6, "max": 2}),
        "spec.environment.trials.min",
        "at most max",
    ),
    (
        "nodes-from-three-to-one",
        put(f"{STAGE}.trainer.nodes", {"min": 3, "max": 1}),
        "spec.stages[0].trainer.nodes.min",
        "at most max",
    ),
    (
        "trial-lengths-descend",
        put("spec.environment.trialSeconds", [25, 10]),
        "spec.environment.trialSeconds[1]",
        "ascend",
    ),
    (
        "a-number-of-trials-twice",
        put("spec.evaluation.trials", [1, 5, 5]),
        "spec.evaluation.trials[2]",
        "each number once",
    ),
    (
        "an-action-group-twice",
        put("spec.environment.actionGroups", ["move", "move"]),
        "spec.environment.actionGroups[1]",
        "twice",
    ),
    ("two-stages-of-one-name", add_stage({"name": "student", "frames": 1}), "spec.stages[2].name", "two stages"),
    (
        "student-before-its-teacher",
        lambda d: d["spec"]["stages"].reverse(),
        "spec.stages[0].distillation.teacher",
        "earlier stage",
    ),
    (
        "teacher-that-is-no-stage",
        put("spec.stages.1.distillation.teacher", "tutor"),
        "spec.stages[1].distillation.teacher",
        "earlier stage",
    ),
    (
        "its-own-teacher",
        put("spec.stages.1.distillation.teacher", "student"),
        "spec.stages[1].distillation.teacher",
        "earlier stage",
    ),
    (
        "distillation-from-nobody",
        put("spec.stages.1.distillation", {}),
        "spec.stages[1].distillation",
        "either teacher",
    ),
    (
        "distillation-from-two",
        put("spec.stages.1.distillation.checkpoint", CHECKPOINT),
        "spec.stages[1].distillation",
        "not both",
    ),
    (
        "fitness-of-a-model-that-ppo-has-not",
        put("spec.curriculum", {"method": "plr", "plr": {"fitness": "value-model"}}),
        "spec.curriculum.plr.fitness",
        "algorithm muesli",
    ),
    (
        "consistency-of-a-model-that-ppo-has-not",
        put("spec.stages.1.algorithm", {"name": "ppo", "muesli": {"consistencyWeight": 2}}),
        "spec.stages[1].algorithm.muesli.consistencyWeight",
        "algorithm muesli",
    ),
    (
        "frozen-co-player-of-no-checkpoint",
        both(put("spec.environment.players", 2), put("spec.stages.1.coPlayer", {"kind": "frozen"})),
        "spec.stages[1].coPlayer.checkpoint",
        "frozen co-player needs checkpoint",
    ),
    (
        "co-player-of-one-player",
        put("spec.stages.1.coPlayer", {"kind": "random"}),
        "spec.stages[1].coPlayer.kind",
        "tasks of two players",
    ),
    (
        "gate-of-no-stage",
        put("spec.evaluation.gates.0.stage", "tutor"),
        "spec.evaluation.gates[0].stage",
        "name stages of this experiment",
    ),
    (
        "gate-that-is-never-measured",
        put("spec.evaluation.gates.0.trials", 4),
        "spec.evaluation.gates[0].trials",
        "evaluation.trials",
    ),
    (
        "two-gates-alike",
        lambda d: d["spec"]["evaluation"]["gates"].append({"stage": "teacher", "score": 0.1}),
        "spec.evaluation.gates[1].stage",
        "keep one",
    ),
    ("template-without-text", put(TEMPLATES, [{"name": "find"}]), "spec.environment.templates[0]", "either text or"),
    (
        "template-with-two-texts",
        put(f"{TEMPLATES}.0.configMap", {"name": "a", "key": "b"}),
        "spec.environment.templates[0]",
        "not both",
    ),
    (
        "two-templates-of-one-name",
        put(TEMPLATES, [{"name": "find", "text": "a"}, {"name": "find", "text": "b"}]),
        "spec.environment.templates[1].name",
        "two templates",
    ),
    (
        "no-tasks-at-all",
        both(put("spec.environment.generatedWeight", 0), put(TEMPLATES, [])),
        "spec.environment.generatedWeight",
        "no tasks",
    ),
    (
        "archive-smaller-than-its-minimum",
        put("spec.curriculum.plr", {"archiveSize": 10, "minArchiveSize": 11}),
        "spec.curriculum.plr.minArchiveSize",
        "at most archiveSize",
    ),
    (
        "heads-that-do-not-divide",
        put(f"{STAGE}.model", {"width": 64, "heads": 3}),
        "spec.stages[0].model.heads",
        "divide",
    ),
    (
        "fewer-simulators-than-workers",
        put(f"{STAGE}.trainer", {"nodes": {"min": 1, "max": 2}, "workersPerNode": 2}),
        "spec.stages[0].simulators.replicas",
        "at least trainer.nodes.max",
    ),
    (
        "fewer-worlds-than-simulators",
        both(put(f"{STAGE}.simulators.replicas", 4), put(f"{STAGE}.algorithm.worlds", 3)),
        "spec.stages[0].algorithm.worlds",
        "each simulator",
    ),
    ("gang-without-a-queue", put("spec.scheduling", {"gang": "kueue"}), "spec.scheduling.queueName", "needs queueName"),
)

GOOD_INPUTS: tuple[tuple[str, Change], ...] = (
    ("as-it-is", lambda document: None),
    ("one-bare-stage", put("spec", {"stages": [{"name": "only", "frames": 1}]})),
    ("null-means-not-set", both(put("spec.nodes", None), put("spec.seed", None), put(f"{STAGE}.warmStart", None))),
    ("a-whole-number-for-a-fraction", put(f"{STAGE}.algorithm.valueWeight", 1)),
    ("a-fraction-that-is-whole", both(put("spec.seed", 3.0), put(f"{STAGE}.frames", 1e6))),
    ("teacher-of-another-experiment", put("spec.stages.1.distillation", {"checkpoint": CHECKPOINT})),
    ("quantities-as-text-and-number", put(f"{STAGE}.trainer.pod.resources", {"limits": {"cpu": "1500m", "gpu": 8}})),
    ("anything-in-tolerations", put(f"{STAGE}.trainer.pod.tolerations", [{"key": "a", "new": [{"b": 1.5}]}])),
    ("longest-name", put("metadata.name", "a" * 40)),
)

BAD_UPDATES: tuple[tuple[str, Change], ...] = (
    ("another-seed", put("spec.seed", 5)),
    ("another-environment", put("spec.environment.players", 2)),
    ("another-curriculum", put("spec.curriculum", {"method": "uniform"})),
    ("another-evaluation", put("spec.evaluation.tasks", 5)),
    ("another-store", put("spec.checkpoint.store", STORE)),
    ("another-model", put(f"{STAGE}.model", {"preset": "micro"})),
    ("another-learning-rate", put(f"{STAGE}.algorithm.learningRate", 0.5)),
    ("other-frames", put(f"{STAGE}.frames", 2000)),
    ("another-teacher", put("spec.stages.1.distillation", {"checkpoint": CHECKPOINT})),
    ("no-teacher-any-more", drop("spec.stages.1.distillation")),
    ("a-stage-in-front", lambda d: d["spec"]["stages"].insert(0, {"name": "zeroth", "frames": 1})),
    ("a-stage-gone", drop("spec.stages.1")),
)

GOOD_UPDATES: tuple[tuple[str, Change], ...] = (
    ("suspended", put("spec.suspend", True)),
    (
        "other-nodes",
        both(put(f"{STAGE}.trainer.nodes", {"min": 1, "max": 2}), put(f"{STAGE}.simulators.replicas", 2)),
    ),
    ("another-interval", put("spec.checkpoint.intervalSeconds", 30)),
    ("another-gate", put("spec.evaluation.gates.0.score", 0.1)),
    ("a-stage-more", add_stage({"name": "third", "frames": 1})),
    ("scaled", put("spec.nodes", 1)),
)
