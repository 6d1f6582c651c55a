"""Acting and learning beside the same network written plainly, and what share of the whole loop they take."""

import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ada_api.environment import Environment
from ada_api.experiment import AdaExperiment
from ada_api.stages import AgentModel, Algorithm, Muesli
from ada_curriculum.client import CurriculumClient
from ada_sim.observation import specification
from ada_trainer import kernels
from ada_trainer.elastic.group import Group
from ada_trainer.learner import Batch, Learner
from ada_trainer.networks.agent import AgentNetwork
from ada_trainer.networks.presets import sizes_of
from ada_trainer.settings import Settings, find_stage
from ada_trainer.work import Work, connect_simulator
from benchmarks.peer import note
from benchmarks.plain_transformer import PlainTransformerXl
from benchmarks.row import Row, rate_row
from benchmarks.services import TOKEN, running_service, running_simulator
from benchmarks.timing import Effort, by_turns, cores, pinned, rate_of

ROOT = Path(__file__).parents[1]
SPACE = Environment(observation="symbolic")
BATCH, MEMORY, UNROLL = 128, 300, 80
MODELS = {
    "1M": AgentModel(preset="small", width=144, layers=4, heads=4, memory=MEMORY),
    "6M": AgentModel(preset="6m", memory=MEMORY),
    "23M": AgentModel(preset="23m", memory=MEMORY),
}
MATRIX_UNITS = kernels.has_matrix_units()  # without them bf16 gains little
ACTING_BARS = dict(zip(MODELS, (1.3, 1.5, 2.0) if MATRIX_UNITS else (1.1, 1.2, 1.3), strict=True))
LEARNING_BARS = dict(zip(MODELS, (1.3, 1.6, 2.2) if MATRIX_UNITS else (1.0, 1.0, 1.0), strict=True))
MUESLI_BARS = {"6M": 0.4, "23M": 0.4}
MUESLI_WORLDS = 2
LEARNING_WORLDS = 8
TINY = {"tiny": AgentModel(preset="nano", memory=8)}
LOOP_S = 30.0
REPROJECT_ONLY = "23M"


def rows(effort: Effort) -> Iterator[Row]:
    """Measure acting, learning, and the loop around them."""
    models = TINY if effort.small else MODELS
    if not MATRIX_UNITS:
        note("this processor has no matrix units (AMX): the bars of acting and learning are those for such processors")
    torch.set_num_threads(1)
    with pinned(1, effort):
        for size, model in models.items():
            yield from acting_rows(effort, size, model)
        for size, model in models.items():
            yield learning_row(effort, size, model)
        for size, model in models.items():
            yield muesli_row(effort, size, model)
    yield loop_row(effort)


def network_of(model: AgentModel, muesli: Muesli | None = None) -> AgentNetwork:
    """Return our network."""
    torch.manual_seed(0)
    return AgentNetwork(model, specification(SPACE), SPACE.action_groups, muesli)


def as_a_worker(network: AgentNetwork) -> AgentNetwork:
    """Return the network with the arithmetic that a worker chooses on this processor."""
    network.multiply_in(kernels.choose(torch.device("cpu")), kernels.LEAST_WIDTH)
    return network


def plainly(network: AgentNetwork, model: AgentModel, reproject: bool = False) -> AgentNetwork:
    """Return the same network, parameters included, around the plain memory."""
    core = PlainTransformerXl(sizes_of(model), reproject)
    core.adopt(network.core.state_dict())
    own, network.core = network.core, torch.nn.Identity()  # it need not be copied
    plain = copy.deepcopy(network)
    network.core = own
    plain.core = core  # type: ignore[assignment]
    return plain


