"""Muesli as a whole: its losses beside slow ones, where gradients stop, restarts, workers, and that it learns."""

import copy
import importlib.util
import itertools
import math
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ada_api.stages import Algorithm, Muesli
from ada_curriculum.types import Lease
from ada_sim.batch import TimeStep
from ada_sim.observation import specification
from ada_trainer.algorithms import policies, two_hot
from ada_trainer.algorithms.retrace import retrace
from ada_trainer.batch import Batch
from ada_trainer.exits import ConfigurationError
from ada_trainer.learner import Learner
from ada_trainer.objective_muesli import MuesliObjective, MuesliTargets
from ada_trainer.rollout import Collector

_spec = importlib.util.spec_from_file_location("learner_parts", Path(__file__).with_name("learner_parts.py"))
assert _spec is not None and _spec.loader is not None
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)
SPACE, MUESLI, ALGORITHM, T, B = parts.SPACE, parts.MUESLI, parts.ALGORITHM, parts.T, parts.B
network, learner, objective_of, batch = parts.network, parts.learner, parts.objective_of, parts.batch
parameters, made_up_targets, Sum = parts.parameters, parts.made_up_targets, parts.Sum


def slow_terms(of: Learner, told: Batch, targets: MuesliTargets, count: float) -> dict[str, float]:
    """Every start, world and step of the model by itself."""
    agent, K = of.network, MUESLI.model_unroll
    model = agent.model
    assert model is not None and told.teacher is not None
    roots = agent.unroll_roots(told.observation, told.state, told.clear)
    totals = dict.fromkeys(MuesliObjective.terms, 0.0)

    def two_hot_loss(logits: Tensor, wanted: float) -> float:
        return two_hot.cross_entropy(logits[None], torch.tensor([wanted]), model.value_range).item()

    def towards(weights: Tensor, logits: policies.Logits) -> float:
        return -float((weights * torch.cat([group.log_softmax(-1) for group in logits], -1)).sum())

    def imitation(t: int, b: int, logits: policies.Logits) -> float:
        assert told.teacher is not None
        return policies.divergence(told.teacher[t, b].split(agent.choices), logits).item()

    for t in range(T):
        for b in range(B):
            w = float(told.learn[t, b]) / count
            actions, state, over = told.actions[:, b][:, agent.groups], roots[t, b], False
            logits = model.policy(state)
            log_prob = policies.log_prob(logits, actions[t])
            ratio, wanted = float((log_prob - told.log_prob[t, b]).exp()), float(targets.advantage[t, b]) > 0
            reach = of.algorithm.muesli.policy_gradient_clip or math.inf
            too_far = ratio > 1 + reach if wanted else ratio < 1 - reach
            weight = 0.0 if too_far else min(1.0, ratio)
            totals["policy_loss"] -= w * weight * float(targets.advantage[t, b] * log_prob)
            totals["value_loss"] += w * two_hot_loss(model.value_logits(state), float(targets.returns[t, b]))
            totals["entropy"] += w * policies.entropy(logits).item()
            totals["cmpo_loss"] += w * towards(targets.choice_weights[t, b], logits)
            totals["distillation_loss"] += w * imitation(t, b, logits)
            for k in range(1, K + 1):
                if t + k - 1 >= T and not over:
                    break
                state = model.step(state, actions[min(t + k - 1, T - 1)])
                reward = 0.0 if over else float(told.reward[t + k - 1, b])
                totals["reward_loss"] += w / K * two_hot_loss(model.reward_logits(state), reward)
                over = over or told.continues[t + k - 1, b].item() == 0
                if over:
                    totals["model_value_loss"] += w / K * two_hot_loss(model.value_logits(state), 0.0)
                elif t + k < T:
                    wanted, logits = float(targets.returns[t + k, b]), model.policy(state)
                    totals["model_value_loss"] += w / K * two_hot_loss(model.value_logits(state), wanted)
                    totals["model_policy_loss"] += w / K * towards(targets.choice_weights[t + k, b], logits)
                    totals["distillation_loss"] += w / K * imitation(t + k, b, logits)
    totals["loss"] = (
        MUESLI.policy_gradient_weight * totals["policy_loss"]
        + MUESLI.cmpo_weight * (totals["cmpo_loss"] + totals["model_policy_loss"])
        + MUESLI.value_weight * (totals["value_loss"] + totals["model_value_loss"])
        + MUESLI.reward_weight * totals["reward_loss"]
        + 0.7 * totals["distillation_loss"]
        - ALGORITHM.entropy_weight * totals["entropy"]
    )
    return totals


