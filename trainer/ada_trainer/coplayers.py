"""Who plays beside the agent in tasks of two players, if it is not the agent itself (AdA, appendix D, training).

A co-player only acts: nothing is learned from it and its memory is its own. AdA draws co-players from a random policy
and earlier snapshots of the agent; here a stage names one, random or a pinned checkpoint.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from ada_sim.constants import ACTION_REST, ACTION_SIZES
from ada_trainer.networks.agent import AgentNetwork


class CoPlayer(Protocol):
    """Acts for N players, one a world."""

    def act(self, observation: Mapping[str, Tensor], clear: Tensor, generator: torch.Generator) -> Tensor:
        """Return actions, int8 [N, 6]; `clear`, bool [N], says where an episode starts."""
        ...


class RandomCoPlayer:
    """Chooses uniformly in each group that the agent controls; the others rest."""

    def __init__(self, groups: tuple[int, ...], device: torch.device) -> None:
        """Choose in these groups."""
        self._groups = groups
        self._rest = torch.tensor(ACTION_REST, dtype=torch.int8, device=device)

    def act(self, observation: Mapping[str, Tensor], clear: Tensor, generator: torch.Generator) -> Tensor:
        """Draw actions."""
        actions = self._rest.expand(len(clear), -1).clone()
        for group in self._groups:
            drawn = torch.randint(ACTION_SIZES[group], (len(clear),), generator=generator, device=clear.device)
            actions[:, group] = drawn.to(torch.int8)
        return actions


class FrozenCoPlayer:
    """An agent that learns no more, with its memory."""

    def __init__(self, network: AgentNetwork) -> None:
        """Play with the network; its memories begin empty with the first timestep."""
        self._network = network
        self._state = network.initial_state(0)

    def act(self, observation: Mapping[str, Tensor], clear: Tensor, generator: torch.Generator) -> Tensor:
        """Sample its policy."""
        if len(self._state.known) != len(clear):
            self._state = self._network.initial_state(len(clear))
        output, self._state = self._network.step(observation, self._state, clear)
        return self._network.sample(output, generator)