def observations(timesteps: int, batch: int) -> dict[str, Tensor]:
    """Return made-up observations [T, B, ...] of one episode each."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for field in specification(SPACE):
        values = torch.rand(timesteps, batch, *field.shape, generator=generator)
        if field.dtype.kind != "f":
            values = (values * 3).to(torch.int8)
        found[field.name] = values[:1].expand_as(values).clone() if field.per_episode else values
    return found


def acting(network: AgentNetwork, batch: int) -> Callable[[], Tensor]:
    """Return a function that takes one timestep in all worlds, each in the middle of a long episode."""
    seen = observations(4, batch)
    held = [network.initial_state(batch), 0]
    nowhere = torch.zeros(batch, dtype=torch.bool)

    def work() -> Tensor:
        observation = {name: values[held[1] % 4] for name, values in seen.items()}
        with torch.inference_mode():
            output, held[0] = network.step(observation, held[0], nowhere)
        held[1] += 1
        return output.value

    return work


def acting_rows(effort: Effort, size: str, model: AgentModel) -> Iterator[Row]:
    """Compare single timesteps with SDPA over kept keys and values, and at 23M with projecting the memory anew."""
    batch = 4 if effort.small else BATCH
    network = as_a_worker(network_of(model)).requires_grad_(False)
    what = f"tokens/s acting, {size} parameters, B={batch}, M={sizes_of(model).memory}, 1 core"
    ours = acting(network, batch)
    plain = acting(plainly(network, model), batch)
    far = max(float((ours() - plain()).abs().max()) for _ in range(4))
    if far > 0.1:
        raise RuntimeError(f"acting at {size} differs by {far:.2g} in the value from the plain network's")
    note(f"acting at {size}: values differ by at most {far:.1g} from the plain network's")
    rates = by_turns([partial(rate_of, work, batch, effort.seconds) for work in (ours, plain)], effort.repeats)
    yield rate_row("learner", what, *rates, "eager fp32, SDPA over kept keys and values", ACTING_BARS.get(size))
    if size == REPROJECT_ONLY or effort.small:
        del plain
        anew = acting(plainly(network, model, reproject=True), batch)
        rates = by_turns(
            [partial(rate_of, work, batch, effort.seconds) for work in (ours, anew)], min(3, effort.repeats)
        )
        yield rate_row("learner", what, *rates, "eager fp32, the memory projected anew (as in the paper)", 10)


def learning_row(effort: Effort, size: str, model: AgentModel) -> Row:
    """Compare updates from unrolls."""
    timesteps, worlds = (6, 2) if effort.small else (UNROLL, LEARNING_WORLDS)
    algorithm = Algorithm(name="ppo", epochs=1, minibatches=1, unroll=timesteps, worlds=worlds, learning_rate=1e-6)
    network = as_a_worker(network_of(model))
    learners = [Learner(one, algorithm, seed=0) for one in (network, plainly(network, model))]
    works = [partial(one.update, made_up_batch(one.network, timesteps, worlds), 0.0) for one in learners]
    first, second = (work().loss for work in works)
    difference = abs(first - second)
    note(f"learning at {size}: the loss differs by {difference:.1g} from the plain network's")
    if difference > 0.05:
        raise RuntimeError(f"learning at {size} differs by {difference:.2g} in the loss from the plain network's")
    rates = by_turns([partial(rate_of, work, timesteps * worlds, effort.seconds) for work in works], effort.repeats)
    what = f"tokens/s learning, {size} parameters, unroll {timesteps}, M={sizes_of(model).memory}, 1 core"
    return rate_row("learner", what, *rates, "eager fp32, SDPA", LEARNING_BARS.get(size))


def muesli_row(effort: Effort, size: str, model: AgentModel) -> Row:
    """Compare an update of Muesli with the time that its matrix products alone would take at the machine's own rate.

    Counted are the products that the update makes (look-ahead, unrolled memory and model, forward and backward), none
    of what lies between them; the rate is that of one large product of float32.
    """
    timesteps, worlds = (6, 2) if effort.small else (UNROLL, MUESLI_WORLDS)
    algorithm = Algorithm(name="muesli", epochs=1, minibatches=1, unroll=timesteps, worlds=worlds, learning_rate=1e-6)
    learner = Learner(as_a_worker(network_of(model, algorithm.muesli)), algorithm, seed=0)
    update = partial(learner.update, made_up_batch(learner.acting, timesteps, worlds), 0.0)
    with FlopCounterMode(display=False) as counter:
        report = update()
    if report.skipped or report.model_value_loss is None or report.model_value_loss <= 0:
        raise RuntimeError(f"the update of Muesli at {size} learned nothing: {report}")
    flops, side = float(counter.get_total_flops()), 64 if effort.small else 1536
    left, right = torch.randn(2, side, side)
    works = ((update, flops), (partial(torch.mm, left, right), 2.0 * side**3))
    rates = by_turns([partial(rate_of, work, amount, effort.seconds) for work, amount in works], min(3, effort.repeats))
    note(f"Muesli at {size}: an update of {timesteps * worlds} timesteps takes {flops / 1e9:,.1f} GFLOP of products")
    what = f"FLOP/s of an update of Muesli, model unrolled {algorithm.muesli.model_unroll}, {size} parameters, 1 core"
    return rate_row("learner", what, *rates, "one large product of float32", MUESLI_BARS.get(size))


def made_up_batch(network: AgentNetwork, timesteps: int, worlds: int) -> Batch:
    """Return a batch of one episode in each world, on the network's device."""
    device = network.rest.device
    generator = torch.Generator(device).manual_seed(1)
    observation = {name: values.to(device) for name, values in observations(timesteps, worlds).items()}
    clear = torch.zeros(timesteps, worlds, dtype=torch.bool, device=device)
    clear[0] = True
    with torch.no_grad():
        output = network.unroll(observation, network.initial_state(worlds), clear)
        actions = network.sample(output, generator)
        log_prob = network.log_prob(output, actions)
    roots = output.model_state
    return Batch(
        observation=observation,
        clear=clear,
        actions=actions,
        log_prob=log_prob,
        reward=torch.rand(timesteps, worlds, generator=generator, device=device) * 0.1,
        value=torch.zeros(timesteps + 1, worlds, device=device),
        continues=torch.ones(timesteps, worlds, device=device),
        learn=torch.ones(timesteps, worlds, dtype=torch.bool, device=device),
        state=network.initial_state(worlds),
        roots=None if roots is None else torch.cat([roots, roots[-1:]]),
    )


