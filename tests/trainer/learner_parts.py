"""A small learner of Muesli or PPO, and a made-up batch for it."""

from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import torch
from torch import Tensor

from ada_api.environment import Environment
from ada_api.stages import AgentModel, Algorithm, Muesli
from ada_sim.observation import specification
from ada_trainer.batch import Batch
from ada_trainer.learner import Learner, UpdateReport
from ada_trainer.networks.agent import AgentNetwork
from ada_trainer.objective_muesli import MuesliObjective, MuesliTargets

SPACE = Environment(observation="symbolic", action_groups=["move", "turn"])
MUESLI = Muesli(samples=4, bins=21, value_range=3.0, model_unroll=3)
ALGORITHM = Algorithm(name="muesli", minibatches=2, epochs=2, unroll=6, worlds=8, muesli=MUESLI)
T, B = 6, 8


def network(core: str = "gru", muesli: Muesli | None = MUESLI) -> AgentNetwork:
    torch.manual_seed(1)
    return network_anew(muesli, core)


def network_anew(muesli: Muesli | None, core: str = "gru") -> AgentNetwork:
    model = AgentModel(core=core, width=32, heads=2 if core == "transformer-xl" else None)
    return AgentNetwork(model, specification(SPACE), SPACE.action_groups, muesli)


def learner(algorithm: Algorithm = ALGORITHM, core: str = "gru", **options: Any) -> Learner:
    return Learner(
        network(core, algorithm.muesli if algorithm.name == "muesli" else None), algorithm, seed=4, **options
    )


def objective_of(of: Learner) -> MuesliObjective:
    assert isinstance(of._objective, MuesliObjective)
    return of._objective


def batch(of: Learner, seed: int = 0, worlds: int = B, teacher: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    agent = of.acting

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    seen = {}
    for field in specification(SPACE):
        values = uniform(T + 1, worlds, *field.shape)
        if field.dtype.kind != "f":
            values = (values * 3).to(torch.int8)
        if field.per_episode:
            values = values[:1].expand_as(values).clone()
        seen[field.name] = values
    with torch.no_grad():
        clear = torch.zeros(T + 1, worlds, dtype=torch.bool)
        clear[0] = True
        output = agent.unroll(seen, agent.initial_state(worlds), clear)
        actions = agent.sample(output, generator)
        return Batch(
            observation={name: field[:T] for name, field in seen.items()},
            clear=clear[:T],
            actions=actions[:T],
            log_prob=agent.log_prob(output, actions)[:T],
            reward=uniform(T, worlds),
            value=output.value,
            continues=(uniform(T, worlds) > 0.2).float(),
            learn=uniform(T, worlds) > 0.1,
            state=agent.initial_state(worlds),
            teacher=uniform(T, worlds, sum(agent.choices)) * 3 if teacher else None,
            roots=output.model_state,
        )


def parameters(of: AgentNetwork) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in of.parameters()])


def made_up_targets(of: Learner, worlds: int = B) -> MuesliTargets:
    generator = torch.Generator().manual_seed(5)
    weights = torch.rand(T, worlds, sum(of.network.choices), generator=generator)
    return MuesliTargets(
        torch.rand(T, worlds, generator=generator), torch.randn(T, worlds, generator=generator), weights
    )


class Sum:
    """Sums tensors over threads, as an all-reduce does over workers."""

    def __init__(self, workers: int) -> None:
        self._barrier = Barrier(workers)
        self._parts: list[Tensor | None] = [None] * workers

    def of(self, worker: int) -> Callable[[Tensor], Tensor]:
        def reduce(tensor: Tensor) -> Tensor:
            self._parts[worker] = tensor.clone()
            self._barrier.wait(60)
            total = sum(part for part in self._parts if part is not None)
            self._barrier.wait(60)
            assert isinstance(total, Tensor)
            return total

        return reduce


def together(learners: list[Learner], batches: list[Batch]) -> list[UpdateReport]:
    """Have each learner, as a worker of one group, learn from its own batch; return their reports."""
    reports: dict[int, UpdateReport] = {}
    total = Sum(len(learners))

    def work(worker: int) -> None:
        reports[worker] = learners[worker].update(batches[worker], 0.0, total.of(worker))

    threads = [Thread(target=work, args=(worker,)) for worker in range(len(learners))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [reports[worker] for worker in range(len(learners))]
