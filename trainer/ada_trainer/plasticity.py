"""Options against a network that can no longer learn: periodic resets and continual backprop. Off by default.

    resets (Nikishin et al., 2022, "The primacy bias"): at evenly spaced moments of the stage, none at its end, layers
        are born again, and the optimiser forgets about them. The paper keeps a replay buffer through a reset; there is
        none here, so what the layers knew comes back from fresh experience alone, or from a teacher.

    continual backprop (Dohare et al., 2024, "Loss of plasticity in deep continual learning", algorithm 1):
        u <- decay u + (1 - decay) mean|h| sum|w_out|       a hidden unit's utility; over 1 - decay^age when compared
        of the units older than `maturity` steps a share `replacement_rate` a step, those of least utility, are born
        again: new weights into them, weights out of them 0, age and utility 0, the optimiser's moments of both 0

Both follow from the seed, the progress and the group's sums, so all workers do the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ada_api.stages import ContinualBackprop
from ada_trainer.networks.agent import AgentNetwork, HiddenLayer
from ada_trainer.objective import Reduce

HEADS = ("hidden.", "policy.", "value.", "model.policy_head.", "model.value_head.", "model.reward_head.")


def resets_due(times: int, progress: float) -> int:
    """Return how many of a stage's resets, at 1/(times + 1), 2/(times + 1), ..., lie behind `progress` (0 to 1)."""
    return min(times, int(progress * (times + 1) + 1e-9))


def bear_again(
    networks: list[AgentNetwork], fresh: AgentNetwork, heads_only: bool, optimizer: torch.optim.Optimizer
) -> None:
    """Give the networks the parameters of one that has just been born; the optimiser forgets about those it moves."""
    born = dict(fresh.named_parameters())
    with torch.no_grad():
        for network in networks:
            for name, parameter in network.named_parameters():
                if name.startswith(HEADS) or not heads_only:
                    parameter.copy_(born[name])
                    optimizer.state.pop(parameter, None)


@dataclass(frozen=True, slots=True)
class Units:
    """What is known of a layer's U hidden units."""

    utility: Tensor  # [U], moving mean that begins at 0
    age: Tensor  # int64 [U], steps since birth
    owed: float  # units to be replaced, in fractions


def grown(units: Units, activity: Tensor, outgoing: Tensor, decay: float) -> Units:
    """Return the units a step later; activity is mean|h|, outgoing sum|w_out|, both [U]."""
    return Units(decay * units.utility + (1 - decay) * activity * outgoing, units.age + 1, units.owed)


def least_useful(units: Units, settings: ContinualBackprop) -> tuple[Tensor, Units]:
    """Return the units to replace now, int64 [R], and what is known once they are replaced."""
    eligible = units.age > settings.maturity
    owed = units.owed + settings.replacement_rate * int(eligible.sum())
    count = min(int(owed), int(eligible.sum()))
    corrected = units.utility / (1 - settings.utility_decay ** units.age.clamp(min=1).double()).to(units.utility)
    chosen = corrected.masked_fill(~eligible, float("inf")).argsort(stable=True)[:count]
    utility, age = units.utility.clone(), units.age.clone()
    utility[chosen], age[chosen] = 0, 0
    return chosen, Units(utility, age, owed - count)


class UnitReplacement:
    """Continual backprop over the hidden layers of a network that learns."""

    def __init__(
        self, layers: Mapping[str, HiddenLayer], settings: ContinualBackprop, optimizer: torch.optim.Optimizer
    ) -> None:
        """Watch the layers."""
        self._layers, self._settings, self._optimizer = dict(layers), settings, optimizer
        self.units: dict[str, Units] = {}
        self._activity: dict[str, Tensor] = {}  # sum of |h|, and how many there were, [U + 1]
        for name, hidden in self._layers.items():
            like = hidden.layer.bias
            self.units[name] = Units(torch.zeros_like(like), torch.zeros_like(like, dtype=torch.int64), 0.0)
            self._activity[name] = like.new_zeros(len(like) + 1, requires_grad=False)
            hidden.layer.register_forward_hook(self._noting(name))

    def _noting(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if torch.is_grad_enabled():  # learning, not acting
                with torch.no_grad():
                    rows = functional.relu(output).flatten(0, -2)
                    self._activity[name][:-1] += rows.sum(0)
                    self._activity[name][-1] += len(rows)

        return note

    def forget_activity(self) -> None:
        """Begin a minibatch."""
        for activity in self._activity.values():
            activity.zero_()

    def stepped(self, reduce: Reduce, seed: int) -> None:
        """Replace units after a step of the optimiser; `seed` is the same on all workers and new at each step."""
        summed = reduce(torch.cat(list(self._activity.values())))
        parts = torch.split_with_sizes(summed, [len(activity) for activity in self._activity.values()])
        generator = torch.Generator().manual_seed(seed)
        for (name, hidden), part in zip(self._layers.items(), parts, strict=True):
            activity = part[:-1] / part[-1].clamp(min=1)
            outgoing = torch.stack([layer.weight.detach().abs().sum(0) for layer in hidden.outgoing]).sum(0)
            units = grown(self.units[name], activity, outgoing, self._settings.utility_decay)
            chosen, self.units[name] = least_useful(units, self._settings)
            if len(chosen):
                self._replace(hidden, chosen, generator)

    def _replace(self, hidden: HiddenLayer, units: Tensor, generator: torch.Generator) -> None:
        weight, bias = hidden.layer.weight, hidden.layer.bias
        bound = (6 / weight.shape[1]) ** 0.5  # He et al., 2015: uniform, for a unit with a ReLU
        with torch.no_grad():
            fresh = torch.empty(len(units), weight.shape[1]).uniform_(-bound, bound, generator=generator)
            weight[units], bias[units] = fresh.to(weight), 0
            for moment in self._moments(weight, bias):
                moment[units] = 0
            for layer in hidden.outgoing:
                layer.weight[:, units] = 0
                for moment in self._moments(layer.weight):
                    moment[:, units] = 0

    def _moments(self, *parameters: Tensor) -> list[Tensor]:
        states = [self._optimizer.state.get(parameter, {}) for parameter in parameters]
        return [state[name] for state in states for name in ("exp_avg", "exp_avg_sq") if name in state]

    def state_dict(self) -> dict[str, Any]:
        """Return what is known of the units; tensors are the live ones."""
        return {
            name: {"utility": units.utility, "age": units.age, "owed": units.owed} for name, units in self.units.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        for name, units in self.units.items():
            told = state[name]
            self.units[name] = Units(told["utility"].to(units.utility), told["age"].to(units.age), float(told["owed"]))
