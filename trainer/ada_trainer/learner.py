"""One update: a batch of unrolls goes in, parameters and optimiser move, a report comes out.

Nothing here knows of processes. Workers of a group are told apart by nothing but `reduce`, which sums a tensor over
them: gradients, counts and the loss go through it, so every worker takes the same decision and the same step.

What makes the next update the same is in `Learner.state_dict`: parameters, optimiser, counters. The order of worlds
in minibatches follows from the seed and the number of the update.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ada_api.stages import Algorithm
from ada_trainer.algorithms.ppo import PpoSettings, PpoTerms, normalised, ppo_loss
from ada_trainer.algorithms.returns import generalised_advantages
from ada_trainer.algorithms.schedule import learning_rate
from ada_trainer.exits import ConfigurationError
from ada_trainer.networks.agent import AgentNetwork, AgentState

Reduce = Callable[[Tensor], Tensor]  # the sum over all workers of a tensor of the same shape on each
ADAM_EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class Batch:
    """Unrolls of T timesteps of B agents, and what acting noted about them."""

    observation: dict[str, Tensor]  # [T, B, ...]
    clear: Tensor  # bool [T, B]: the memory is emptied before the timestep
    actions: Tensor  # int8 [T, B, 6]
    log_prob: Tensor  # [T, B], of the actions when they were drawn
    reward: Tensor  # [T, B], times `algorithm.reward_scale`
    value: Tensor  # [T + 1, B], when acting; the last row after the unroll
    continues: Tensor  # [T, B]: 0 where the episode ended with the timestep
    learn: Tensor  # bool [T, B]: the learner may use the timestep
    state: AgentState  # before the first timestep
    teacher: Tensor | None = None  # [T, B, sum of A_g]: the teacher's logits


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What became of an update, as the whole group sees it; terms are means over its minibatches."""

    skipped: bool  # a loss or gradient was not finite: the rest of the batch was left out
    learned_timesteps: int
    learning_rate: float
    loss: float = 0.0
    policy_loss: float = 0.0
    value_loss: float = 0.0
    entropy: float = 0.0
    distillation_loss: float = 0.0
    clipped_share: float = 0.0
    gradient_norm: float = 0.0  # before it was scaled down

    def metrics(self) -> dict[str, float]:
        """Return the figures by name."""
        return {name: float(value) for name, value in asdict(self).items()}


TERMS = ("loss", "policy_loss", "value_loss", "entropy", "distillation_loss", "clipped_share")


def identity(tensor: Tensor) -> Tensor:
    """The sum over one worker."""
    return tensor