@pytest.mark.parametrize(("core", "clip"), [("gru", None), ("transformer-xl", 0.05)])
def test_the_losses_are_those_of_each_start_world_and_step_of_the_model(core: str, clip: float | None) -> None:
    algorithm = ALGORITHM.model_copy(update={"muesli": MUESLI.model_copy(update={"policy_gradient_clip": clip})})
    ours = learner(algorithm, core=core, distillation_weight=0.7)
    told, targets = batch(ours, teacher=True), made_up_targets(ours)
    with torch.no_grad():
        for parameter in ours.network.parameters():  # the learner is no longer the network that acted
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
        terms = objective_of(ours).loss(told, targets, torch.arange(B), 11.0, 0)
        expected = slow_terms(ours, told, targets, 11.0)
    for name, term in zip(MuesliObjective.terms, terms, strict=True):
        assert term.item() == pytest.approx(expected[name], rel=1e-4, abs=1e-4), name


@pytest.mark.parametrize("centred", [False, True])
def test_targets_are_the_target_networks_look_ahead_and_carry_no_gradient(centred: bool) -> None:
    settings = {"samples": 1024, "uniform_share": 0.0, "behaviour_share": 0.0, "center_advantages": centred}
    many = MUESLI.model_copy(update=settings)
    ours = learner(ALGORITHM.model_copy(update={"muesli": many}))
    told, objective, model = batch(ours), objective_of(ours), ours.acting.model
    assert model is not None and told.roots is not None
    with torch.no_grad():
        for parameter in [*model.value_head.parameters(), *model.reward_head.parameters()]:
            parameter.add_(torch.randn_like(parameter), alpha=0.7)  # else q is 0 everywhere
        told = replace(told, value=model.value(told.roots))
    targets = objective.prepare(told, lambda tensor: tensor, seed=3)
    assert not any(t.requires_grad for t in (targets.returns, targets.advantage, targets.choice_weights))

    def q_of(root: Tensor, action: Tensor) -> Tensor:
        after = model.step(root, action)
        return model.reward(after) + ALGORITHM.discount * model.value(after)

    with torch.no_grad():
        expected = torch.zeros(T + 1, B)  # over all 15 joint actions
        for move, turn in itertools.product(range(3), range(5)):
            action = torch.tensor([move, turn])
            chance = policies.log_prob(model.policy(told.roots), action.expand(T + 1, B, 2)).exp()
            expected += chance * q_of(told.roots, action.expand(T + 1, B, 2))
        q = q_of(told.roots[:-1], told.actions[..., list(ours.network.groups)])
    decays = {"discount": ALGORITHM.discount, "trace_decay": ALGORITHM.trace_decay}
    returns = retrace(told.reward, told.continues, expected, q, torch.zeros(T, B), **decays)
    torch.testing.assert_close(targets.returns, returns, atol=0.05, rtol=0.02)
    assert q.std() > 0.02 and returns.std() > 0.2
    residual = targets.returns - told.value[:-1]
    scale = objective.scale.deviation
    assert scale == pytest.approx(residual[told.learn].square().mean().sqrt().item(), rel=1e-3)
    mean = residual[told.learn].mean()
    assert mean.abs() > 0.01
    torch.testing.assert_close(targets.advantage * scale, residual - mean * centred, atol=1e-4, rtol=1e-4)


def gradients(of: Learner, term: str, targets: MuesliTargets, told: Batch) -> dict[str, float]:
    terms = dict(zip(MuesliObjective.terms, objective_of(of).loss(told, targets, torch.arange(B), 9.0, 0), strict=True))
    names, values = zip(*of.network.named_parameters(), strict=True)
    found = torch.autograd.grad(terms[term], values, allow_unused=True)
    return {name: 0.0 if g is None else float(g.abs().sum()) for name, g in zip(names, found, strict=True)}


@pytest.mark.parametrize(
    ("term", "reaches", "stops_before"),
    [
        ("policy_loss", "policy_head", ("value_head", "reward_head", "from_action", "from_state")),
        ("cmpo_loss", "policy_head", ("value_head", "reward_head", "from_action", "from_state")),
        ("value_loss", "value_head", ("policy_head", "reward_head", "from_action", "from_state")),
        ("reward_loss", "reward_head", ("policy_head", "value_head")),
        ("model_policy_loss", "policy_head", ("value_head", "reward_head")),
        ("model_value_loss", "value_head", ("policy_head", "reward_head")),
    ],
)
def test_gradients_reach_memory_and_encoder_and_stop_at_other_heads(
    term: str, reaches: str, stops_before: tuple[str, ...]
) -> None:
    ours = learner()
    told = batch(ours)
    found = gradients(ours, term, made_up_targets(ours), told)
    for part in (reaches, "core.from_memory", "encoder.", "model.root_hidden"):
        assert any(size > 0 for name, size in found.items() if part in name), part
    for part in stops_before:
        assert not any(size > 0 for name, size in found.items() if f"model.{part}" in name), part
    if term.startswith(("model", "reward")):
        assert found["model.from_action"] > 0 and found["model.from_state.weight"] > 0
    assert all(parameter.grad is None for parameter in ours.acting.parameters())


