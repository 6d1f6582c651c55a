"""Which arithmetic a worker uses, decided once at its start by what the device can do, and said in its log.

By capability, not by a race: the same experiment on the same machine must give the same bits. The rates that are
logged beside the decision are measured, so that a wrong one can be seen.

    cpu    bfloat16 for the large products (`AgentNetwork.multiply_in`) where the processor has matrix units (AMX), but
           in no part that is narrower than `LEAST_WIDTH`; else float32
    cuda   float32 that is multiplied in TF32 where the device has it (compute capability 8 and more), else float32
"""

import logging
import time
from pathlib import Path

import torch

ROWS, WIDTH = 128, 512  # of the product that is measured: milliseconds, for a group that meets again waits for it
REPEATS = 2
LEAST_WIDTH = 128  # of a memory or model whose products gain more by bfloat16 than it costs to convert what goes in

logger = logging.getLogger("ada_trainer.kernels")


def choose(device: torch.device) -> torch.dtype:
    """Set how this process multiplies float32 on the device, log why, and return the type of large products."""
    capability = torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 0
    name, reason = decide(device.type, capability)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    rates = ", ".join(f"{rate_gflops(device, kind):,.0f} in {label}" for label, kind in KINDS.items())
    logger.info("large products are made in %s: %s; measured here, GFLOP/s: %s", name, reason, rates)
    return KINDS.get(name, torch.float32)


KINDS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def decide(device: str, capability: int, matrix_units: bool | None = None) -> tuple[str, str]:
    """Return the arithmetic's name, `float32`, `tf32` or `bfloat16`, and the reason.

    Args:
        capability: major compute capability of a CUDA device.
        matrix_units: whether the processor has AMX; looked up if not given.
    """
    if device == "cuda":
        if capability >= 8:
            return "tf32", f"the device is of compute capability {capability}"
        return "float32", f"the device is of compute capability {capability}, TF32 begins with 8"
    if has_matrix_units() if matrix_units is None else matrix_units:
        return "bfloat16", f"the processor has matrix units (AMX); but in float32 below a width of {LEAST_WIDTH}"
    return "float32", "the processor has no matrix units (AMX)"


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
