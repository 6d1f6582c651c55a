"""Questions asked of eight things at once, in vectors of eight numbers: the compiler has them for any processor.

The answer is a set (int64) whose bit n stands for the nth of the eight.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import float64, int64
from numba.core import cgutils
from numba.core.extending import intrinsic

from ada_sim.constants import (
    DISTANCE_UNIT_M,
    FELT_DISTANCE_M,
    MAX_SPEED_M_S,
    NUM_RANGES,
    OUTER_RADIUS,
    RANGE_LIMIT_M,
    TICK_S,
    TICKS_PER_TIMESTEP,
)
from ada_sim.engine.view import COS2_HALF_VIEW, FAN, HIDING_M, TAN_HALF_HEIGHT, TAN_HALF_VIEW, WIDEST_RADIUS2

LANES = 8
WIDE = 16  # lines of a fan
LEAST = 1e-9
MOVE_M = TICKS_PER_TIMESTEP * TICK_S * MAX_SPEED_M_S  # how far a body that is awake moves in a timestep, at most
LAST_ROW = 31.0  # of a set of tiles in 32 bits
_I8, _I32, _I64, _F32, _F64 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.DoubleType()


class _Lanes:
    """Vectors of eight, or of another width, as instructions of one function that is being compiled."""

    def __init__(self, builder: Any, width: int = LANES) -> None:
        self.builder = builder
        self.width = width

    def load(self, record: Any, offset: Any, kind: Any) -> Any:
        return self.builder.load(self._address(record, offset, kind), align=4)

    def store(self, vector: Any, record: Any, offset: Any, align: int = 8) -> None:
        self.builder.store(vector, self._address(record, offset, vector.type.element), align=align)

    def _address(self, record: Any, offset: Any, kind: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        address = self.builder.gep(self.builder.bitcast(record, byte), [offset])
        return self.builder.bitcast(address, ir.VectorType(kind, self.width).as_pointer())

    def load_apart(self, record: Any, offset: Any, kind: Any, stride: int) -> list[Any]:
        """Return `stride` vectors: the first has the numbers 0, stride, 2 stride, ... from the offset on."""
        long = ir.VectorType(kind, self.width * stride)
        address = self.builder.gep(self.builder.bitcast(record, ir.IntType(8).as_pointer()), [offset])
        row = self.builder.load(self.builder.bitcast(address, long.as_pointer()), align=4)
        places = ir.VectorType(_I32, self.width)
        return [
            self.builder.shuffle_vector(
                row,
                ir.Constant(long, ir.Undefined),
                ir.Constant(places, [start + stride * n for n in range(self.width)]),
            )
            for start in range(stride)
        ]

    def spread(self, value: Any) -> Any:
        """Return a vector of eight times this value."""
        vector = ir.VectorType(value.type, self.width)
        first = self.builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_I32, 0))
        zeros = ir.Constant(ir.VectorType(_I32, self.width), [0] * self.width)
        return self.builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)

    def constant(self, kind: Any, values: Sequence[float] | float) -> Any:
        each = list(values) if isinstance(values, Sequence) else [values] * self.width
        return ir.Constant(ir.VectorType(kind, self.width), each)

    def greater(self, a: Any, b: Any) -> Any:
        return self.builder.fcmp_ordered(">", a, b)

    def at_most(self, a: Any, b: Any) -> Any:
        return self.builder.fcmp_ordered("<=", a, b)

    def larger(self, a: Any, b: Any) -> Any:
        """Return the larger of each two; b where one is no number."""
        return self.builder.select(self.greater(a, b), a, b)

    def smaller(self, a: Any, b: Any) -> Any:
        """Return the smaller of each two; b where one is no number."""
        return self.builder.select(self.greater(b, a), a, b)

    def size(self, a: Any) -> Any:
        """Return absolute values."""
        return self.larger(a, self.builder.fneg(a))

    def products(self, a: Any, b: Any, c: Any, d: Any, sign: str) -> Any:
        """Return a b + c d, or a b - c d."""
        add = self.builder.fadd if sign == "+" else self.builder.fsub
        return add(self.builder.fmul(a, b), self.builder.fmul(c, d))

    def vector(self, kind: Any) -> Any:
        """Return the type of such a vector."""
        return ir.VectorType(kind, self.width)

    def bits(self, flags: Any) -> Any:
        """Return the flags as a set."""
        return self.builder.zext(self.builder.bitcast(flags, ir.IntType(self.width)), _I64)


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


def _may_touch(typing_context, record, positions, shapes, waking, at, wide, arm):  # type: ignore[no-untyped-def]
    """Return which of eight bodies may come as near as `wide` to a point, and, from bit 8 on, as near as `arm`.

    Args of the compiled function: a record, the byte offsets in it of the bodies' positions (float64 [8, 3]) and shapes
    (int8 [8]), the set of those that may move, the point's x and y; metres, along x or y, from the surfaces.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        lanes = _Lanes(builder)
        record, positions, shapes, waking, at, *limits = arguments
        apart = [
            lanes.size(builder.fsub(along, lanes.spread(start)))
            for along, start in zip(lanes.load_apart(record, positions, _F64, 3), _parts(builder, at), strict=False)
        ]
        shape = lanes.load(record, shapes, _I8)
        radius = lanes.constant(_F64, float(OUTER_RADIUS[0]))
        for n in range(1, len(OUTER_RADIUS)):
            is_such = builder.icmp_signed("==", shape, lanes.constant(_I8, n))
            radius = builder.select(is_such, lanes.constant(_F64, float(OUTER_RADIUS[n])), radius)
        moves = builder.bitcast(builder.trunc(waking, _I8), lanes.vector(ir.IntType(1)))
        reach = builder.select(moves, lanes.constant(_F64, MOVE_M), lanes.constant(_F64, 0.0))
        gap = builder.fsub(lanes.larger(*apart), builder.fadd(radius, reach))
        beside, in_reach = (lanes.bits(lanes.greater(lanes.spread(limit), gap)) for limit in limits)
        return builder.or_(beside, builder.shl(in_reach, ir.Constant(_I64, LANES)))

    return int64(record, int64, int64, int64, at, float64, float64), generate


