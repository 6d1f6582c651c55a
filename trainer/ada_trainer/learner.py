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
from ada_trainer.algorithms.schedule import learning_rate
from ada_trainer.batch import Batch as Batch
from ada_trainer.networks.agent import AgentNetwork
from ada_trainer.objective import Objective, Reduce
from ada_trainer.objective_muesli import MuesliObjective
from ada_trainer.objective_ppo import PpoObjective
from ada_trainer.plasticity import UnitReplacement, bear_again, resets_due

ADAM_EPSILON = 1e-5
RESET, REPLACEMENT = 1, 2  # what else than minibatches random numbers are for


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
    clipped_share: float | None = None  # PPO's
    cmpo_loss: float | None = None  # Muesli's, as all that follow
    reward_loss: float | None = None
    model_policy_loss: float | None = None
    model_value_loss: float | None = None
    consistency_loss: float | None = None  # of options, as the next one
    reconstruction_loss: float | None = None
    gradient_norm: float = 0.0  # before it was scaled down
    resets: int | None = None  # so far, if there are any

    def metrics(self) -> dict[str, float]:
        """Return the figures by name; those of other algorithms are left out."""
        return {name: float(value) for name, value in asdict(self).items() if value is not None}


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
        rebuild: Callable[[], AgentNetwork] | None = None,
    ) -> None:
        """Take over the network; for `muesli` it must have a model.

        Args:
            rebuild: returns a network like this one, newly born on the CPU; periodic resets need it.
        """
        self.network = network
        self.algorithm = algorithm
        self.seed = seed
        self.updates = 0
        self.skipped_updates = 0
        self._l2 = distillation_l2
        self.acting = network  # the network that plays and is judged
        self._objective: Objective
        match algorithm.name:
            case "ppo":
                self._objective = PpoObjective(network, algorithm, distillation_weight)
            case "muesli":
                muesli = MuesliObjective(network, algorithm, distillation_weight)
                self._objective, self.acting = muesli, muesli.target
        self._parameters = [
            parameter
            for part in (network, self._objective.auxiliary)
            for parameter in part.parameters()
            if parameter.requires_grad
        ]
        self.optimizer = torch.optim.AdamW(
            self._parameters,
            lr=algorithm.learning_rate,
            eps=ADAM_EPSILON,
            weight_decay=algorithm.weight_decay,
            fused=True,
        )
        self._flat = _flat_gradients(self._parameters, len(self._objective.terms))
        if algorithm.resets.times > 0 and rebuild is None:
            raise ValueError("periodic resets need to know how the network is built: give rebuild=")
        self._rebuild, self.resets = rebuild, 0
        self._replacement: UnitReplacement | None = None
        if algorithm.continual_backprop.replacement_rate > 0:
            self._replacement = UnitReplacement(network.hidden_layers(), algorithm.continual_backprop, self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that makes the next update the same; tensors are the live ones."""
        learned = {} if self.acting is self.network else {"learned": self.network.state_dict()}
        return {
            "network": self.acting.state_dict(),
            **learned,
            "objective": self._objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
            "skipped_updates": self.skipped_updates,
            "auxiliary": self._objective.auxiliary.state_dict(),
            "resets": self.resets,
            "units": self._replacement.state_dict() if self._replacement else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of a learner of the same model."""
        self.acting.load_state_dict(state["network"])
        if self.acting is not self.network:
            self.network.load_state_dict(state["learned"])
        self._objective.load_state_dict(state.get("objective", {}))
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = int(state["updates"])
        self.skipped_updates = int(state["skipped_updates"])
        self._objective.auxiliary.load_state_dict(state.get("auxiliary", {}))
        self.resets = int(state.get("resets", 0))
        if self._replacement is not None:
            self._replacement.load_state_dict(state["units"])

    def update(self, batch: Batch, progress: float, reduce: Reduce = identity) -> UpdateReport:
        """Learn from a batch at `progress` (frames so far over the stage's frames, the same on all workers).

        If a loss or a gradient of any worker is not finite, no worker takes that step nor those left of the batch.
        """
        self._reset_if_due(progress)
        targets = self._objective.prepare(batch, reduce, derived_seed(self.seed, self.updates))
        minibatches = list(self._minibatches(batch.learn.shape[1]))
        counts = reduce(torch.stack([batch.learn[:, worlds].sum() for worlds in minibatches]).double()).tolist()
        rate = learning_rate(self.algorithm.learning_rate, self.algorithm.final_learning_rate, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        totals, norms, skipped = torch.zeros(len(self._objective.terms)), 0.0, False
        taken = 0
        for index, (worlds, count) in enumerate(zip(minibatches, counts, strict=True)):
            if count == 0:  # on every worker
                continue
            terms, norm = self._gradient(batch, targets, worlds, count, index, reduce)
            if not (torch.isfinite(terms).all() and norm.isfinite()):
                skipped = True
                break
            self.optimizer.step()
            if self._replacement is not None:
                self._replacement.stepped(reduce, derived_seed(self.seed, REPLACEMENT, self.updates, index))
            self._objective.stepped()
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
            resets=self.resets if self.algorithm.resets.times > 0 else None,
            **dict(zip(self._objective.terms, means, strict=True)),
        )

    def _reset_if_due(self, progress: float) -> None:
        """Give layers their birth anew, in the learner's network and in one that acts for it."""
        due, rule = resets_due(self.algorithm.resets.times, progress), self.algorithm.resets
        if due <= self.resets or self._rebuild is None:
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(self.seed, RESET, due))
            fresh = self._rebuild()
        networks = [self.network] if self.acting is self.network else [self.network, self.acting]
        bear_again(networks, fresh, rule.part == "heads", self.optimizer)
        self.resets = due

    def _minibatches(self, worlds: int) -> Iterator[Tensor]:
        """Yield the worlds of each minibatch of each pass; some are empty if this worker has few worlds."""
        for epoch in range(self.algorithm.epochs):
            rng = np.random.default_rng([self.seed, self.updates, epoch])
            order = torch.from_numpy(rng.permutation(worlds)).to(self._flat.device)
            yield from order.tensor_split(self.algorithm.minibatches)

    def _gradient(
        self, batch: Batch, targets: Any, worlds: Tensor, count: float, index: int, reduce: Reduce
    ) -> tuple[Tensor, Tensor]:
        """Leave the group's gradient of a minibatch, scaled down, in the parameters; return terms and its norm."""
        self._flat.zero_()
        if self._replacement is not None:
            self._replacement.forget_activity()
        width = len(self._objective.terms)
        gradients = self._flat[:-width]
        if len(worlds):
            # Within one autocast, though it is not enabled here, a layer that is used often is made bfloat16 once.
            with torch.autocast(self._flat.device.type, enabled=False):
                terms = self._objective.loss(batch, targets, worlds, count, index)
            terms[0].backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                self._flat[-width:] = torch.stack(terms)
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
        return self._flat[-width:].to("cpu", copy=True), norm


def derived_seed(*parts: int) -> int:
    """Return a seed, 63 bits, that follows from these numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def _flat_gradients(parameters: list[torch.nn.Parameter], extra: int) -> Tensor:
    """Make all gradients views of one tensor with `extra` places at its end: one reduction, one norm."""
    sizes = [parameter.numel() for parameter in parameters]
    flat = parameters[0].new_zeros(sum(sizes) + extra, requires_grad=False)
    for parameter, part in zip(parameters, torch.split_with_sizes(flat[: sum(sizes)], sizes), strict=True):
        parameter.grad = part.view_as(parameter)
    return flat
