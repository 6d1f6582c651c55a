"""Machine instructions that Python has no words for. A set of bodies is an int64 whose bit k stands for body k."""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import int64, none
from numba.core import cgutils
from numba.core.extending import intrinsic


def _lowest(typing_context, bits):  # type: ignore[no-untyped-def]
    """Return the index of the lowest bit of a set (int64) that is not empty: one machine instruction."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return int64(int64), generate


def _highest(typing_context, bits):  # type: ignore[no-untyped-def]
    """Return the index of the highest bit of a set (int64) that is not empty."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.sub(ir.Constant(ir.IntType(64), 63), builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1)))

    return int64(int64), generate


def _prefetch(typing_context, record, offset):  # type: ignore[no-untyped-def]
    """Ask for the cache line `offset` bytes into a record, so that it is there when it is read a little later."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        byte, number = ir.IntType(8), ir.IntType(32)
        address = builder.gep(builder.bitcast(arguments[0], byte.as_pointer()), [arguments[1]])
        kind = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), number, number, number])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")  # type: ignore[no-untyped-call]
        builder.call(hint, [address, number(0), number(3), number(1)])  # to read, keep in all caches, data
        return context.get_dummy_value()

    return none(record, int64), generate


# Called by compiled functions with the arguments after the first.
lowest: Any = intrinsic(_lowest)
highest: Any = intrinsic(_highest)
prefetch: Any = intrinsic(_prefetch)