def _in_sight(typing_context, record, positions, eye, scratch, offsets, cos, sin, tan):  # type: ignore[no-untyped-def]
    """Look at eight bodies from an eye: works out where they are from it, their distances, and what is in the view.

    Args of the compiled function: a record, the byte offset in it of the bodies' positions (float64 [8, 3]), the eye's
    x, y and z; another record, the byte offsets in it of x, y, z from the eye and of squared distances over the ground
    (float64 [8]; written), cosine and sine of the yaw, tangent of the pitch.

    Returns the set of those that are in the picture or felt, and, from bit 8 on, of those that may stand in front of
    something in the picture.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        lanes = _Lanes(builder)
        record, positions, eye, scratch, offsets, cos, sin, tan = arguments
        x, y, z = (
            builder.fsub(along, lanes.spread(start))
            for along, start in zip(lanes.load_apart(record, positions, _F64, 3), _parts(builder, eye), strict=True)
        )
        cos, sin, tan = (lanes.spread(value) for value in (cos, sin, tan))
        distance2 = lanes.products(x, x, y, y, "+")
        for vector, place in zip((x, y, z, distance2), _parts(builder, offsets), strict=True):
            lanes.store(vector, scratch, place)
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

    return int64(record, int64, eye, scratch, offsets, float64, float64, float64), generate


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


class _Fan(_Lanes):
    """A fan of straight lines from one point over the grid, a lane each."""

    def ways(self, along: Any, least: float) -> tuple[Any, Any]:
        """Return which lines go up an axis, and how long each is for 1 m of it; `along` are cosines with the axis."""
        rising = self.greater(along, self.constant(_F64, 0.0))
        up, down = self.constant(_F64, least), self.constant(_F64, -least)
        upward = self.larger(along, up)
        downward = self.builder.select(self.greater(down, along), along, down)
        steep = self.builder.select(rising, upward, downward)
        return rising, self.builder.fdiv(self.constant(_F64, 1.0), steep)

    def nearest(
        self,
        record: Any,
        sets: tuple[Any, Any],
        lines: Any,
        start: tuple[Any, Any],
        slope: Any,
        up: Any,
        ends: Any,
    ) -> Any:
        """Return the nearest grid line of an axis, int32, at which each line meets its set of tiles; as `crossings`.

        Second: whether the tile it meets there is in the second set, int32, 0 or 1.

        Args:
            sets: for lines that go up the axis, and down, the byte offsets in the record of the sets and of the second
                sets; uint32, one a grid line.
            lines: int64, how many there are.
            start: float64, where the lines start along the axis and across it.
            slope: float64, metres across for each along the axis.
            up: flags; 40 is returned for these if they meet nothing, -1 for others.
            ends: float64, where along the axis the lines end: what they meet a tile or more beyond may be left out.
        """
        builder = self.builder
        along, across = start
        tile = builder.fptosi(along, _I64)
        slope, across = builder.fptrunc(slope, self.vector(_F32)), self.spread(builder.fptrunc(across, _F32))
        found, also = (cgutils.alloca_once(builder, self.vector(_I32)) for _ in range(2))  # type: ignore[no-untyped-call]
        none, one = self.constant(_I32, 0), self.constant(_I32, 1)
        builder.store(builder.select(up, self.constant(_I32, 40), self.constant(_I32, -1)), found)
        builder.store(none, also)

        def look(line: Any, sets: tuple[Any, Any], who: Any) -> None:
            row = self._rows(line, along, across, slope)
            met, second = (builder.lshr(self._tiles(record, at, line), row) for at in sets)
            met = builder.icmp_signed("!=", builder.and_(met, who), none)
            here = self.spread(builder.trunc(line, _I32))
            builder.store(builder.select(met, here, builder.load(found)), found)
            builder.store(builder.select(met, second, builder.load(also)), also)

        # The nearest line comes last and stays.
        down = builder.not_(up)
        who_down, who_up = builder.select(down, one, none), builder.select(up, one, none)
        last = builder.fptosi(ends, self.vector(_I32))
        lowest = builder.select(up, self.constant(_I32, 40), builder.sub(last, self.constant(_I32, 2)))
        highest = builder.select(up, builder.add(last, one), self.constant(_I32, -1))
        bottom = self._limit(">", _I64(0), self._most("smin", lowest))
        top = self._limit("<", builder.sub(lines, _I64(1)), self._most("smax", highest))
        with cgutils.for_range(builder, builder.sub(tile, bottom)) as loop:
            look(builder.add(bottom, loop.index), sets[1], who_down)
        with cgutils.for_range(builder, builder.sub(builder.add(top, _I64(1)), tile)) as loop:
            look(builder.sub(top, loop.index), sets[0], who_up)
        return builder.load(found), builder.and_(builder.load(also), one)

    def _most(self, kind: str, values: Any) -> Any:
        """Return the least (`smin`) or greatest (`smax`) of int32 numbers, int64."""
        name = f"llvm.vector.reduce.{kind}.v{self.width}i32"
        function = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            self.builder.module, ir.FunctionType(_I32, [values.type]), name
        )
        return self.builder.sext(self.builder.call(function, [values]), _I64)

    def _limit(self, order: str, a: Any, b: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed(order, a, b), a, b)

    def _rows(self, line: Any, along: Any, across: Any, slope: Any) -> Any:
        """Return the tiles of this grid line that are crossed, int32; as `crossings` of eight each, to the last bit."""
        builder = self.builder
        eight = builder.and_(line, _I64(~7))
        way = builder.fptrunc(builder.fsub(builder.sitofp(builder.add(eight, _I64(1)), _F64), along), _F32)
        way = builder.fadd(way, builder.sitofp(builder.and_(line, _I64(7)), _F32))
        row = builder.fadd(across, builder.fmul(self.spread(way), slope))
        row = self.larger(row, self.constant(_F32, 0.0))
        last = self.constant(_F32, LAST_ROW)
        row = builder.select(self.greater(last, row), row, last)
        return builder.fptosi(row, self.vector(_I32))

    def _tiles(self, record: Any, sets: Any, line: Any) -> Any:
        """Return a grid line's set of tiles, in each lane."""
        builder = self.builder
        at = builder.add(sets, builder.mul(line, _I64(4)))
        address = builder.gep(builder.bitcast(record, ir.IntType(8).as_pointer()), [at])
        return self.spread(builder.load(builder.bitcast(address, _I32.as_pointer()), align=4))

    def way_to(self, line: Any, along: Any, per_metre: Any) -> Any:
        """Return how long each line is when it comes to this grid line."""
        beyond = self.builder.sitofp(self.builder.add(line, self.constant(_I32, [1] * self.width)), self.vector(_F64))
        return self.builder.fmul(self.builder.fsub(beyond, self.spread(along)), per_metre)