class Learner:
    """Network, optimiser and counters of one worker; equal on all workers of a group."""

    def __init__(
        self,
        network: AgentNetwork,
        algorithm: Algorithm,
        *,
        seed: int,
        distillation_weight: float = 0.0,
        distillation_l2: float = 0.0,
    ) -> None:
        """Take over the network; raises ConfigurationError for an algorithm that is not there."""
        if algorithm.name != "ppo":
            raise ConfigurationError(f"algorithm.name {algorithm.name} is not implemented: use ppo")
        self.network = network
        self.algorithm = algorithm
        self.seed = seed
        self.updates = 0
        self.skipped_updates = 0
        self._l2 = distillation_l2
        self._settings = PpoSettings(
            clip=algorithm.clip,
            value_weight=algorithm.value_weight,
            entropy_weight=algorithm.entropy_weight,
            distillation_weight=distillation_weight,
        )
        self._parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self._parameters,
            lr=algorithm.learning_rate,
            eps=ADAM_EPSILON,
            weight_decay=algorithm.weight_decay,
            fused=True,
        )
        self._flat = _flat_gradients(self._parameters, len(TERMS))

    def state_dict(self) -> dict[str, Any]:
        """Return everything that makes the next update the same; tensors are the live ones."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
            "skipped_updates": self.skipped_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of a learner of the same model."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = int(state["updates"])
        self.skipped_updates = int(state["skipped_updates"])

    def update(self, batch: Batch, progress: float, reduce: Reduce = identity) -> UpdateReport:
        """Learn from a batch at `progress` (frames so far over the stage's frames, the same on all workers).

        If a loss or a gradient of any worker is not finite, no worker takes that step nor those left of the batch.
        """
        advantage, target = self._advantages(batch, reduce)
        minibatches = list(self._minibatches(batch.learn.shape[1]))
        counts = reduce(torch.stack([batch.learn[:, worlds].sum() for worlds in minibatches]).double()).tolist()
        rate = learning_rate(self.algorithm.learning_rate, self.algorithm.final_learning_rate, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        totals, norms, skipped = torch.zeros(len(TERMS)), 0.0, False
        taken = 0
        for worlds, count in zip(minibatches, counts, strict=True):
            if count == 0:  # on every worker
                continue
            terms, norm = self._gradient(batch, advantage, target, worlds, count, reduce)
            if not (torch.isfinite(terms).all() and norm.isfinite()):
                skipped = True
                break
            self.optimizer.step()
            totals += terms
            norms += float(norm)
            taken += 1
        self.updates += 1
        self.skipped_updates += skipped
        means = (totals / max(taken, 1)).tolist()
        return UpdateReport(
            skipped=skipped,
            learned_timesteps=int(sum(counts)) // self.algorithm.epochs,
            learning_rate=rate,
            gradient_norm=norms / max(taken, 1),
            **dict(zip(TERMS, means, strict=True)),
        )

    def _advantages(self, batch: Batch, reduce: Reduce) -> tuple[Tensor, Tensor]:
        """Return advantages, normalised over the whole group's timesteps that count, and the value's targets."""
        algorithm = self.algorithm
        raw = generalised_advantages(
            batch.reward, batch.value, batch.continues, algorithm.discount, algorithm.trace_decay
        )
        used = raw[batch.learn].double()
        moments = torch.stack([torch.ones_like(used).sum(), used.sum(), (used**2).sum()])
        count, total, squares = reduce(moments)
        mean = total / count.clamp(min=1)
        deviation = (squares / count.clamp(min=1) - mean**2).clamp(min=0).sqrt()
        return normalised(raw, mean.to(raw), deviation.to(raw)), raw + batch.value[:-1]

    def _minibatches(self, worlds: int) -> Iterator[Tensor]:
        """Yield the worlds of each minibatch of each pass; some are empty if this worker has few worlds."""
        for epoch in range(self.algorithm.epochs):
            rng = np.random.default_rng([self.seed, self.updates, epoch])
            order = torch.from_numpy(rng.permutation(worlds)).to(self._flat.device)
            yield from order.tensor_split(self.algorithm.minibatches)

    def _gradient(
        self, batch: Batch, advantage: Tensor, target: Tensor, worlds: Tensor, count: float, reduce: Reduce
    ) -> tuple[Tensor, Tensor]:
        """Leave the group's gradient of a minibatch, scaled down, in the parameters; return terms and its norm."""
        self._flat.zero_()
        gradients = self._flat[: -len(TERMS)]
        if len(worlds):
            terms = self._loss(batch, advantage, target, worlds, count)
            terms.loss.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                self._flat[-len(TERMS) :] = torch.stack(
                    [terms.loss, terms.policy, terms.value, terms.entropy, terms.distillation, terms.clipped]
                )
        summed = reduce(self._flat)
        if summed is not self._flat:
            self._flat.copy_(summed)
        if batch.teacher is not None and self._l2:
            with torch.no_grad():
                for parameter in self._parameters:
                    assert parameter.grad is not None
                    parameter.grad.add_(parameter, alpha=self._l2)
        norm = gradients.norm()
        gradients *= (self.algorithm.max_gradient_norm / (norm + 1e-6)).clamp(max=1.0)
        return self._flat[-len(TERMS) :].to("cpu", copy=True), norm

    def _loss(self, batch: Batch, advantage: Tensor, target: Tensor, worlds: Tensor, count: float) -> PpoTerms:
        network = self.network
        observation = {name: field.index_select(1, worlds) for name, field in batch.observation.items()}
        output, _ = network.unroll(observation, network.select(batch.state, worlds), batch.clear[:, worlds])
        teacher = None
        if batch.teacher is not None:
            teacher = torch.split_with_sizes(batch.teacher[:, worlds], network.choices, -1)
        return ppo_loss(
            output.logits,
            output.value,
            actions=batch.actions[:, worlds][..., network.groups],
            behaviour_log_prob=batch.log_prob[:, worlds],
            advantage=advantage[:, worlds],
            target=target[:, worlds],
            weight=batch.learn[:, worlds] / count,
            settings=self._settings,
            teacher=teacher,
        )


def _flat_gradients(parameters: list[torch.nn.Parameter], extra: int) -> Tensor:
    """Make all gradients views of one tensor with `extra` places at its end: one reduction, one norm."""
    sizes = [parameter.numel() for parameter in parameters]
    flat = parameters[0].new_zeros(sum(sizes) + extra, requires_grad=False)
    for parameter, part in zip(parameters, torch.split_with_sizes(flat[: sum(sizes)], sizes), strict=True):
        parameter.grad = part.view_as(parameter)
    return flat