class Spent:
    """Adds up the time that calls of a method take."""

    def __init__(self, owner: Any, name: str) -> None:
        self.seconds, self._owner, self._name = 0.0, owner, name
        self._method = getattr(owner, name)

    def __enter__(self) -> "Spent":
        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return self._method(*arguments, **options)
            finally:
                self.seconds += time.perf_counter() - start

        setattr(self._owner, self._name, timed)
        return self

    def __exit__(self, *_: object) -> None:
        setattr(self._owner, self._name, self._method)


def loop_row(effort: Effort) -> Row:
    """Measure which share of the time of the quickstart's student goes into its network: acting and updating.

    One worker, a simulator server and the curriculum service, each a process of its own, on at most two cores.
    """
    document = yaml.safe_load((ROOT / "examples" / "quickstart.yaml").read_text(encoding="utf-8"))
    stage = document["spec"]["stages"][1]
    document["spec"]["stages"] = [{key: value for key, value in stage.items() if key != "distillation"}]
    if effort.small:
        document["spec"]["stages"][0]["algorithm"] |= {"worlds": 8, "unroll": 5}
    experiment = AdaExperiment.model_validate(document)
    torch.set_num_threads(1 if effort.small else len(cores()[:2]))  # as the launcher of one worker does
    with pinned(2, effort), tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        name = experiment.spec.stages[0].name
        service = stack.enter_context(running_service(Path(folder), document))
        simulator = stack.enter_context(running_simulator(Path(folder), document))
        client = stack.enter_context(CurriculumClient(service, TOKEN))
        client.register(name, 1, 1)
        settings = Settings(
            experiment=experiment,
            stage=find_stage(experiment, name),
            min_nodes=1,
            max_nodes=1,
            rendezvous_id="benchmark",
            host="127.0.0.1",
            port=0,
            token=TOKEN,
            curriculum_address=service,
            rendezvous_address="",
            simulator_addresses=(simulator,),
            store_uri=Path(folder).as_uri(),
            teacher=None,
            resume=None,
        )
        share = loop_share(Work(settings, Group(), client, 1, "0", connect_simulator(TOKEN, 1)), client, name, effort)
    what = f"share of wall time in forward and backward, {len(cores()[:2])} cores"
    return rate_row("learner", f"{what}, the quickstart's student", share, 1.0, "all of the time", 0.8)


def loop_share(work: Work, client: CurriculumClient, stage: str, effort: Effort) -> float:
    """Return the share of the network's time in iterations of collecting, learning and reporting."""
    frames = updates = 0
    work.begin(0)

    def iteration() -> None:
        nonlocal frames, updates
        collected = work.collect()
        figures = work.update(collected, frames)
        frames, updates = frames + figures.frames, updates + 1
        client.report(stage, 1, "0", list(figures.results))
        client.advance(stage, 1, frames, updates, 0, figures.losses)

    try:
        iteration()
        with Spent(AgentNetwork, "step") as step, Spent(Learner, "update") as update:
            start = time.perf_counter()
            while (spent := time.perf_counter() - start) < (effort.seconds if effort.small else LOOP_S):
                iteration()
            spent = time.perf_counter() - start
    finally:
        work.close()
    note(
        f"whole loop: {frames / spent:,.0f} frames/s; {step.seconds / spent:.0%} of the time acting, "
        f"{update.seconds / spent:.0%} updating"
    )
    return (step.seconds + update.seconds) / spent
