"""Leaving the compiler out changes neither what an optimiser computes nor what it stores."""

import subprocess
import sys

PROGRAM = """
import sys
import torch
from ada_trainer.light import leave_out_compiler, step_without_compiler
from ada_trainer.snapshot import pack

def train(light):
    if light:
        leave_out_compiler()
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5))
    weight.grad = torch.zeros(5)
    optimizer = torch.optim.AdamW([weight], lr=0.1, eps=1e-5, fused=True)
    if light:
        step_without_compiler(optimizer)
    for step in range(3):
        weight.grad.copy_(weight.detach() ** 2)
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
    return pack({"weight": weight, "optimizer": optimizer.state_dict()})

light = train(True)
assert "torch._dynamo" not in sys.modules, "the compiler was imported after all"
assert light == train(False)
"""


def test_an_optimiser_without_the_compiler_gives_the_same_bytes() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=250)
