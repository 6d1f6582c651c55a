"""`python -m benchmarks.gpu` (`make bench-gpu`): acting and learning on a GPU, beside eager float32 on the same GPU.

    acting     large products in bfloat16; by CUDA graphs; both, as workers act
    learning   TF32; large products in bfloat16, as workers learn

Prints one JSON row a line as `python -m benchmarks` does. Without a GPU it says so and ends with 2.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial

import torch

from ada_api.stages import AgentModel, Algorithm
from ada_trainer import kernels
from ada_trainer.learner import Batch, Learner, UpdateReport
from ada_trainer.networks.agent import AgentNetwork
from ada_trainer.networks.presets import sizes_of
from benchmarks.learner import MODELS, UNROLL, made_up_batch, network_of, observations
from benchmarks.row import Row, rate_row
from benchmarks.timing import FULL, Effort, by_turns, rate_of

BATCH, WORLDS = 1024, 64


def main() -> int:
    """Measure and print, or say why not."""
    if not torch.cuda.is_available():
        sys.stderr.write(
            "bench-gpu needs a CUDA device and PyTorch sees none (torch.cuda.is_available() is False): run it on a "
            "machine with a GPU; for a processor there is `make bench`\n"
        )
        return 2
    device = torch.device("cuda")
    kernels.choose(device)
    for size, model in MODELS.items():
        for row in (*acting_rows(size, model, device, FULL), *learning_rows(size, model, device, FULL)):
            print(row.line(), flush=True)
    return 0


def acting(network: AgentNetwork, batch: int, device: torch.device) -> Callable[[], None]:
    """Return a function that takes one timestep in all worlds and waits for it."""
    seen = {name: values[0].to(device) for name, values in observations(1, batch).items()}
    with torch.inference_mode():
        held = [network.initial_state(batch)]
    nowhere = torch.zeros(batch, dtype=torch.bool, device=device)

    def work() -> None:
        with torch.inference_mode():
            _, held[0] = network.step(seen, held[0], nowhere)
        wait(device)

    return work


def acting_rows(size: str, model: AgentModel, device: torch.device, effort: Effort) -> Iterator[Row]:
    """Compare ways to act with eager float32."""
    plain = acting(network_of(model).to(device).requires_grad_(False), BATCH, device)
    what = f"tokens/s acting on {name_of(device)}, {size} parameters, B={BATCH}, M={sizes_of(model).memory}"
    for label, products, captures in (
        ("bfloat16", torch.bfloat16, False),
        ("CUDA graphs", torch.float32, True),
        ("bfloat16, CUDA graphs", torch.bfloat16, True),
    ):
        network = network_of(model).to(device).requires_grad_(False)
        network.multiply_in(products)
        if captures:
            network.capture_steps()
        work = acting(network, BATCH, device)
        work()
        rates = by_turns([partial(rate_of, one, BATCH, effort.seconds) for one in (work, plain)], effort.repeats)
        yield rate_row("gpu", f"{what}, {label}", *rates, "eager float32", None)


def learning_rows(size: str, model: AgentModel, device: torch.device, effort: Effort) -> Iterator[Row]:
    """Compare ways to learn with eager float32."""
    algorithm = Algorithm(name="ppo", epochs=1, minibatches=1, unroll=UNROLL, worlds=WORLDS, learning_rate=1e-6)
    learner = Learner(network_of(model).to(device), algorithm, seed=0)
    told = made_up_batch(learner.network, UNROLL, WORLDS)
    plain = partial(update, learner, told, "highest", torch.float32)
    what = f"tokens/s learning on {name_of(device)}, {size} parameters, unroll {UNROLL}, {WORLDS} worlds"
    for label, products in (("TF32", torch.float32), ("bfloat16", torch.bfloat16)):
        work = partial(update, learner, told, "high", products)
        work()
        tokens = UNROLL * WORLDS
        rates = by_turns([partial(rate_of, one, tokens, effort.seconds) for one in (work, plain)], effort.repeats)
        yield rate_row("gpu", f"{what}, {label}", *rates, "eager float32", None)


def update(learner: Learner, told: Batch, precision: str, products: torch.dtype) -> UpdateReport:
    """Learn from a batch with this arithmetic, and wait for it."""
    torch.set_float32_matmul_precision(precision)
    learner.network.multiply_in(products)
    report = learner.update(told, 0.0)
    wait(told.reward.device)
    return report


def wait(device: torch.device) -> None:
    """Wait for what was begun on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def name_of(device: torch.device) -> str:
    """Return the device's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the processor"


if __name__ == "__main__":
    raise SystemExit(main())
