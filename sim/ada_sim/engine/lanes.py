"""Questions asked of eight things at once, in vectors of eight numbers: the compiler has them for any processor.

The answer is a set (int64) whose bit n stands for the nth of the eight.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import float64, int64
from numba.core.extending import intrinsic

from ada_sim.constants import FELT_DISTANCE_M
from ada_sim.engine.view import COS2_HALF_VIEW, HIDING_M, TAN_HALF_HEIGHT, TAN_HALF_VIEW, WIDEST_RADIUS2

LANES = 8
LAST_ROW = 31.0  # of a set of tiles in 32 bits
_I32, _I64, _F32, _F64 = ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.DoubleType()


class _Lanes:
    """Vectors of eight, as instructions of one function that is being compiled."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def load(self, record: Any, offset: Any, kind: Any) -> Any:
        return self.builder.load(self._address(record, offset, kind), align=4)

    def store(self, vector: Any, record: Any, offset: Any) -> None:
        self.builder.store(vector, self._address(record, offset, vector.type.element), align=8)

    def _address(self, record: Any, offset: Any, kind: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        address = self.builder.gep(self.builder.bitcast(record, byte), [offset])
        return self.builder.bitcast(address, ir.VectorType(kind, LANES).as_pointer())

    def spread(self, value: Any) -> Any:
        """Return a vector of eight times this value."""
        vector = ir.VectorType(value.type, LANES)
        first = self.builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_I32, 0))
        zeros = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
        return self.builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)

    def constant(self, kind: Any, values: Sequence[float] | float) -> Any:
        each = list(values) if isinstance(values, Sequence) else [values] * LANES
        return ir.Constant(ir.VectorType(kind, LANES), each)

    def greater(self, a: Any, b: Any) -> Any:
        return self.builder.fcmp_ordered(">", a, b)

    def at_most(self, a: Any, b: Any) -> Any:
        return self.builder.fcmp_ordered("<=", a, b)

    def larger(self, a: Any, b: Any) -> Any:
        """Return the larger of each two; b where one is no number."""
        return self.builder.select(self.greater(a, b), a, b)

    def size(self, a: Any) -> Any:
        """Return absolute values."""
        return self.larger(a, self.builder.fneg(a))

    def products(self, a: Any, b: Any, c: Any, d: Any, sign: str) -> Any:
        """Return a b + c d, or a b - c d."""
        add = self.builder.fadd if sign == "+" else self.builder.fsub
        return add(self.builder.fmul(a, b), self.builder.fmul(c, d))

    def bits(self, flags: Any) -> Any:
        """Return eight flags as a set."""
        return self.builder.zext(self.builder.bitcast(flags, ir.IntType(LANES)), _I64)


def _crossings(typing_context, record, offset, first, y, slope):  # type: ignore[no-untyped-def]
    """Return which of eight parallel grid lines a straight line crosses where their set of tiles has a bit.

    The sets are uint32 [8] at byte `offset` of the record; the nth grid line lies `first + n` along the line's way,
    where it has come to `y + slope (first + n)`: that tile of the set is asked.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        lanes = _Lanes(builder)
        record, offset, first, y, slope = arguments
        first, y, slope = (lanes.spread(builder.fptrunc(value, _F32)) for value in (first, y, slope))
        along = builder.fadd(first, lanes.constant(_F32, [float(n) for n in range(LANES)]))
        row = builder.fadd(y, builder.fmul(along, slope))
        row = lanes.larger(row, lanes.constant(_F32, 0.0))
        last = lanes.constant(_F32, LAST_ROW)
        row = builder.select(lanes.greater(last, row), row, last)
        row = builder.fptosi(row, ir.VectorType(_I32, LANES))
        tiles = builder.lshr(lanes.load(record, offset, _I32), row)
        one = lanes.constant(_I32, [1] * LANES)
        return lanes.bits(builder.icmp_signed("==", builder.and_(tiles, one), one))

    return int64(record, int64, float64, float64, float64), generate


def _in_sight(typing_context, record, offsets, cos, sin, tan):  # type: ignore[no-untyped-def]
    """Look at eight points from an eye: works out their distances and what is in the view.

    Args of the compiled function: a record, the byte offsets in it of x, y, z (float64 [8], from the eye; read) and of
    squared distances over the ground (written), cosine and sine of the yaw, tangent of the pitch.

    Returns the set of those that are in the picture or felt, and, from bit 8 on, of those that may stand in front of
    something in the picture.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        lanes = _Lanes(builder)
        record, offsets, cos, sin, tan = arguments
        at_x, at_y, at_z, at_distance = (builder.extract_value(offsets, n) for n in range(4))
        x, y, z = (lanes.load(record, offset, _F64) for offset in (at_x, at_y, at_z))
        cos, sin, tan = (lanes.spread(value) for value in (cos, sin, tan))
        distance2 = lanes.products(x, x, y, y, "+")
        lanes.store(distance2, record, at_distance)
        ahead = lanes.products(x, cos, y, sin, "+")
        aside = lanes.size(lanes.products(y, cos, x, sin, "-"))
        seen = lanes.greater(ahead, lanes.constant(_F64, 0.0))
        narrow = builder.fmul(distance2, lanes.constant(_F64, COS2_HALF_VIEW))
        seen = builder.and_(seen, lanes.at_most(narrow, builder.fmul(ahead, ahead)))
        above = lanes.size(builder.fsub(z, builder.fmul(ahead, tan)))
        high = builder.fmul(ahead, lanes.constant(_F64, TAN_HALF_HEIGHT))
        seen = builder.and_(seen, lanes.at_most(above, high))
        felt = lanes.greater(lanes.constant(_F64, FELT_DISTANCE_M**2), distance2)
        wide = builder.fadd(builder.fmul(ahead, lanes.constant(_F64, TAN_HALF_VIEW)), lanes.constant(_F64, HIDING_M))
        may_hide = lanes.bits(lanes.at_most(aside, wide))
        return builder.or_(lanes.bits(builder.or_(seen, felt)), builder.shl(may_hide, ir.Constant(_I64, LANES)))

    return int64(record, offsets, float64, float64, float64), generate


def _beside_line(typing_context, record, at_x, at_y, to_x, to_y, length2):  # type: ignore[no-untyped-def]
    """Return which of eight points may be within a body's width of the segment from 0 to (to_x, to_y).

    The points' x and y are float64 [8] at these byte offsets of the record; as `relations.comes_close`.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        lanes = _Lanes(builder)
        record, at_x, at_y, *segment = arguments
        x, y = (lanes.load(record, offset, _F64) for offset in (at_x, at_y))
        to_x, to_y, length2 = (lanes.spread(value) for value in segment)
        reach2 = builder.fmul(length2, lanes.constant(_F64, WIDEST_RADIUS2))
        along = lanes.products(x, to_x, y, to_y, "+")
        across = lanes.products(x, to_y, y, to_x, "-")
        beyond = lanes.larger(builder.fneg(along), builder.fsub(along, length2))
        beyond = lanes.larger(beyond, lanes.constant(_F64, 0.0))
        near = lanes.at_most(builder.fmul(across, across), reach2)
        return lanes.bits(builder.and_(near, lanes.at_most(builder.fmul(beyond, beyond), reach2)))

    return int64(record, int64, int64, float64, float64, float64), generate


# Called by compiled functions with the arguments after the first.
crossings: Any = intrinsic(_crossings)
in_sight: Any = intrinsic(_in_sight)
beside_line: Any = intrinsic(_beside_line)
