"""How threads share out the worlds of a step: each takes the next few, until none are left.

Whoever comes late, or is held up, leaves more to the others. One thread waits in the end, and only for worlds that
others are at. The others stay awake for a moment, as the next step mostly follows soon: to wake a thread costs as much
as the steps of 30 worlds. One that comes when nothing is left goes away again, in whichever step that is.
"""

import platform
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import int64, njit, none, types
from numba.core import cgutils
from numba.core.extending import intrinsic

# Each number that threads write on a cache line of its own.
PROGRESS = np.dtype(
    {
        "names": ["taken", "done", "awake", "block"],
        # How many worlds are taken, and done; helpers that wait awake; worlds that are taken at a time.
        "formats": [np.int64] * 4,
        "offsets": [0, 64, 128, 192],
        "itemsize": 256,
    }
)
assert PROGRESS.fields is not None
TAKEN, DONE, AWAKE = (int(PROGRESS.fields[name][1]) for name in ("taken", "done", "awake"))
PATIENCE = 4000  # how often a thread looks again before it sleeps, or leaves its core to others: about 0.2 ms
HAS_PAUSE = platform.machine() in ("x86_64", "AMD64")


def _place(builder: Any, record: Any, offset: Any) -> Any:
    address = builder.gep(builder.bitcast(record, ir.IntType(8).as_pointer()), [offset])
    return builder.bitcast(address, ir.IntType(64).as_pointer())


def _add_to(typing_context, record, offset, amount):  # type: ignore[no-untyped-def]
    """Add to the int64 at this byte offset of a record, in one go for all threads; returns what it was."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        record, offset, amount = arguments
        return builder.atomic_rmw("add", _place(builder, record, offset), amount, "seq_cst")

    return int64(record, int64, int64), generate


def _set_to(typing_context, record, offset, value):  # type: ignore[no-untyped-def]
    """Set the int64 at this byte offset of a record, after all that was written before; returns what it was."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        record, offset, value = arguments
        return builder.atomic_rmw("xchg", _place(builder, record, offset), value, "seq_cst")

    return int64(record, int64, int64), generate


def _value_of(typing_context, record, offset):  # type: ignore[no-untyped-def]
    """Return the int64 at this byte offset of a record, as other threads left it."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.load_atomic(_place(builder, *arguments), "seq_cst", 8)

    return int64(record, int64), generate


def _pause(typing_context):  # type: ignore[no-untyped-def]
    """Let a moment pass, on the same core: who gives it away gets it back after milliseconds if others want it."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if HAS_PAUSE:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return none(), generate


# Called by compiled functions with the arguments after the first.
pause: Any = intrinsic(_pause)
add_to: Any = intrinsic(_add_to)
set_to: Any = intrinsic(_set_to)
value_of: Any = intrinsic(_value_of)
sched_yield = types.ExternalFunction("sched_yield", types.int32())


def no_progress(block: int) -> np.ndarray:
    """Return a PROGRESS [1] by which this many worlds are taken at a time; nothing is to be done yet."""
    progress = np.zeros(1, PROGRESS)
    progress["taken"] = 1 << 40
    progress["block"] = block
    return progress


@njit(cache=True, error_model="numpy")
def open_worlds(progress):  # type: ignore[no-untyped-def]
    """Let threads take worlds from now on; all that they read is in place. Returns how many helpers see it unasked.

    A helper that is about to sleep says so before it looks for the last time: it is counted, or sees it.
    """
    set_to(progress[0], DONE, 0)
    set_to(progress[0], TAKEN, 0)
    return value_of(progress[0], AWAKE)


@njit(error_model="numpy")
def take_some(p):  # type: ignore[no-untyped-def]
    """Return the first of the worlds that this thread does next."""
    return add_to(p, TAKEN, p.block)


@njit(error_model="numpy")
def tell_done(p, count):  # type: ignore[no-untyped-def]
    """Note that so many worlds are done."""
    add_to(p, DONE, count)


@njit(error_model="numpy")
def wait_for(p, count):  # type: ignore[no-untyped-def]
    """Wait until so many worlds are done. Not asleep: to wake up would take longer."""
    looks = 0
    while value_of(p, DONE) < count:
        looks += 1
        if looks < PATIENCE:
            pause()
        else:  # whoever is at them may want this core
            sched_yield()


@njit(error_model="numpy")
def are_open_again(p, count):  # type: ignore[no-untyped-def]
    """Wait for a moment, as a helper, for the next step of so many worlds; says whether it came."""
    add_to(p, AWAKE, 1)
    for _ in range(PATIENCE):
        if value_of(p, TAKEN) < count:
            break
        pause()
    add_to(p, AWAKE, -1)
    return value_of(p, TAKEN) < count
