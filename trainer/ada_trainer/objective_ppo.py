"""PPO as the learner's objective."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ada_api.stages import Algorithm
from ada_trainer.algorithms import self_supervision
from ada_trainer.algorithms.ppo import PpoSettings, normalised, ppo_loss
from ada_trainer.algorithms.returns import generalised_advantages
from ada_trainer.batch import Batch
from ada_trainer.networks.agent import AgentNetwork
from ada_trainer.networks.self_supervision import Decoder
from ada_trainer.objective import Reduce


@dataclass(frozen=True, slots=True)
class PpoTargets:
    """What a batch is learned towards; [T, B]."""

    advantage: Tensor
    value: Tensor


class PpoObjective:
    """Clipped policy gradient on the network that acts."""

    terms: tuple[str, ...] = ("loss", "policy_loss", "value_loss", "entropy", "distillation_loss", "clipped_share")

    def __init__(self, network: AgentNetwork, algorithm: Algorithm, distillation_weight: float) -> None:
        """Learn with the network."""
        self._network = network
        self._algorithm = algorithm
        self._settings = PpoSettings(
            clip=algorithm.clip,
            value_weight=algorithm.value_weight,
            entropy_weight=algorithm.entropy_weight,
            distillation_weight=distillation_weight,
        )
        self.auxiliary = nn.ModuleDict()
        if algorithm.reconstruction_weight > 0:
            self.terms = (*self.terms, "reconstruction_loss")
            self._decoder = Decoder(network.features, network.shapes).to(network.rest.device)
            self.auxiliary["decoder"] = self._decoder

    def prepare(self, batch: Batch, reduce: Reduce, seed: int) -> PpoTargets:
        """Return advantages, normalised over the whole group's timesteps that count, and the value's targets."""
        algorithm = self._algorithm
        raw = generalised_advantages(
            batch.reward, batch.value, batch.continues, algorithm.discount, algorithm.trace_decay
        )
        used = raw[batch.learn].double()
        moments = torch.stack([torch.ones_like(used).sum(), used.sum(), (used**2).sum()])
        count, total, squares = reduce(moments)
        mean = total / count.clamp(min=1)
        deviation = (squares / count.clamp(min=1) - mean**2).clamp(min=0).sqrt()
        return PpoTargets(normalised(raw, mean.to(raw), deviation.to(raw)), raw + batch.value[:-1])

    def loss(self, batch: Batch, targets: PpoTargets, worlds: Tensor, count: float, index: int) -> tuple[Tensor, ...]:
        """Return the terms of a minibatch, in the order of `terms`."""
        network = self._network
        observation = {name: field.index_select(1, worlds) for name, field in batch.observation.items()}
        features = network.unroll_memory(observation, network.select(batch.state, worlds), batch.clear[:, worlds])
        output, weight = network.heads(features), batch.learn[:, worlds] / count
        teacher = None
        if batch.teacher is not None:
            teacher = torch.split_with_sizes(batch.teacher[:, worlds], network.choices, -1)
        terms = ppo_loss(
            output.logits,
            output.value,
            actions=batch.actions[:, worlds][..., network.groups],
            behaviour_log_prob=batch.log_prob[:, worlds],
            advantage=targets.advantage[:, worlds],
            target=targets.value[:, worlds],
            weight=weight,
            settings=self._settings,
            teacher=teacher,
        )
        told = (terms.policy, terms.value, terms.entropy, terms.distillation, terms.clipped)
        if "decoder" not in self.auxiliary:
            return terms.loss, *told
        wanted = self._decoder.wanted(observation)
        errors = self_supervision.reconstruction_loss(self._decoder(features), wanted)
        reconstruction = (weight * errors).sum()
        return terms.loss + self._algorithm.reconstruction_weight * reconstruction, *told, reconstruction

    def stepped(self) -> None:
        """Do nothing: the network that learns acts."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: network and optimiser are all."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""
