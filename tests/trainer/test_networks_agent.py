"""The agent's network: acting and learning see the same, and tasks are encoded once an episode."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ada_api.environment import Environment
from ada_api.stages import AgentModel
from ada_sim.constants import ACTION_REST
from ada_sim.observation import specification
from ada_trainer.exits import ConfigurationError
from ada_trainer.networks.agent import AgentNetwork

MODELS = [
    pytest.param(AgentModel(preset="nano", core="gru"), id="gru"),
    pytest.param(AgentModel(preset="nano", core="transformer-xl", memory=7), id="transformer-xl"),
    pytest.param(AgentModel(preset="nano", core="gru-attention", memory=3), id="gru-attention"),
    pytest.param(AgentModel(preset="nano", core="transformer-xl", memory=3, memory_stride=4), id="skip-memory"),
]


def environment(observation: str = "symbolic") -> Environment:
    return Environment(observation=observation, action_groups=["turn", "move"])


def network(model: AgentModel, observation: str = "symbolic") -> AgentNetwork:
    torch.manual_seed(1)
    space = environment(observation)
    built = AgentNetwork(model, specification(space), space.action_groups)
    with torch.no_grad():  # a policy that is almost uniform at birth would hide differences
        built.policy.weight.mul_(100)
    return built


def observations(timesteps: int, batch: int, clear: Tensor, observation: str = "symbolic") -> dict[str, Tensor]:
    """Random observations whose goal and rules change only where `clear` says that an episode starts."""
    rng = np.random.default_rng(3)
    result = {}
    for field in specification(environment(observation)):
        values = rng.integers(field.low, min(field.high, 3) + 1, (timesteps, batch, *field.shape))
        if field.name == "objects":
            values = rng.normal(size=values.shape)
            values[..., 0] = np.arange(field.shape[0]) < rng.integers(0, 4, (timesteps, batch, 1))
            values *= values[..., :1]
        elif field.dtype.kind == "f":
            values = rng.uniform(-1, 1, values.shape)
        if field.per_episode:
            for t in range(1, timesteps):
                same = ~clear[t].numpy()
                values[t, same] = values[t - 1, same]
        result[field.name] = torch.from_numpy(values.astype(field.dtype))
    return result


def at(observation: dict[str, Tensor], index: object) -> dict[str, Tensor]:
    return {name: field[index] for name, field in observation.items()}


@pytest.mark.parametrize("model", MODELS)
def test_steps_equal_an_unroll_with_clears_in_mid_stream_and_unrolls_can_be_chained(model: AgentModel) -> None:
    agent, T, B = network(model), 31, 5
    clear = torch.rand(T, B, generator=torch.Generator().manual_seed(2)) < 0.08
    clear[0] = True
    seen = observations(T, B, clear)
    whole, _ = agent.unroll(seen, agent.initial_state(B), clear)
    _, state = agent.unroll(at(seen, slice(12)), agent.initial_state(B), clear[:12])  # 12 > memory of 7
    middle, state = agent.unroll(at(seen, slice(12, 16)), state, clear[12:16])  # 4 < memory
    torch.testing.assert_close(middle.value, whole.value[12:16], atol=1e-5, rtol=0)
    with torch.no_grad():
        for t in range(16, T):
            output, state = agent.step(at(seen, t), state, clear[t])
            torch.testing.assert_close(output.value, whole.value[t], atol=1e-5, rtol=0)
            for stepped, unrolled in zip(output.logits, whole.logits, strict=True):
                torch.testing.assert_close(stepped, unrolled[t], atol=1e-5, rtol=0)
        again, _ = agent.unroll(at(seen, slice(20, T)), _state_after_steps(agent, seen, clear, 20), clear[20:])
        torch.testing.assert_close(again.value, whole.value[20:], atol=1e-5, rtol=0)


def _state_after_steps(agent: AgentNetwork, seen: dict[str, Tensor], clear: Tensor, steps: int):
    state = agent.initial_state(clear.shape[1])
    for t in range(steps):
        _, state = agent.step(at(seen, t), state, clear[t])
    return state


@pytest.mark.parametrize("model", MODELS)
def test_a_cleared_memory_gives_what_a_new_agent_gives(model: AgentModel) -> None:
    agent, B = network(model), 3
    starts = torch.zeros(9, B, dtype=torch.bool)
    starts[5] = True
    seen = observations(9, B, starts)
    whole, _ = agent.unroll(seen, agent.initial_state(B), starts)
    fresh, _ = agent.unroll(at(seen, slice(5, 9)), agent.initial_state(B), torch.zeros(4, B, dtype=torch.bool))
    torch.testing.assert_close(whole.value[5:], fresh.value, atol=1e-6, rtol=0)
    going_on, _ = agent.unroll(seen, agent.initial_state(B), torch.zeros_like(starts))
    assert (going_on.value[5:] - fresh.value).abs().max() > 1e-4


@pytest.mark.parametrize("model", MODELS)
def test_a_clone_and_a_selection_of_worlds_do_not_change_with_later_steps(model: AgentModel) -> None:
    agent, B = network(model), 4
    clear = torch.zeros(10, B, dtype=torch.bool)
    seen = observations(10, B, clear)
    worlds = torch.tensor([3, 1])
    with torch.no_grad():
        state = _state_after_steps(agent, seen, clear, 5)
        kept, chosen = agent.clone(state), agent.select(state, worlds)
        expected, _ = agent.unroll(at(seen, slice(5, 10)), state, clear[5:])
        for t in range(5, 10):
            _, state = agent.step(at(seen, t), state, clear[t])
        from_clone, _ = agent.unroll(at(seen, slice(5, 10)), kept, clear[5:])
        some = {name: field[5:10, worlds] for name, field in seen.items()}
        from_selection, _ = agent.unroll(some, chosen, clear[5:, worlds])
    torch.testing.assert_close(from_clone.value, expected.value, atol=0, rtol=0)
    torch.testing.assert_close(from_selection.value, expected.value[:, worlds], atol=1e-6, rtol=0)


def test_every_parameter_of_each_core_gets_a_gradient() -> None:
    for parameter in MODELS:
        agent = network(parameter.values[0])
        clear = torch.zeros(18, 3, dtype=torch.bool)
        output, _ = agent.unroll(observations(18, 3, clear), agent.initial_state(3), clear)
        (output.value.sum() + sum((logits**2).sum() for logits in output.logits)).backward()
        silent = [name for name, value in agent.named_parameters() if value.grad is None or not value.grad.any()]
        assert silent == []


def test_the_order_of_rules_says_nothing_and_each_rule_counts() -> None:
    encoder = network(AgentModel(core="gru")).task_encoder
    goal = torch.ones(1, 6, dtype=torch.int8)
    rules = torch.zeros(1, 16, 26, dtype=torch.int8)
    rules[0, 0, :6] = torch.tensor([1, 1, 5, 0, 2, 1])
    rules[0, 1, :6] = torch.tensor([1, 2, 3, 1, 2, 1])
    swapped = rules[:, [1, 0, *range(2, 16)]]
    one = rules.clone()
    one[0, 1] = 0
    torch.testing.assert_close(encoder(goal, rules), encoder(goal, swapped))
    assert (encoder(goal, rules) - encoder(goal, one)).abs().max() > 1e-3


def test_actions_drawn_rest_where_the_agent_has_no_control() -> None:
    agent = network(AgentModel(core="gru"))
    clear = torch.ones(500, dtype=torch.bool)
    seen = at(observations(1, 500, clear[None]), 0)
    output, _ = agent.step(seen, agent.initial_state(500), clear)
    actions = agent.sample(output, torch.Generator().manual_seed(0))
    assert actions.shape == (500, 6) and actions.dtype == torch.int8
    assert agent.groups == (0, 2)
    for group in (1, 3, 4, 5):
        assert (actions[:, group] == ACTION_REST[group]).all()
    assert set(actions[:, 0].tolist()) == {0, 1, 2}
    assert set(actions[:, 2].tolist()) == {0, 1, 2, 3, 4}


def test_pixels_go_through_the_residual_network_and_steps_equal_the_unroll() -> None:
    agent = network(AgentModel(core="gru"), "pixels")
    clear = torch.zeros(3, 2, dtype=torch.bool)
    seen = observations(3, 2, clear, "pixels")
    seen["pixels"] = torch.randint(0, 256, seen["pixels"].shape, dtype=torch.uint8)
    whole, _ = agent.unroll(seen, agent.initial_state(2), clear)
    state = _state_after_steps(agent, seen, clear, 2)
    last, _ = agent.step(at(seen, 2), state, clear[2])
    torch.testing.assert_close(last.value, whole.value[2], atol=1e-5, rtol=0)
    other = dict(seen, pixels=255 - seen["pixels"])
    assert (agent.unroll(other, agent.initial_state(2), clear)[0].value - whole.value).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("model", "words"),
    [
        pytest.param({"core": "gru", "memory": 60}, "model.memory", id="a-gru-has-no-cache"),
        pytest.param({"width": 100, "heads": 3}, "multiple of model.heads 3", id="heads-must-divide-the-width"),
        pytest.param({"core": "gru-attention", "layers": 2}, "model.layers", id="a-gru-with-attention-has-one-layer"),
        pytest.param({"core": "gru", "memory_stride": 4}, "model.memoryStride", id="only-attention-skips"),
    ],
)
def test_a_model_that_can_not_be_built_is_refused(model: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        network(AgentModel(**model))
