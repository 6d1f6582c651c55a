"""The options that learn from observations alone: beside slow references, where gradients stop, restarts, pictures."""

import copy
import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ada_api.environment import Environment
from ada_api.stages import AgentModel, Algorithm
from ada_sim.observation import specification
from ada_trainer.algorithms import self_supervision
from ada_trainer.learner import Learner
from ada_trainer.networks.agent import AgentNetwork
from ada_trainer.networks.self_supervision import Decoder

_spec = importlib.util.spec_from_file_location("learner_parts", Path(__file__).with_name("learner_parts.py"))
assert _spec is not None and _spec.loader is not None
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)
T, B = parts.T, parts.B
PPO = Algorithm(minibatches=2, epochs=1, unroll=T, worlds=B, reconstruction_weight=0.5)
WITH_BOTH = parts.ALGORITHM.model_copy(
    update={"muesli": parts.MUESLI.model_copy(update={"consistency_weight": 2.0}), "reconstruction_weight": 0.5}
)


def double(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def slow_symlog(x: float) -> float:
    return math.copysign(math.log(1 + abs(x)), x)


def test_losses_are_their_definitions_in_loops() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(3, 4, 5)), rng.normal(size=(3, 4, 5)) * 7
    similar = self_supervision.consistency_loss(torch.tensor(one), torch.tensor(other))
    errors = self_supervision.reconstruction_loss(torch.tensor(one), self_supervision.symlog(torch.tensor(other)))
    for i in range(3):
        for j in range(4):
            p, q = one[i, j], other[i, j]
            cosine = sum(a * b for a, b in zip(p, q, strict=True)) / math.sqrt(sum(p * p) * sum(q * q))
            assert similar[i, j].item() == pytest.approx(-cosine, abs=1e-9)
            squares = sum((a - slow_symlog(b)) ** 2 for a, b in zip(p, q, strict=True))
            assert errors[i, j].item() == pytest.approx(squares / 5 / 2, abs=1e-9)


def test_both_terms_are_those_of_each_start_world_and_step_of_the_model() -> None:
    ours = parts.learner(WITH_BOTH)
    told, objective, K = parts.batch(ours), parts.objective_of(ours), parts.MUESLI.model_unroll
    terms = dict(
        zip(objective.terms, objective.loss(told, parts.made_up_targets(ours), torch.arange(B), 9.0, 0), strict=True)
    )
    agent, model = ours.network, ours.network.model
    projection, decoder = objective.auxiliary["projection"], objective.auxiliary["decoder"]
    with torch.no_grad():
        roots = agent.unroll_roots(told.observation, told.state, told.clear)
        consistency = reconstruction = 0.0
        for t in range(T):
            for b in range(B):
                w = float(told.learn[t, b]) / 9.0
                state = roots[t, b]
                reconstruction += w * slow_reconstruction(decoder, state[: model.width], told, t, b)
                for k in range(1, K + 1):
                    if t + k >= T or told.continues[t + k - 1, b] == 0:
                        break
                    state = model.step(state, told.actions[t + k - 1, b][list(agent.groups)])
                    p, q = double(projection(state)), double(projection.projector(roots[t + k, b]))
                    consistency -= w / K * float(p @ q / math.sqrt(float(p @ p) * float(q @ q)))
                    reconstruction += w / K * slow_reconstruction(decoder, state[: model.width], told, t + k, b)
    assert terms["consistency_loss"].item() == pytest.approx(consistency, rel=1e-4)
    assert terms["reconstruction_loss"].item() == pytest.approx(reconstruction, rel=1e-4)
    without = parts.learner()
    without.network.load_state_dict(ours.network.state_dict())
    plain = parts.objective_of(without).loss(told, parts.made_up_targets(ours), torch.arange(B), 9.0, 0)[0]
    assert terms["loss"].item() == pytest.approx(plain.item() + 2.0 * consistency + 0.5 * reconstruction, rel=1e-4)


def slow_reconstruction(decoder: Decoder, hidden: Tensor, told: parts.Batch, t: int, b: int) -> float:
    wanted = [
        slow_symlog(float(x)) for name in ("objects", "ranges", "body") for x in told.observation[name][t, b].flatten()
    ]
    decoded = double(decoder(hidden))
    return sum((a - x) ** 2 for a, x in zip(decoded, wanted, strict=True)) / len(wanted) / 2


