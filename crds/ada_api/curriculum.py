"""`spec.curriculum`: how training tasks are chosen (AdA, section "Auto-curriculum learning" and appendix D)."""

from typing import Literal

from pydantic import Field

from ada_api.base import Model

Fitness = Literal["td-error", "value-model", "action-model"]


class PrioritisedLevelReplay(Model):
    """Robust prioritised level replay, as adapted by AdA."""

    replay_probability: float = Field(0.2, ge=0, le=1, description="Chance to train on an archived task (p).")
    archive_size: int = Field(1000, ge=1, le=1_000_000, description="Tasks the archive holds at most (N_max).")
    min_archive_size: int = Field(900, ge=1, le=1_000_000, description="Tasks it must hold before replay (N_min).")
    training_trials: int = Field(30, ge=1, le=10_000, description="Trials trained for each replay visit (N_train).")
    staleness_weight: float = Field(0.2, ge=0, le=1, description="Share of the staleness distribution (s).")
    temperature: float = Field(0.3, gt=0, le=10, description="Rank weights are 1 / rank ** (1 / temperature).")
    fitness: Fitness = Field(
        "td-error",
        description="Per-timestep measure whose mean over the last trial is the fitness; the models' need muesli.",
    )
    train_on_new_tasks: bool = Field(
        False, description="Learn from the evaluation of new tasks too (plain, not robust, level replay)."
    )


class NoopFilter(Model):
    """No-op filtering: a task is trained on if an agent that acts differs from one that does not.

    Thresholds are fractions of the trial's duration T (AdA, appendix D).
    """

    episodes: int = Field(10, ge=1, le=1000, description="Single-trial episodes of each policy for a candidate.")
    epsilon_0: float = Field(0.01, ge=0, le=2, description="Margin over the no-op policy.")
    epsilon_1: float = Field(1.1, ge=0, le=2, description="Largest return the no-op policy may have.")
    epsilon_2: float = Field(0.4, ge=0, le=2, description="Return that counts as success.")
    epsilon_3: int = Field(5, ge=0, le=1000, description="Successes allowed at most.")
    epsilon_4: int = Field(1, ge=0, le=1000, description="Episodes that must beat the no-op policy.")
    epsilon_5: int = Field(3, ge=0, le=1000, description="Or episodes that must fall below it.")
    epsilon_6: float = Field(0.01, ge=0, le=2, description="Smallest spread of returns.")
    training_episodes: int = Field(30, ge=1, le=10_000, description="Episodes trained on an accepted task.")


class Curriculum(Model):
    """Choice and parameters of the curriculum."""

    method: Literal["plr", "noop-filter", "uniform"] = Field("plr", description="How training tasks are chosen.")
    plr: PrioritisedLevelReplay = Field(PrioritisedLevelReplay(), description="Parameters of `plr`.")
    noop_filter: NoopFilter = Field(NoopFilter(), description="Parameters of `noop-filter`.")
