"""Which arithmetic a worker uses, decided once at its start by what the device can do, and said in its log.

By capability, not by a race: the same experiment on the same machine must give the same bits. The rates that are
logged beside the decision are measured, so that a wrong one can be seen.

    cpu    bfloat16 for the large products (`AgentNetwork.multiply_in`) where the processor has matrix units (AMX), but
           in no part that is narrower than `LEAST_WIDTH`; else float32
    cuda   the same where the device multiplies bfloat16 (compute capability 8 and more), all else in TF32; else
           float32. A Transformer-XL acts by CUDA graphs (`networks/captured_step.py`) where a small one finds the same
           with and without; if not it acts without, and the log says why.
"""

import logging
import time
from pathlib import Path

import torch

from ada_trainer.networks.captured_step import capture
from ada_trainer.networks.presets import Sizes
from ada_trainer.networks.transformer_xl import TransformerXl

ROWS, WIDTH = 128, 512  # of the product that is measured: milliseconds, for a group that meets again waits for it
REPEATS = 2
LEAST_WIDTH = 128  # of a memory or model whose products gain more by bfloat16 than it costs to convert what goes in

SMALL = Sizes(width=32, layers=2, heads=2, memory=5, embedding=8)  # a memory to try captured steps with
CLOSE = 1e-3  # of outputs near 1: in a graph other kernels may be picked

logger = logging.getLogger("ada_trainer.kernels")


def choose(device: torch.device) -> torch.dtype:
    """Set how this process multiplies float32 on the device, log why, and return the type of large products."""
    capability = torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 0
    name, reason = decide(device.type, capability)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if name == "bfloat16" else "highest")
    rates = ", ".join(f"{rate_gflops(device, kind):,.0f} in {label}" for label, kind in KINDS.items())
    logger.info("large products are made in %s: %s; measured here, GFLOP/s: %s", name, reason, rates)
    return KINDS[name]


KINDS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def decide(device: str, capability: int, matrix_units: bool | None = None) -> tuple[str, str]:
    """Return the arithmetic's name, `float32` or `bfloat16`, and the reason.

    Args:
        capability: major compute capability of a CUDA device.
        matrix_units: whether the processor has AMX; looked up if not given.
    """
    if device == "cuda":
        if capability >= 8:
            return (
                "bfloat16",
                f"the device is of compute capability {capability}; in TF32 below a width of {LEAST_WIDTH}",
            )
        return "float32", f"the device is of compute capability {capability}, bfloat16 begins with 8"
    if has_matrix_units() if matrix_units is None else matrix_units:
        return "bfloat16", f"the processor has matrix units (AMX); but in float32 below a width of {LEAST_WIDTH}"
    return "float32", "the processor has no matrix units (AMX)"


def can_capture(device: torch.device) -> bool:
    """Say whether a Transformer-XL's steps can be captured, and log why not on a CUDA device where they can't."""
    if device.type != "cuda":
        return False
    try:
        far = difference_when_captured(device)
    except RuntimeError as error:
        logger.warning("acting without CUDA graphs: capturing a step failed: %s", error)
        return False
    if not far <= CLOSE:
        logger.warning("acting without CUDA graphs: captured steps are off by %.2g, more than %g", far, CLOSE)
        return False
    logger.info("acting by CUDA graphs: captured steps are off by %.2g at most", far)
    return True


def difference_when_captured(device: torch.device) -> float:
    """Return by how much captured steps of a small memory differ from plain ones, twice around its ring."""
    batch, far = 3, 0.0
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        core = TransformerXl(SMALL).to(device)
        plain = core.initial_state(batch)
        captured = capture(core, core.initial_state(batch))
        for t in range(2 * core.slots):
            x, clear = torch.randn(batch, SMALL.width).to(device), (torch.rand(batch) < 0.2).to(device)
            if t == core.slots:  # as after an update of the parameters
                core.norm.weight.mul_(1.5)
                core.get_parameter("blocks.0.from_age.weight").mul_(0.5)
                plain, captured = core.renew(plain), core.renew(captured)
            (one, plain), (other, captured) = core.step(x, plain, clear), core.step(x, captured, clear)
            far = max(far, float((one - other).abs().max()))
    return far


def has_matrix_units(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Say whether the processor multiplies matrices of bfloat16 by itself."""
    try:
        return "amx_bf16" in cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return False


def rate_gflops(device: torch.device, kind: torch.dtype) -> float:
    """Return GFLOP/s of a product of the size of a small agent's layers, the better of two."""
    left, right = (torch.ones(shape, dtype=kind, device=device) for shape in ((ROWS, WIDTH), (WIDTH, WIDTH)))
    best = float("inf")
    with torch.inference_mode():
        for _ in range(REPEATS):
            start = time.perf_counter()
            product = left @ right
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - start)
    assert product.shape == (ROWS, WIDTH)
    return 2.0 * ROWS * WIDTH * WIDTH / best / 1e9
