"""`spec.stages[]`: one training run each, in order; a student names its teacher."""

from typing import Any, Literal

from pydantic import Field

from ada_api.base import Model

Preset = Literal["nano", "micro", "small", "6m", "23m", "42m", "57m", "75m", "169m", "265m"]
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"


class AgentModel(Model):
    """The agent's network: a preset, any part of which may be set explicitly."""

    preset: Preset = Field("nano", description="Widths and depths by name.")
    core: Literal["transformer-xl", "gru", "gru-attention"] = Field(
        "transformer-xl", description="The memory: Transformer-XL, GRU, or GRU with attention over 64 written states."
    )
    width: int | None = Field(None, ge=16, le=8192, description="Model width D.")
    layers: int | None = Field(None, ge=1, le=64, description="Blocks of the memory.")
    heads: int | None = Field(None, ge=1, le=128, description="Attention heads.")
    memory: int | None = Field(
        None, ge=1, le=10_000, description="Cached timesteps a layer (M); written states of gru-attention."
    )
    memory_stride: int | None = Field(
        None, ge=1, le=64, description="Of transformer-xl: a GRU encodes all timesteps, attention sees every so many."
    )


class Muesli(Model):
    """Parameters of `muesli` (Hessel et al., 2021; AdA, appendix C) besides those of the algorithm."""

    model_unroll: int = Field(4, ge=1, le=64, description="Steps that the model is unrolled (I of AdA).")
    samples: int = Field(16, ge=1, le=1024, description="Actions drawn for a policy target and for E[q].")
    clip: float = Field(1.0, gt=0, le=10, description="Clip range of a policy target's advantages (c).")
    policy_gradient_weight: float = Field(3.0, ge=0, le=100, description="Weight of the policy gradient.")
    policy_gradient_clip: float | None = Field(
        None, gt=0, le=10, description="Option: the policy gradient stops beyond this range, as PPO's; for many epochs."
    )
    center_advantages: bool = Field(
        False, description="Option: the batch's mean is taken away from the policy gradient's advantages."
    )
    cmpo_weight: float = Field(1.0, ge=0, le=100, description="Weight of the policy targets, at root and model steps.")
    value_weight: float = Field(0.25, ge=0, le=100, description="Weight of the value loss, at root and model steps.")
    reward_weight: float = Field(1.0, ge=0, le=100, description="Weight of the reward loss of the model steps.")
    target_rate: float = Field(0.1, gt=0, le=1, description="Step of the target network after a minibatch.")
    variance_decay: float = Field(0.99, ge=0, lt=1, description="Decay of the advantages' mean square, a minibatch.")
    behaviour_share: float = Field(0.003, ge=0, le=0.5, description="Share of the behaviour policy in the prior.")
    uniform_share: float = Field(0.003, ge=0, le=0.5, description="Share of the uniform policy in the prior.")
    bins: int = Field(601, ge=3, le=4096, description="Bins of values and rewards.")
    value_range: float = Field(
        300.0, gt=0, le=1e6, description="The bins stand from minus this to this, after the value transform."
    )
    birth_slope: float = Field(
        10.0, gt=0, le=100, description="Of value and reward at birth: how steeply the bins' logits fall away from 0."
    )
    model_stride: int = Field(1, ge=1, le=64, description="The model is unrolled from every so many timesteps.")
    consistency_weight: float = Field(
        0.0, ge=0, le=100, description="Option: weight of latent consistency of the model's states (EfficientZero: 2)."
    )


class Resets(Model):
    """Option: layers that are born again now and then (Nikishin et al., 2022)."""

    times: int = Field(0, ge=0, le=1000, description="Resets, evenly spaced over the stage, none at its end; 0: off.")
    part: Literal["heads", "all"] = Field("heads", description="The layers of policy, value and reward, or all.")


class ContinualBackprop(Model):
    """Option: the least useful hidden units are born again all the time (Dohare et al., 2024)."""

    replacement_rate: float = Field(
        0.0, ge=0, le=1, description="Share of the mature units replaced in a minibatch (the paper: 1e-4); 0: off."
    )
    maturity: int = Field(100, ge=1, le=10**9, description="Minibatches before a unit may be replaced.")
    utility_decay: float = Field(0.99, ge=0, lt=1, description="Decay of a unit's utility, a minibatch.")