def test_the_target_network_follows_at_its_rate_and_only_with_steps_taken() -> None:
    ours = learner(Algorithm(name="muesli", minibatches=1, epochs=1, unroll=T, worlds=B, muesli=MUESLI))
    before = parameters(ours.acting).clone()
    ours.update(batch(ours), 0.0)
    learned = parameters(ours.network)
    torch.testing.assert_close(parameters(ours.acting), before + MUESLI.target_rate * (learned - before))
    assert not torch.equal(learned, before)


@pytest.mark.parametrize("core", ["gru", "transformer-xl"])
def test_updates_a_restart_and_updates_are_the_same_bit_for_bit(core: str) -> None:
    whole, first = learner(core=core), learner(core=core)
    batches = [batch(whole, seed) for seed in range(4)]
    for index, each in enumerate(batches):
        whole.update(each, index / 4)
    for index in (0, 1):
        first.update(batches[index], index / 4)
    kept = copy.deepcopy(first.state_dict())
    second = learner(core=core)
    with torch.no_grad():
        for parameter in [*second.network.parameters(), *second.acting.parameters()]:
            parameter.zero_()
    second.load_state_dict(kept)
    for index in (2, 3):
        second.update(batches[index], index / 4)
    assert torch.equal(parameters(whole.network), parameters(second.network))
    assert torch.equal(parameters(whole.acting), parameters(second.acting))
    assert objective_of(whole).scale == objective_of(second).scale


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_is_not_finite_skips_the_update_and_leaves_scale_and_target_network(poison: float) -> None:
    ours = learner()
    ours.update(batch(ours), 0.0)
    scale, acting = objective_of(ours).scale, parameters(ours.acting).clone()
    spoiled = batch(ours)
    spoiled.reward[2, 3] = poison
    spoiled.learn[:] = True
    assert ours.update(spoiled, 0.0).skipped
    assert objective_of(ours).scale == scale
    assert torch.equal(parameters(ours.acting), acting)
    assert not ours.update(batch(ours, 1), 0.0).skipped


def test_two_workers_share_scale_gradients_and_target_network() -> None:
    once = Algorithm(name="muesli", minibatches=1, epochs=1, unroll=T, worlds=2 * B, muesli=MUESLI)
    pair = [learner(once), learner(once)]
    halves = [batch(pair[0], seed) for seed in (0, 1)]
    total = Sum(2)
    threads = [Thread(target=pair[n].update, args=(halves[n], 0.0, total.of(n))) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert torch.equal(parameters(pair[0].network), parameters(pair[1].network))
    assert torch.equal(parameters(pair[0].acting), parameters(pair[1].acting))
    assert objective_of(pair[0]).scale == objective_of(pair[1]).scale
    alone = learner(once)
    alone.update(halves[0], 0.0)
    assert objective_of(alone).scale != objective_of(pair[0]).scale


def test_gradients_of_parts_add_up_to_the_wholes() -> None:
    ours = learner()
    told, targets = batch(ours), made_up_targets(ours)
    objective = objective_of(ours)
    whole = objective.loss(told, targets, torch.arange(B), 7.0, 0)[0].item()
    pieces = sum(objective.loss(told, targets, torch.arange(s, s + 2), 7.0, 0)[0].item() for s in range(0, B, 2))
    assert whole == pytest.approx(pieces, rel=1e-5)


def test_imitation_reaches_the_policies_that_the_model_predicts() -> None:
    quiet = MUESLI.model_copy(
        update=dict.fromkeys(("policy_gradient_weight", "cmpo_weight", "value_weight", "reward_weight"), 0.0)
    )
    ours = learner(ALGORITHM.model_copy(update={"muesli": quiet}), distillation_weight=1.0, distillation_l2=1e-5)
    taught = batch(ours, teacher=True)
    without = replace(taught, teacher=None)
    with torch.no_grad():
        arguments = (made_up_targets(ours), torch.arange(B), 9.0, 0)
        assert objective_of(ours).loss(without, *arguments)[4] == 0
    divergences = [ours.update(taught, 0.0).distillation_loss for _ in range(30)]
    assert divergences[-1] < 0.7 * divergences[0]


def test_a_stride_unrolls_the_model_from_fewer_timesteps_and_keeps_the_size_of_the_losses() -> None:
    sizes = []
    for stride in (1, 3):
        muesli = MUESLI.model_copy(update={"model_stride": stride})
        ours = learner(ALGORITHM.model_copy(update={"muesli": muesli}))
        told, targets = batch(ours), made_up_targets(ours)
        told.learn[:] = True
        told.continues[:] = 1
        with torch.no_grad():
            terms = [objective_of(ours).loss(told, targets, torch.arange(B), T * B, index) for index in range(stride)]
        sizes.append([torch.stack([term[place] for term in terms]).mean().item() for place in (6, 7, 8)])
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-4), "over as many minibatches as the stride, the mean is the same"


