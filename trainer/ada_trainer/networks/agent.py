"""The agent: encoders, memory, policy and value. One timestep when acting (`step`), many when learning (`unroll`).

Goal and rules change only with the episode. Their encoding is kept in the state when acting, and computed once for
each episode that touches the unroll when learning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic.alias_generators import to_camel
from torch import Tensor, nn
from torch.nn import functional

from ada_api.stages import AgentModel, Muesli
from ada_sim.constants import ACTION_GROUPS, ACTION_REST, ACTION_SIZES
from ada_sim.observation import Field
from ada_trainer.algorithms import policies
from ada_trainer.exits import ConfigurationError
from ada_trainer.networks.encoders import PixelEncoder, SymbolicEncoder, VisibleObjects, visible_objects
from ada_trainer.networks.gru import Gru
from ada_trainer.networks.gru_attention import WRITTEN_STATES, GruAttention
from ada_trainer.networks.latent_model import LatentModel
from ada_trainer.networks.layers import RELU_GAIN, linear
from ada_trainer.networks.presets import Sizes, sizes_of
from ada_trainer.networks.reader import ObjectReader
from ada_trainer.networks.skip_memory import SkipMemory
from ada_trainer.networks.task_encoder import TaskEncoder
from ada_trainer.networks.transformer_xl import TransformerXl

Observation = Mapping[str, Tensor]
Core = TransformerXl | SkipMemory | Gru | GruAttention
POLICY_GAIN = 0.01  # nearly uniform at birth
VALUE_GAIN = 0.1


@dataclass(frozen=True, slots=True)
class AgentOutput:
    """Policy and value of each timestep."""

    logits: tuple[Tensor, ...]  # [..., A_g] for each controlled group
    value: Tensor  # [...]
    model_state: Tensor | None = None  # [..., 2 W]: where Muesli's model starts from, if there is one


@dataclass(frozen=True, slots=True)
class AgentState:
    """What the agent carries from timestep to timestep. `step` may write into it: keep a `clone` if needed later."""

    memory: Any  # the core's own state
    task: Tensor  # [B, D]: encoded goal and rules of the present episode
    known: Tensor  # bool [B]: `task` is up to date


@dataclass(frozen=True, slots=True)
class HiddenLayer:
    """A layer whose ReLU units are read by other layers and by nothing else."""

    layer: nn.Linear
    outgoing: tuple[nn.Linear, ...]


class AgentNetwork(nn.Module):
    """The network of one agent, for the observation and the action groups of an experiment."""

    rest: Tensor

    def __init__(
        self,
        model: AgentModel,
        specification: Sequence[Field],
        action_groups: Sequence[str],
        muesli: Muesli | None = None,
        action_sizes: Sequence[int] = ACTION_SIZES,
    ) -> None:
        """Build the network; raises ConfigurationError for a model that can't be built.

        Args:
            muesli: if given, policy and value are read from the state of a learned model, as Muesli needs.
            action_sizes: choices of each of the six action groups, where the worlds are not the simulator's.
        """
        super().__init__()
        sizes = sizes_of(model)
        self.shapes = shapes = {field.name: field.shape for field in specification}
        self.groups = tuple(ACTION_GROUPS.index(name) for name in sorted(action_groups, key=ACTION_GROUPS.index))
        self.choices = tuple(action_sizes[group] for group in self.groups)
        self.width = sizes.width
        self.task_encoder = TaskEncoder(sizes.embedding, sizes.width)
        self.encoder: SymbolicEncoder | PixelEncoder
        self.reader: ObjectReader | None = None
        if "objects" in shapes:
            self.encoder = SymbolicEncoder(shapes, self.groups, self.choices, sizes.embedding, sizes.width)
            self.reader = ObjectReader(sizes.width, shapes["objects"][-1], sizes.embedding)
        else:
            self.encoder = PixelEncoder(shapes, self.groups, self.choices, sizes.width)
        self.core: Core = _core(model, sizes)
        self.features = features = sizes.width + (sizes.embedding if self.reader else 0)
        self.model: LatentModel | None = None
        if muesli is not None:
            self.model = LatentModel(features, sizes.model_width, self.choices, muesli)
        else:
            self.hidden = linear(features, sizes.width, RELU_GAIN)
            self.policy = linear(sizes.width, sum(self.choices), POLICY_GAIN)
            self.value = linear(sizes.width, 1, VALUE_GAIN)
        self.register_buffer("rest", torch.tensor(ACTION_REST, dtype=torch.int8), persistent=False)

    def initial_state(self, batch: int) -> AgentState:
        """Return the state of `batch` agents that have seen nothing."""
        like = self.task_encoder.out.bias
        return AgentState(
            memory=self.core.initial_state(batch),
            task=like.new_zeros(batch, self.width),
            known=torch.zeros(batch, dtype=torch.bool, device=like.device),
        )

    def step(self, observation: Observation, state: AgentState, clear: Tensor) -> tuple[AgentOutput, AgentState]:
        """Act at one timestep. `clear`, bool [B], empties memories before it: where an episode starts."""
        objects = _visible(observation)
        task = state.task
        rows = (clear | ~state.known).nonzero()[:, 0]
        if len(rows):
            encoded = self.task_encoder(observation["goal"][rows], observation["rules"][rows])
            task = task.index_put((rows,), encoded)
        x = self.encoder(observation, objects, task)
        x, memory = self.core.step(x, state.memory, clear)
        return self.heads(self._read(x, objects)), AgentState(memory, task, torch.ones_like(clear))

    def unroll(self, observation: Observation, state: AgentState, clear: Tensor) -> AgentOutput:
        """Go through T timesteps, [T, B, ...], from `state`, which stays as it is. Equal to T times `step`."""
        return self.heads(self.unroll_memory(observation, state, clear))

    def unroll_roots(self, observation: Observation, state: AgentState, clear: Tensor) -> Tensor:
        """Return the states that Muesli's model starts from, [T, B, 2 W]; nothing is read from them yet."""
        assert self.model is not None, "the network has no model"
        return self.model.root(self.unroll_memory(observation, state, clear))

    def unroll_memory(self, observation: Observation, state: AgentState, clear: Tensor) -> Tensor:
        """Return what the heads read, [T, B, F]."""
        objects = _visible(observation)
        encoded, episode = self._encode_tasks(observation, clear)
        x = self.encoder(observation, objects, functional.embedding(episode, encoded))
        return self._read(self.core.unroll(x, state.memory, clear), objects)

    def _encode_tasks(self, observation: Observation, clear: Tensor) -> tuple[Tensor, Tensor]:
        """Return encodings [N, D] of the N episodes that touch the unroll, and each timestep's row, int64 [T, B]."""
        first = clear.t().clone()  # world by world, so that an episode's timesteps follow each other
        first[:, 0] = True
        world, time = first.nonzero(as_tuple=True)
        encoded = self.task_encoder(observation["goal"][time, world], observation["rules"][time, world])
        episode = first.flatten().cumsum(0).sub_(1).view_as(first).t()
        return encoded, episode

    def _read(self, x: Tensor, objects: VisibleObjects | None) -> Tensor:
        """Put what the memory looks at in sight beside it."""
        return x if self.reader is None else torch.cat([x, self.reader(x, objects)], -1)

    def heads(self, features: Tensor) -> AgentOutput:
        """Return policy and value of features [..., F]."""
        if self.model is not None:
            root = self.model.root(features)
            return AgentOutput(self.model.policy(root), self.model.value(root), root)
        hidden = functional.relu(self.hidden(features))
        return AgentOutput(self.policy(hidden).split(self.choices, -1), self.value(hidden)[..., 0])

    def hidden_layers(self) -> dict[str, HiddenLayer]:
        """Return the hidden layers, by name, whose units can be born again one by one."""
        found = {}
        if isinstance(self.encoder, SymbolicEncoder):
            found["objects"] = HiddenLayer(self.encoder.object_hidden, (self.encoder.object_out,))
        if self.model is None:
            return {**found, "heads": HiddenLayer(self.hidden, (self.policy, self.value))}
        heads = {"policy": self.model.policy_head, "value": self.model.value_head, "reward": self.model.reward_head}
        return {**found, **{name: HiddenLayer(head.hidden, (head.out,)) for name, head in heads.items()}}

    def renew(self, state: AgentState) -> AgentState:
        """Return the state for parameters that have changed: what follows from them is to be worked out anew."""
        memory = self.core.renew(state.memory) if isinstance(self.core, TransformerXl) else state.memory
        return replace(state, memory=memory, known=torch.zeros_like(state.known))

    def multiply_in(self, kind: torch.dtype, least_width: int = 0) -> None:
        """Make the large products, those of a Transformer-XL and of Muesli's model, in float32 or bfloat16.

        States that begin from now on are kept accordingly. Parameters and what comes out stay float32, as does a part
        that is narrower than `least_width`.
        """
        if isinstance(self.core, TransformerXl) and self.width >= least_width:
            self.core.products = kind
        if self.model is not None and self.model.width >= least_width:
            self.model.products = kind

    def capture_steps(self) -> None:
        """Have the steps of a Transformer-XL captured, of states that begin from now on (`captured_step.py`)."""
        if isinstance(self.core, TransformerXl):
            self.core.captures = True

    def select(self, state: AgentState, worlds: Tensor) -> AgentState:
        """Return the state of these worlds (int64 [N])."""
        return AgentState(self.core.select(state.memory, worlds), state.task[worlds], state.known[worlds])

    def clone(self, state: AgentState) -> AgentState:
        """Return a copy that later steps leave alone."""
        return AgentState(self.core.clone(state.memory), state.task.clone(), state.known.clone())

    def sample(self, output: AgentOutput, generator: torch.Generator) -> Tensor:
        """Draw actions, int8 [..., 6]: groups that are not controlled rest."""
        chosen = policies.sample(output.logits, generator)
        actions = self.rest.expand(*chosen.shape[:-1], -1).clone()
        actions[..., self.groups] = chosen.to(torch.int8)
        return actions

    def log_prob(self, output: AgentOutput, actions: Tensor) -> Tensor:
        """Return the log-probability, [...], of actions [..., 6]."""
        return policies.log_prob(output.logits, actions[..., self.groups])


def _core(model: AgentModel, sizes: Sizes) -> Core:
    match model.core:
        case "transformer-xl" if model.memory_stride is not None and model.memory_stride > 1:
            return SkipMemory(sizes, model.memory_stride)
        case "transformer-xl":
            return TransformerXl(sizes)
        case "gru":
            _refuse(model, "layers", "heads", "memory", "memory_stride")
            return Gru(sizes.width)
        case "gru-attention":
            _refuse(model, "layers", "memory_stride")
            return GruAttention(sizes.width, sizes.heads, model.memory or WRITTEN_STATES)


def _refuse(model: AgentModel, *names: str) -> None:
    for name in names:
        if getattr(model, name) is not None:
            raise ConfigurationError(f"model.{to_camel(name)} is set, but core {model.core} has none: remove it")


def _visible(observation: Observation) -> VisibleObjects | None:
    objects = observation.get("objects")
    return None if objects is None else visible_objects(objects.flatten(0, -3))
