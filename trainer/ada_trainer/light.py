"""Training without torch's compiler in memory.

torch's optimisers import the whole compiler (dynamo, inductor, sympy: 5 s of processor time, 130 MB) only to tell it to
leave them alone. A worker that never compiles tells it so beforehand. Each membership starts its workers anew, so this
is time that the group does not train.
"""

import functools
import inspect
import sys

import torch
from torch.optim import Optimizer

COMPILER = "torch._dynamo"


def leave_out_compiler() -> None:
    """Let optimisers be made, saved and loaded without the compiler; before the first one is made."""
    for name in ("add_param_group", "state_dict", "load_state_dict", "zero_grad"):
        plain = getattr(getattr(Optimizer, name), "__wrapped__", None)
        if plain is not None and COMPILER not in sys.modules:
            plain.__dynamo_disable = plain  # where torch keeps what it would make of it


def step_without_compiler(optimizer: Optimizer) -> None:
    """Let this optimiser step without the compiler, and without hooks: the same numbers."""
    plain = inspect.unwrap(type(optimizer).step)
    optimizer.step = functools.partial(torch.no_grad()(plain), optimizer)  # type: ignore[method-assign]