def test_no_gradient_flows_into_what_is_to_be_predicted() -> None:
    ours = parts.learner(WITH_BOTH)
    projection = parts.objective_of(ours).auxiliary["projection"]
    predicted_from = torch.randn(3, 2 * ours.network.model.width, requires_grad=True)
    target_from = torch.randn(3, 2 * ours.network.model.width, requires_grad=True)
    self_supervision.consistency_loss(projection(predicted_from), projection.target(target_from)).sum().backward()
    assert predicted_from.grad is not None and float(predicted_from.grad.abs().sum()) > 0
    assert target_from.grad is None


@pytest.mark.parametrize("term", ["consistency_loss", "reconstruction_loss"])
def test_both_teach_memory_encoder_and_model_but_no_head_of_the_agent(term: str) -> None:
    ours = parts.learner(WITH_BOTH)
    objective = parts.objective_of(ours)
    terms = objective.loss(parts.batch(ours), parts.made_up_targets(ours), torch.arange(B), 9.0, 0)
    names, values = zip(*ours.network.named_parameters(), strict=True)
    found = torch.autograd.grad(terms[objective.terms.index(term)], values, allow_unused=True)
    reached = {name for name, g in zip(names, found, strict=True) if g is not None and float(g.abs().sum()) > 0}
    for part in ("encoder.", "core.", "model.from_state", "model.from_action", "model.root_hidden"):
        assert any(part in name for name in reached), part
    assert not any("_head" in name for name in reached)


@pytest.mark.parametrize("algorithm", [WITH_BOTH, PPO], ids=["muesli", "ppo"])
def test_reconstruction_gets_better_with_learning(algorithm: Algorithm) -> None:
    ours = parts.learner(algorithm)
    told = parts.batch(ours)
    errors = [ours.update(told, 0.0).reconstruction_loss for _ in range(25)]
    assert errors[-1] < 0.7 * errors[0]


def test_the_model_learns_to_foresee_the_states_that_follow() -> None:
    ours = parts.learner(WITH_BOTH)
    told = parts.batch(ours)
    losses = [ours.update(told, 0.0).consistency_loss for _ in range(25)]
    assert losses[-1] < losses[0] - 0.2 and losses[-1] > -1.0 - 1e-6


@pytest.mark.parametrize("algorithm", [WITH_BOTH, PPO], ids=["muesli", "ppo"])
def test_updates_a_restart_and_updates_are_the_same_bit_for_bit_with_the_options(algorithm: Algorithm) -> None:
    whole, first = parts.learner(algorithm), parts.learner(algorithm)
    batches = [parts.batch(whole, seed) for seed in range(4)]
    for index, each in enumerate(batches):
        whole.update(each, index / 4)
    for index in (0, 1):
        first.update(batches[index], index / 4)
    kept = copy.deepcopy(first.state_dict())
    torch.manual_seed(77)
    second = Learner(parts.network(muesli=algorithm.muesli if algorithm.name == "muesli" else None), algorithm, seed=4)
    second.load_state_dict(kept)
    for index in (2, 3):
        second.update(batches[index], index / 4)
    assert torch.equal(parts.parameters(whole.network), parts.parameters(second.network))
    for one, other in zip(
        whole._objective.auxiliary.parameters(), second._objective.auxiliary.parameters(), strict=True
    ):
        assert torch.equal(one, other)


def test_an_agent_of_options_is_an_agent_without_them() -> None:
    plain, with_options = parts.learner(), parts.learner(WITH_BOTH)
    assert plain.acting.state_dict().keys() == with_options.acting.state_dict().keys()
    assert not plain.state_dict()["auxiliary"] and with_options.state_dict()["auxiliary"]


def test_a_picture_is_decoded_to_its_own_shape() -> None:
    space = Environment(observation="pixels", action_groups=["move"])
    agent = AgentNetwork(AgentModel(core="gru"), specification(space), space.action_groups)
    decoder = Decoder(agent.features, agent.shapes)
    seen = torch.randint(0, 256, (2, 3, *agent.shapes["pixels"]), dtype=torch.uint8)
    decoded, wanted = decoder(torch.randn(2, 3, agent.features)), decoder.wanted({"pixels": seen})
    assert decoded.shape == wanted.shape == (2, 3, math.prod(agent.shapes["pixels"]))
    assert torch.equal(wanted.view(seen.shape), seen / 255)