class Algorithm(Model):
    """How the agent learns. Fields without a value take the algorithm's documented default."""

    name: Literal["muesli", "ppo"] = Field(
        "ppo",
        description="Reinforcement-learning algorithm.",
    )
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Adam's step at the start.")
    final_learning_rate: float = Field(0.1, ge=0, le=1, description="Step at the end, as a share of the start's.")
    discount: float = Field(0.95, ge=0, lt=1, description="Discount a timestep, also across trials.")
    trace_decay: float = Field(0.95, ge=0, le=1, description="Lambda of the multi-step return.")
    entropy_weight: float = Field(0.01, ge=0, le=10, description="Weight of the policy's entropy.")
    value_weight: float = Field(0.5, ge=0, le=100, description="Weight of PPO's value loss.")
    clip: float = Field(0.2, gt=0, le=10, description="PPO's clip range.")
    epochs: int = Field(2, ge=1, le=100, description="Passes over each batch of unrolls.")
    minibatches: int = Field(8, ge=1, le=1024, description="Minibatches of a pass, over the whole group.")
    max_gradient_norm: float = Field(0.5, gt=0, le=1e6, description="Gradients are scaled down to this norm.")
    reward_scale: float = Field(0.1, gt=0, le=1e6, description="Factor on the rewards the learner sees.")
    unroll: int = Field(80, ge=2, le=10_000, description="Timesteps of an unroll.")
    worlds: int = Field(256, ge=1, le=1_000_000, description="Worlds in flight, over the whole group.")
    weight_decay: float = Field(0.0, ge=0, le=1, description="Decoupled weight decay.")
    max_skipped_updates: int = Field(20, ge=1, le=10_000, description="Non-finite updates before a roll-back.")
    reconstruction_weight: float = Field(
        0.0, ge=0, le=100, description="Option: weight of the reconstruction of observations (Dreamer)."
    )
    resets: Resets = Field(Resets(), description="Option: periodic resets.")
    continual_backprop: ContinualBackprop = Field(ContinualBackprop(), description="Option: continual backprop.")
    muesli: Muesli = Field(Muesli(), description="Parameters of `muesli`; no effect with `ppo`.")


class CheckpointReference(Model):
    """A committed checkpoint, pinned by digest."""

    uri: str = Field(min_length=1, max_length=1024, description="URI of the checkpoint.")
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$", description="Digest of its manifest.")


class Distillation(Model):
    """Kick-starting: for the first frames the student also imitates a teacher (AdA, appendix D)."""

    teacher: str | None = Field(None, min_length=1, max_length=40, description="Name of an earlier stage.")
    checkpoint: CheckpointReference | None = Field(None, description="Or a checkpoint of another experiment.")
    frames: int = Field(4_000_000_000, ge=1, le=10**15, description="Frames of imitation, then a hard stop.")
    weight: float = Field(1.0, gt=0, le=1000, description="Weight of KL(teacher || student).")
    l2: float = Field(1e-5, ge=0, le=1, description="Extra L2 regularisation meanwhile.")


class CoPlayer(Model):
    """Who has the other seat in tasks of two players (AdA, appendix D)."""

    kind: Literal["self", "random", "frozen"] = Field(
        "self", description="The agent itself (self-play), a random policy, or an agent that learns no more."
    )
    checkpoint: CheckpointReference | None = Field(None, description="The agent of kind frozen.")


class Nodes(Model):
    """How many nodes an elastic group may have."""

    min: int = Field(1, ge=1, le=10_000, description="Fewest nodes that train.")
    max: int = Field(1, ge=1, le=10_000, description="Nodes asked for; at least `min`.")


class PodTemplate(Model):
    """What a person may set on the pods of a part."""

    image: str | None = Field(None, max_length=512, description="Image; the operator's default if not set.")
    resources: dict[str, dict[str, int | str]] | None = Field(None, description="Requests and limits.")
    node_selector: dict[str, str] = Field({}, description="Labels a node must have.")
    tolerations: list[dict[str, Any]] = Field([], max_length=64, description="Tolerated taints.")
    affinity: dict[str, Any] | None = Field(None, description="Affinity rules.")
    priority_class_name: str | None = Field(None, max_length=253, description="Priority class.")
    env: list[dict[str, Any]] = Field([], max_length=128, description="Further environment variables.")
    volumes: list[dict[str, Any]] = Field([], max_length=64, description="Further volumes.")
    volume_mounts: list[dict[str, Any]] = Field([], max_length=64, description="And where they are mounted.")


class Trainer(Model):
    """The elastic group of trainer nodes."""

    nodes: Nodes = Field(Nodes(), description="Bounds of the group.")
    workers_per_node: int = Field(1, ge=1, le=64, description="Worker processes a node; one a GPU.")
    pod: PodTemplate = Field(PodTemplate(), description="Overrides of the pods.")


class Simulators(Model):
    """The simulator servers of a stage."""

    replicas: int = Field(1, ge=1, le=10_000, description="Simulator pods; at least as many as trainer workers.")
    pod: PodTemplate = Field(PodTemplate(), description="Overrides of the pods.")


class Stage(Model):
    """One training run."""

    name: str = Field(min_length=1, max_length=40, pattern=NAME_PATTERN, description="Unique name of the stage.")
    model: AgentModel = Field(AgentModel(), description="The network.")
    algorithm: Algorithm = Field(Algorithm(), description="How it learns.")
    frames: int = Field(ge=1, le=10**15, description="Budget in frames (agent timesteps).")
    distillation: Distillation | None = Field(None, description="Teacher of this stage, if any.")
    co_player: CoPlayer = Field(CoPlayer(), description="Who plays beside the agent in tasks of two players.")
    warm_start: CheckpointReference | None = Field(None, description="Start from these parameters.")
    trainer: Trainer = Field(Trainer(), description="The trainer group.")
    simulators: Simulators = Field(Simulators(), description="The simulators.")
