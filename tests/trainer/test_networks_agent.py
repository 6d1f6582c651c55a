"""The agent's network: acting and learning see the same, and tasks are encoded once an episode."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ada_api.environment import Environment
from ada_api.stages import AgentModel, Muesli
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
def test_steps_equal_an_unroll_with_clears_in_mid_stream_and_an_unroll_goes_on_from_steps(model: AgentModel) -> None:
    agent, T, B = network(model), 31, 5
    clear = torch.rand(T, B, generator=torch.Generator().manual_seed(2)) < 0.08
    clear[0] = True
    seen = observations(T, B, clear)
    whole = agent.unroll(seen, agent.initial_state(B), clear)
    state = agent.initial_state(B)
    with torch.no_grad():
        for t in range(T):
            if t in (5, 12, 20):  # of a memory of 7
                again = agent.unroll(at(seen, slice(t, T)), state, clear[t:])
                torch.testing.assert_close(again.value, whole.value[t:], atol=1e-5, rtol=0)
            output, state = agent.step(at(seen, t), state, clear[t])
            torch.testing.assert_close(output.value, whole.value[t], atol=1e-5, rtol=0)
            for stepped, unrolled in zip(output.logits, whole.logits, strict=True):
                torch.testing.assert_close(stepped, unrolled[t], atol=1e-5, rtol=0)


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
    whole = agent.unroll(seen, agent.initial_state(B), starts)
    fresh = agent.unroll(at(seen, slice(5, 9)), agent.initial_state(B), torch.zeros(4, B, dtype=torch.bool))
    torch.testing.assert_close(whole.value[5:], fresh.value, atol=1e-6, rtol=0)
    going_on = agent.unroll(seen, agent.initial_state(B), torch.zeros_like(starts))
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
        expected = agent.unroll(at(seen, slice(5, 10)), state, clear[5:])
        for t in range(5, 10):
            _, state = agent.step(at(seen, t), state, clear[t])
        from_clone = agent.unroll(at(seen, slice(5, 10)), kept, clear[5:])
        some = {name: field[5:10, worlds] for name, field in seen.items()}
        from_selection = agent.unroll(some, chosen, clear[5:, worlds])
    torch.testing.assert_close(from_clone.value, expected.value, atol=0, rtol=0)
    torch.testing.assert_close(from_selection.value, expected.value[:, worlds], atol=1e-6, rtol=0)


def test_steps_take_notice_of_parameters_that_have_changed_once_the_state_is_renewed() -> None:
    agent = network(AgentModel(preset="nano", memory=7))
    clear = torch.zeros(4, 2, dtype=torch.bool)
    seen = observations(4, 2, clear)
    with torch.no_grad():
        _, state = agent.step(at(seen, 0), agent.initial_state(2), clear[0])
        for parameter in agent.core.parameters():
            parameter.mul_(1.3)
        expected, _ = agent.step(at(seen, 1), agent.renew(agent.clone(state)), clear[1])
        of_unroll = agent.unroll(at(seen, slice(1, 2)), state, clear[1:2])
        stale, _ = agent.step(at(seen, 1), agent.clone(state), clear[1])
    torch.testing.assert_close(expected.value, of_unroll.value[0], atol=1e-5, rtol=0)
    assert (stale.value - expected.value).abs().max() > 1e-4


@pytest.mark.parametrize("slope", [10.0, 2.0])
def test_value_and_reward_are_born_as_nothing_and_as_steep_as_is_said(slope: float) -> None:
    space = environment("symbolic")
    muesli = Muesli(bins=51, value_range=5.0, birth_slope=slope)
    model = AgentNetwork(AgentModel(preset="nano"), specification(space), space.action_groups, muesli).model
    assert model is not None
    state = torch.zeros(1, 2 * model.width)
    for logits, scalar in (
        (model.value_logits(state), model.value(state)),
        (model.reward_logits(state), model.reward(state)),
    ):
        assert scalar.item() == pytest.approx(0.0, abs=1e-6)
        torch.testing.assert_close(
            logits[0, 25] - logits[0, [0, 20, 30, 50]], slope * torch.tensor([5.0, 1.0, 1.0, 5.0])
        )


def test_products_in_bfloat16_stay_near_those_in_float32_when_acting_and_in_direction_when_learning() -> None:
    torch.manual_seed(4)
    space = environment("symbolic")
    muesli = Muesli(bins=51, value_range=2.0)
    agent = AgentNetwork(AgentModel(preset="micro", memory=7), specification(space), space.action_groups, muesli)
    assert agent.model is not None
    with torch.no_grad():
        for head in (agent.model.policy_head, agent.model.value_head):
            head.out.weight.mul_(100)  # nearly nothing at birth
    T, B = 20, 4
    clear = torch.rand(T, B, generator=torch.Generator().manual_seed(2)) < 0.1
    clear[0] = True
    seen = observations(T, B, clear)

    def learned() -> tuple[Tensor, Tensor]:
        output = agent.unroll(seen, agent.initial_state(B), clear)
        assert agent.model is not None and output.model_state is not None
        after = agent.model.step(output.model_state, torch.zeros(T, B, len(agent.groups), dtype=torch.int8))
        assert output.value.dtype == after.dtype == torch.float32
        loss = output.value.square().sum() + after.square().sum() + sum((part**2).sum() for part in output.logits)
        gradients = torch.autograd.grad(loss, list(agent.parameters()), allow_unused=True)
        return output.value.detach(), torch.cat([part.flatten() for part in gradients if part is not None])

    value, gradient = learned()
    agent.multiply_in(torch.bfloat16, least_width=97)  # both parts are 96 wide
    assert torch.equal(learned()[0], value)
    agent.multiply_in(torch.bfloat16, least_width=96)
    half_value, half_gradient = learned()
    state, stepped = agent.initial_state(B), []
    with torch.inference_mode():
        for t in range(T):
            output, state = agent.step(at(seen, t), state, clear[t])
            stepped.append(output.value)
    assert state.memory.keys.dtype == torch.bfloat16 and output.value.dtype == torch.float32
    assert 0 < (half_value - value).abs().max() < 0.02
    torch.testing.assert_close(torch.stack(stepped), value, atol=0.02, rtol=0)
    cosine = torch.nn.functional.cosine_similarity(gradient, half_gradient, dim=0)
    assert cosine > 0.999 and gradient.dtype == half_gradient.dtype == torch.float32


def test_every_parameter_of_each_core_gets_a_gradient() -> None:
    for parameter in MODELS:
        agent = network(parameter.values[0])
        clear = torch.zeros(18, 3, dtype=torch.bool)
        output = agent.unroll(observations(18, 3, clear), agent.initial_state(3), clear)
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
    whole = agent.unroll(seen, agent.initial_state(2), clear)
    state = _state_after_steps(agent, seen, clear, 2)
    last, _ = agent.step(at(seen, 2), state, clear[2])
    torch.testing.assert_close(last.value, whole.value[2], atol=1e-5, rtol=0)
    other = dict(seen, pixels=255 - seen["pixels"])
    assert (agent.unroll(other, agent.initial_state(2), clear).value - whole.value).abs().max() > 1e-4


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