class CueWorlds:
    """A cue is shown at the first timestep of a trial of four; moving as it says is worth 1 at each timestep."""

    def __init__(self, worlds: int) -> None:
        self.worlds = worlds
        self.rng = np.random.default_rng(2)
        self.cue = np.zeros(worlds, np.int64)
        self.clock = np.full(worlds, -1)

    def assign(self, worlds: np.ndarray, tasks: np.ndarray, trials: np.ndarray, seeds: np.ndarray) -> None:
        pass

    def step(self, actions: np.ndarray) -> TimeStep:
        first = self.clock[0] < 0
        reward = np.where(actions[:, 0, 0] == 2 * self.cue, 1.0, 0.0).astype(np.float32)[:, None] * (not first)
        self.clock = (self.clock + 1) % 4
        ended = (self.clock == 0) & (not first)
        started = self.clock == 0
        self.cue = np.where(started, self.rng.integers(0, 2, self.worlds), self.cue)
        seen = {}
        for field in specification(SPACE):
            seen[field.name] = np.zeros((self.worlds, 1, *field.shape), field.dtype)
        seen["ranges"][:, 0, 0] = (2 * self.cue - 1) * started
        seen["last_reward"][:, 0] = reward
        trial_ended = np.where(ended, 0, -1).astype(np.int16)
        return TimeStep(seen, reward, trial_ended, ended, started, np.ones(self.worlds, bool))


def lend(count: int) -> list[Lease]:
    return [Lease(str(np.random.default_rng().integers(1 << 60)), 1, 1, 1, True, "agent") for _ in range(count)]


def played(algorithm: Algorithm, iterations: int, **options: Any) -> list[float]:
    """Return the score of each iteration."""
    torch.set_num_threads(1)
    muesli = algorithm.muesli if algorithm.name == "muesli" else None
    ours = Learner(network(muesli=muesli), algorithm, seed=4)
    worlds = algorithm.worlds
    collector = Collector(CueWorlds(worlds), worlds, 1, ours.acting, algorithm, lend, seed=3, **options)
    scores = []
    for _ in range(iterations):
        collected = collector.collect()
        scores.append(float(collected.trial_scores.sum() / collected.trial_counts.sum()))
        assert not ours.update(collected.batch, 0.0).skipped
    return scores


def test_muesli_learns_to_move_as_a_cue_said_that_is_gone() -> None:
    algorithm = Algorithm(
        name="muesli", learning_rate=3e-3, minibatches=4, epochs=2, unroll=16, worlds=32, reward_scale=1.0,
        discount=0.8, muesli=Muesli(samples=8, bins=31, value_range=3.0),
    )  # fmt: skip
    scores = played(algorithm, 40)
    assert np.mean(scores[:2]) < 0.45
    assert np.mean(scores[-3:]) > 0.85


@pytest.mark.parametrize("fitness", ["value-model", "action-model"])
def test_the_models_measures_become_the_results_fitness(fitness: str) -> None:
    agent = network()
    algorithm = ALGORITHM.model_copy(update={"unroll": 9, "worlds": 5})
    results = {}
    for measure in ("td-error", fitness):
        collector = Collector(CueWorlds(5), 5, 1, agent, algorithm, lend, seed=3, fitness=measure)
        results[measure] = [result.fitness for result in collector.collect().results]
    assert len(results[fitness]) == len(results["td-error"]) == 10
    assert results[fitness] != results["td-error"]
    assert all(np.isfinite(value) and value >= 0 for value in results[fitness])


def test_a_fitness_of_the_model_is_refused_where_there_is_none() -> None:
    with pytest.raises(ConfigurationError, match="fitness value-model needs a learned model"):
        Collector(CueWorlds(2), 2, 1, network(muesli=None), ALGORITHM, lend, seed=3, fitness="value-model")


def test_acting_and_unrolling_agree_on_policy_value_and_the_models_state() -> None:
    ours = learner()
    told, agent = batch(ours), ours.acting
    state = agent.initial_state(B)
    with torch.no_grad():
        roots = agent.unroll_roots(told.observation, agent.initial_state(B), told.clear)
        for t in range(T):
            seen = {name: field[t] for name, field in told.observation.items()}
            output, state = agent.step(seen, state, told.clear[t])
            assert output.model_state is not None
            torch.testing.assert_close(output.model_state, roots[t], atol=1e-5, rtol=0)
            torch.testing.assert_close(output.value, told.value[t], atol=1e-4, rtol=0)