def _walls_around(typing_context, record, sets, second, size, at, gaze, scratch, offsets, row):  # type: ignore[no-untyped-def]
    """Find where the fan of directions over a view first meets sets of tiles, along x and along y.

    Args of the compiled function: a record, the byte offsets in it of the sets of tiles for lines that go east, west,
    north and south (uint32, one a grid line), how many bytes farther the second sets are, tiles along a side, the
    point's x and y, cosine and sine of the yaw; another record, the byte offsets in it of the directions' cosines and
    sines (float64 [WIDE]), of the grid lines met along x and y (int32 [WIDE]) and of the distances there (float64
    [WIDE]; all written, and of no meaning beyond the limit of ranges); the record to which ranges are written as they
    are told (float32 [NUM_RANGES]).

    Returns the set of the lines that meet first, of both axes, a tile of the second set.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        lanes = _Fan(builder, WIDE)
        record, sets, second, size, at, gaze, scratch, offsets, row = arguments
        east, west, north, south = ((first, builder.add(first, second)) for first in _parts(builder, sets))
        x, y = _parts(builder, at)
        spread = [*range(NUM_RANGES), *[NUM_RANGES - 1] * (WIDE - NUM_RANGES)]
        fan_cos, fan_sin = (lanes.constant(_F64, FAN[spread, n].tolist()) for n in range(2))
        gaze_cos, gaze_sin = (lanes.spread(value) for value in _parts(builder, gaze))
        cos = lanes.products(gaze_cos, fan_cos, gaze_sin, fan_sin, "-")
        sin = lanes.products(gaze_sin, fan_cos, gaze_cos, fan_sin, "+")
        up_x, per_x = lanes.ways(cos, LEAST)
        up_y, per_y = lanes.ways(sin, LEAST)
        lines = builder.sub(size, _I64(1))
        limit = lanes.constant(_F64, RANGE_LIMIT_M)
        ends = builder.fadd(lanes.spread(x), builder.fmul(limit, cos))
        line_x, also_x = lanes.nearest(record, (east, west), lines, (x, y), builder.fmul(sin, per_x), up_x, ends)
        to_x = lanes.way_to(line_x, x, per_x)
        limit_x = lanes.smaller(to_x, limit)
        ends = builder.fadd(lanes.spread(y), builder.fmul(limit_x, sin))
        line_y, also_y = lanes.nearest(record, (north, south), lines, (y, x), builder.fmul(cos, per_y), up_y, ends)
        to_y = lanes.way_to(line_y, y, per_y)
        vectors = (cos, sin, line_x, line_y, to_x, to_y)
        for vector, place in zip(vectors, _parts(builder, offsets), strict=True):
            lanes.store(vector, scratch, place)
        told = builder.fmul(lanes.smaller(limit_x, to_y), lanes.constant(_F64, 1.0 / DISTANCE_UNIT_M))
        told = builder.fptrunc(told, lanes.vector(_F32))
        first = ir.Constant(ir.VectorType(_I32, LANES), list(range(LANES)))
        eight = _Lanes(builder)
        eight.store(builder.shuffle_vector(told, told, first), row, _I64(0), align=4)
        for n in range(LANES, NUM_RANGES):
            one = builder.gep(builder.bitcast(row, _F32.as_pointer()), [_I64(n)])
            builder.store(builder.extract_element(told, _I32(n)), one, align=4)
        also = builder.select(lanes.greater(to_y, to_x), also_x, also_y)
        return lanes.bits(builder.icmp_signed("!=", also, lanes.constant(_I32, 0)))

    return int64(record, sets, int64, int64, at, gaze, scratch, offsets, row), generate


def _parts(builder: Any, group: Any) -> list[Any]:
    return [builder.extract_value(group, n) for n in range(len(group.type))]


# Called by compiled functions with the arguments after the first.
crossings: Any = intrinsic(_crossings)
may_touch: Any = intrinsic(_may_touch)
in_sight: Any = intrinsic(_in_sight)
beside_line: Any = intrinsic(_beside_line)
walls_around: Any = intrinsic(_walls_around)
