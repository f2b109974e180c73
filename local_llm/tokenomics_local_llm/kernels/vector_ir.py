"""LLVM's vector instructions as functions that numba code may call.

numba neither holds vectors in variables nor reaches `vpdpbusd`, and it widens small integers to 64 bits; so the
inner loop over packed codes and a few scalar steps are written as LLVM IR. The scalar ones are straight-line
arithmetic that LLVM vectorises when a loop calls them, on any processor.

numba keeps machine code until the file of the compiled function changes, and does not look at this one: after a change
here, delete `__pycache__` beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as numba_intrinsic

__all__ = [
    "Avx2",
    "Bfloat16",
    "Float16",
    "Float32",
    "Generic",
    "Vnni",
    "compiled",
    "compiled_with_arrays",
    "exactly_compiled",
    "exp2",
    "half",
    "larger",
    "rounded",
    "slot_dots",
    "split_row",
    "widened",
]

Function = TypeVar("Function", bound=Callable[..., Any])

SLOTS: Final = 4
"""2-bit codes in a byte."""
LANES: Final = 16
"""32-bit lanes in a row of codes."""
DIGITS: Final = 2
"""7-bit digits of a weight."""


class Vnni(NamedTuple):
    """The type of this tuple chooses `vpdpbusd` at compile time (numba has no empty tuples with names)."""

    lanes: int = 16


class Avx2(NamedTuple):
    """Chooses `vpmaddubsw`."""

    lanes: int = 8


class Generic(NamedTuple):
    """Chooses plain vector arithmetic."""

    lanes: int = 8


class Bfloat16(NamedTuple):
    """Numbers in memory are bfloat16."""

    size: int = 2


class Float16(NamedTuple):
    """Numbers in memory are IEEE half precision."""

    size: int = 2


class Float32(NamedTuple):
    """Numbers in memory are single precision."""

    size: int = 4


_OPTIONS: Final[dict[str, Any]] = {"cache": True, "nogil": True, "error_model": "numpy"}
_RELAXED: Final = {"nnan", "ninf", "nsz", "reassoc", "contract"}
_NOT_COUNTING: Final[dict[str, Any]] = {"_nrt": False}  # an option that numba has, and does not document


def compiled(function: Function) -> Function:
    """Compile on first call, keep the machine code on disk, and let other threads run meanwhile.

    Sums may be reordered and products fused, but infinities and NaNs are not given: masks use finite numbers.

    No array can be made inside, so that nobody counts references: for a slice that takes as long as some inner loops.
    """
    made: Function = numba.njit(**_OPTIONS, **_NOT_COUNTING, fastmath=_RELAXED)(function)
    return made


def compiled_with_arrays(function: Function) -> Function:
    """The same for a function that makes arrays."""
    made: Function = numba.njit(**_OPTIONS, fastmath=_RELAXED)(function)
    return made


def exactly_compiled(function: Function) -> Function:
    """The same with IEEE arithmetic in the order written, so that results equal NumPy's bit for bit."""
    made: Function = numba.njit(**_OPTIONS)(function)
    return made


def _intrinsic(function: Function) -> Function:
    made: Function = numba_intrinsic(prefer_literal=True)(function)
    return made


_BYTE: Final = ir.IntType(8)
_SHORT: Final = ir.IntType(16)
_INT: Final = ir.IntType(32)
_FLOAT: Final = ir.FloatType()


def _vector(element: ir.Type, lanes: int) -> ir.Type:
    return ir.VectorType(element, lanes)


def _splat(element: ir.Type, lanes: int, value: int) -> ir.Constant:
    return ir.Constant(_vector(element, lanes), [value] * lanes)


def _call(builder: Any, name: str, result: ir.Type, arguments: Sequence[Any]) -> Any:
    function_type = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)


def _dot_vnni(builder: Any, total: Any, codes: Any, weights: Any) -> Any:
    return _call(builder, "llvm.x86.avx512.vpdpbusd.512", total.type, [total, codes, weights])


def _dot_generic(builder: Any, total: Any, codes: Any, weights: Any) -> Any:
    """Even and odd bytes by themselves, as 16-bit products.

    Two of them fit into 16 bits: a byte of codes is at most 192, and a digit at most 64 in size.
    """
    wide = _vector(_SHORT, 16)
    codes, weights = builder.bitcast(codes, wide), builder.bitcast(weights, wide)
    eight = _splat(_SHORT, 16, 8)
    even = builder.mul(builder.and_(codes, _splat(_SHORT, 16, 0xFF)), builder.ashr(builder.shl(weights, eight), eight))
    odd = builder.mul(builder.lshr(codes, eight), builder.ashr(weights, eight))
    pairs = builder.bitcast(builder.add(even, odd), total.type)
    sixteen = _splat(_INT, 8, 16)
    fours = builder.add(builder.ashr(builder.shl(pairs, sixteen), sixteen), builder.ashr(pairs, sixteen))
    return builder.add(total, fours)


_Cell = tuple[int, int, int]
"""A slot, a head and a digit: what has a sum of its own."""


class _Operands(NamedTuple):
    """What the loops of `slot_dots` read."""

    rows: Any
    """How many there are."""
    codes: Callable[[Any], Any]
    """The codes of some lanes in a row."""
    weight: Callable[[_Cell, Any], Any]
    """A cell's weights of a row, in every lane."""


class _Plan(NamedTuple):
    """How an instruction set adds up products."""

    lanes: int
    """Of a vector."""
    cells: int
    """Sums at a time, at most, so that all stay in registers."""
    add_up: Callable[[Any, Sequence[_Cell], _Operands], dict[_Cell, Any]]
    """Writes the loop over the rows; the sums, each 4^slot times too large if `in_place`."""
    in_place: bool
    """Whether codes are masked where they lie."""


def _adding_in_place(lanes: int, dot: Callable[..., Any]) -> Callable[..., dict[_Cell, Any]]:
    """Codes are never shifted: a slot is masked where it lies, and its sum is shifted back once at the end."""

    def add_up(builder: Any, cells: Sequence[_Cell], operands: _Operands) -> dict[_Cell, Any]:
        sums = {cell: _zero(builder, _vector(_INT, lanes)) for cell in cells}
        with cgutils.for_range(builder, operands.rows) as loop:
            row = operands.codes(loop.index)
            for cell, total in sums.items():
                masked = builder.and_(row, _splat(_INT, lanes, 0x03030303 << 2 * cell[0]))
                builder.store(dot(builder, builder.load(total), masked, operands.weight(cell, loop.index)), total)
        return {cell: builder.load(total) for cell, total in sums.items()}

    return add_up


_ROWS_IN_SHORTS: Final = 64
"""Rows whose products fit into 16 bits: two codes of at most 3 times digits of at most 64 in size, added."""


def _add_in_shorts(builder: Any, cells: Sequence[_Cell], operands: _Operands) -> dict[_Cell, Any]:
    """`vpmaddubsw` and an addition for each product, in 16 bits, which are widened once for many rows.

    Multiplications are what AVX2 has too few of: shifting the codes down costs less than a `vpmaddwd` a product.
    """
    vector, shorts = _vector(_INT, 8), _vector(_SHORT, 16)
    sums = {cell: _zero(builder, vector) for cell in cells}
    index = operands.rows.type
    most = ir.Constant(index, _ROWS_IN_SHORTS)
    parts = builder.sdiv(builder.add(operands.rows, ir.Constant(index, _ROWS_IN_SHORTS - 1)), most)
    with cgutils.for_range(builder, parts) as part:
        first = builder.mul(part.index, most)
        left = builder.sub(operands.rows, first)
        count = builder.select(builder.icmp_signed("<", left, most), left, most)
        pairs = {cell: _zero(builder, shorts) for cell in cells}
        with cgutils.for_range(builder, count) as loop:
            at = builder.add(first, loop.index)
            row = operands.codes(at)
            for cell, total in pairs.items():
                codes = builder.and_(builder.lshr(row, _splat(_INT, 8, 2 * cell[0])), _splat(_INT, 8, 0x03030303))
                as_bytes = [builder.bitcast(each, _vector(_BYTE, 32)) for each in (codes, operands.weight(cell, at))]
                products = _call(builder, "llvm.x86.avx2.pmadd.ub.sw", shorts, as_bytes)
                builder.store(builder.add(builder.load(total), products), total)
        for cell, total in sums.items():
            ones = _splat(_SHORT, 16, 1)
            wide = _call(builder, "llvm.x86.avx2.pmadd.wd", vector, [builder.load(pairs[cell]), ones])
            builder.store(builder.add(builder.load(total), wide), total)
    return {cell: builder.load(total) for cell, total in sums.items()}


_FETCHED_AHEAD: Final = 2048
"""Bytes, half a tile of heads of 128: each tile is a page of its own, where the processor does not look ahead."""


def _prefetch(builder: Any, pointer: Any) -> None:
    """Into all caches, for reading; beyond the end of an array it does nothing."""
    function_type = ir.FunctionType(ir.VoidType(), [pointer.type, _INT, _INT, _INT])
    function = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], function_type)
    builder.call(function, [pointer, *(ir.Constant(_INT, value) for value in (0, 3, 1))])


def _zero(builder: Any, vector: ir.Type) -> Any:
    """A variable that is set to 0 here."""
    cell = cgutils.alloca_once(builder, vector)
    builder.store(ir.Constant(vector, None), cell)
    return cell


_PLANS: Final = {
    Vnni: _Plan(lanes=16, cells=16, add_up=_adding_in_place(16, _dot_vnni), in_place=True),
    Avx2: _Plan(lanes=8, cells=8, add_up=_add_in_shorts, in_place=False),
    Generic: _Plan(lanes=8, cells=8, add_up=_adding_in_place(8, _dot_generic), in_place=True),
}


@_intrinsic
def slot_dots(
    _context: Any,
    instructions: Any,
    codes: Any,
    start: Any,
    rows: Any,
    weights: Any,
    weight_start: Any,
    digit_stride: Any,
    half_stride: Any,
    heads: Any,
    out: Any,
    out_start: Any,
    slot_stride: Any,
    head_stride: Any,
) -> Any:
    """Multiply rows of codes by weights, exactly; called inside compiled code.

    A row is 16 lanes of four bytes, a byte four 2-bit codes, one for each slot. For lane l, slot s and head h it
    writes sum over rows r and bytes j of code[r, l, j, s] * weight[h, r, j] to
    `out[out_start + s * slot_stride + h * head_stride + l]`, where weight = 128 * high + low, two digits of
    -64..64 that `weights` holds as bytes: four to an int32, at `weight_start + (2 * h + digit) * digit_stride + r`.

    Args:
        instructions: An instance of `Vnni`, `Avx2` or `Generic`.
        codes: uint8, contiguous.
        start: Of the first row, in bytes.
        rows: How many, 64 bytes apart.
        weights: int32, contiguous.
        weight_start: Of the first head's high digits.
        digit_stride: From a head's high digits to its low ones.
        half_stride: From the weights of slots 0 and 1 to those of 2 and 3; 0 if they are the same.
        heads: 1 or 2, a constant.
        out: int32, contiguous.
        out_start: Of the first head's first slot.
        slot_stride: Between slots.
        head_stride: Between heads.
    """
    plan = _PLANS[instructions.instance_class]
    lanes = plan.lanes
    every_cell = [
        (slot, head, digit) for slot in range(SLOTS) for head in range(heads.literal_value) for digit in range(DIGITS)
    ]
    signature = types.void(
        instructions, codes, types.intp, types.intp, weights, types.intp, types.intp, types.intp, heads, out,
        types.intp, types.intp, types.intp,
    )  # fmt: skip

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (_, code_array, at, count, weight_array, weight_at, digit_step, half_step, _, out_array, out_at, slot_step,
         head_step) = arguments  # fmt: skip
        code_data = _data(context, builder, signature.args[1], code_array)
        weight_data = _data(context, builder, signature.args[4], weight_array)
        out_data = _data(context, builder, signature.args[9], out_array)
        index = at.type
        vector = _vector(_INT, lanes)

        def times(value: Any, factor: int) -> Any:
            return builder.mul(value, ir.Constant(index, factor))

        def weight(cell: _Cell, row: Any) -> Any:
            slot, head, digit = cell
            first = builder.add(weight_at, half_step) if slot >= SLOTS // 2 else weight_at
            where = builder.add(builder.add(first, times(digit_step, DIGITS * head + digit)), row)
            return _broadcast(builder, builder.load(builder.gep(weight_data, [where])), lanes)

        def codes_from(first_lane: int, row: Any) -> Any:
            where = builder.add(at, builder.add(times(row, 64), ir.Constant(index, 4 * first_lane)))
            return _load(builder, builder.gep(code_data, [where]), vector)

        def codes_fetching(first_lane: int, row: Any) -> Any:
            where = builder.add(at, builder.add(times(row, 64), ir.Constant(index, _FETCHED_AHEAD)))
            _prefetch(builder, builder.gep(code_data, [where]))
            return codes_from(first_lane, row)

        passes = [(lane, cell) for lane in range(0, LANES, lanes) for cell in range(0, len(every_cell), plan.cells)]
        for first_lane, first_cell in passes:
            read = codes_fetching if (first_lane, first_cell) == passes[0] else codes_from
            operands = _Operands(rows=count, codes=partial(read, first_lane), weight=weight)
            sums = plan.add_up(builder, every_cell[first_cell : first_cell + plan.cells], operands)
            for slot, head in dict.fromkeys((slot, head) for slot, head, _ in sums):
                high, low = (sums[slot, head, digit] for digit in range(DIGITS))
                total = builder.add(builder.shl(high, _splat(_INT, lanes, 7)), low)
                if plan.in_place:
                    total = builder.ashr(total, _splat(_INT, lanes, 2 * slot))
                where = builder.add(out_at, builder.add(times(slot_step, slot), times(head_step, head)))
                where = builder.add(where, ir.Constant(index, first_lane))
                _store(builder, total, builder.gep(out_data, [where]))
        return context.get_dummy_value()

    return signature, generate


_SPLIT_AT_ONCE: Final = 32
"""Values whose digits fill a vector of AVX2."""


@_intrinsic
def split_row(_context: Any, values: Any, inverse: Any, high: Any, low: Any) -> Any:
    """Write both digits of `values * inverse`, rounded to integers; return the sum of these.

    As vectors, because LLVM narrows a loop's integers to bytes a few at a time.

    Args:
        values: float32, contiguous, a multiple of 32 of them, at most 8191 in size after the multiplication.
        inverse: float32.
        high: int8, contiguous, as many.
        low: Likewise: value = 128 * high + low.
    """
    signature = types.int32(values, types.float32, high, low)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value_data, high_data, low_data = (_data(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 3))
        floats, ints = _vector(_FLOAT, _SPLIT_AT_ONCE), _vector(_INT, _SPLIT_AT_ONCE)
        bytes_ = _vector(_BYTE, _SPLIT_AT_ONCE)
        factor = _broadcast(builder, arguments[1], _SPLIT_AT_ONCE)
        size = context.make_array(signature.args[0])(context, builder, arguments[0]).nitems
        total = _zero(builder, ints)
        with cgutils.for_range(builder, builder.sdiv(size, ir.Constant(size.type, _SPLIT_AT_ONCE))) as loop:
            at = builder.mul(loop.index, ir.Constant(size.type, _SPLIT_AT_ONCE))
            row = builder.fmul(_load(builder, builder.gep(value_data, [at]), floats), factor)
            whole = builder.sub(
                builder.bitcast(builder.fadd(row, ir.Constant(floats, [_MAGIC] * _SPLIT_AT_ONCE)), ints),
                _splat(_INT, _SPLIT_AT_ONCE, _MAGIC_BITS),
            )
            seven = _splat(_INT, _SPLIT_AT_ONCE, 7)
            upper = builder.ashr(builder.add(whole, _splat(_INT, _SPLIT_AT_ONCE, 64)), seven)
            for data, digits in ((high_data, upper), (low_data, builder.sub(whole, builder.shl(upper, seven)))):
                _store(builder, builder.trunc(digits, bytes_), builder.gep(data, [at]), align=1)
            builder.store(builder.add(builder.load(total), whole), total)
        return _call(builder, f"llvm.vector.reduce.add.v{_SPLIT_AT_ONCE}i32", _INT, [builder.load(total)])

    return signature, generate


def _data(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    return context.make_array(array_type)(context, builder, array).data


def _load(builder: Any, pointer: Any, vector: ir.Type) -> Any:
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=1)


def _store(builder: Any, value: Any, pointer: Any, *, align: int = 4) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=align)


def _broadcast(builder: Any, scalar: Any, lanes: int) -> Any:
    vector = _vector(scalar.type, lanes)
    single = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(_INT, 0))
    return builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), _splat(_INT, lanes, 0))


def _float(value: float) -> ir.Constant:
    return ir.Constant(_FLOAT, value)


def _bits(builder: Any, value: Any) -> Any:
    return builder.bitcast(value, _INT)


# Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, and leaves it in the low bits. Reading it as bits
# keeps relaxed arithmetic from taking the addition back.
_MAGIC: Final = 12582912.0
_MAGIC_BITS: Final = 0x4B400000


def _rounded(builder: Any, value: Any) -> Any:
    return builder.sub(_bits(builder, builder.fadd(value, _float(_MAGIC))), ir.Constant(_INT, _MAGIC_BITS))


@_intrinsic
def rounded(_context: Any, value: Any) -> Any:
    """A float32 below 2^22 in size, rounded to the nearest int32, ties to even."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _rounded(builder, arguments[0])

    return types.int32(types.float32), generate


@_intrinsic
def larger(_context: Any, first: Any, second: Any) -> Any:
    """The larger of two float32: of numba's own `max` LLVM makes no vectors."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        maximum = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_FLOAT, [_FLOAT, _FLOAT]), "llvm.maxnum.f32"
        )
        return builder.call(maximum, arguments, fastmath=("nnan", "nsz"))

    return types.float32(types.float32, types.float32), generate


_LOWEST: Final = -125.0
_DEGREE: Final = 6


@_intrinsic
def exp2(_context: Any, value: Any) -> Any:
    """2 to the power of a float32 of at most 0, within 1e-7 of its size; 0 below 2^-125."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = arguments[0]
        small = builder.fcmp_ordered("<", given, _float(_LOWEST))
        power = builder.select(small, _float(_LOWEST), given)
        whole = _rounded(builder, power)
        part = builder.fsub(power, builder.sitofp(whole, _FLOAT))
        series = _float(math.log(2) ** _DEGREE / math.factorial(_DEGREE))
        for degree in reversed(range(_DEGREE)):
            series = builder.fadd(builder.fmul(series, part), _float(math.log(2) ** degree / math.factorial(degree)))
        scale = builder.shl(builder.add(whole, ir.Constant(_INT, 127)), ir.Constant(_INT, 23))
        result = builder.fmul(series, builder.bitcast(scale, _FLOAT))
        return builder.select(small, _float(0.0), result)

    return types.float32(types.float32), generate


def _half(builder: Any, bits: Any) -> Any:
    """Shift exponent and fraction into a float32's place, and multiply by 2^112 to make good the exponents' biases."""
    wide = builder.zext(bits, _INT)
    size = builder.shl(builder.and_(wide, ir.Constant(_INT, 0x7FFF)), ir.Constant(_INT, 13))
    scaled = builder.fmul(builder.bitcast(size, _FLOAT), _float(2.0**112))
    sign = builder.shl(builder.and_(wide, ir.Constant(_INT, 0x8000)), ir.Constant(_INT, 16))
    return builder.bitcast(builder.or_(_bits(builder, scaled), sign), _FLOAT)


def _half_by_processor(builder: Any, bits: Any) -> Any:
    """`vcvtph2ps`, which LLVM makes of this where a loop calls it."""
    return builder.fpext(builder.bitcast(bits, ir.HalfType()), _FLOAT)


@_intrinsic
def half(_context: Any, instructions: Any, bits: Any) -> Any:
    """The float32 that the bits of a finite float16 stand for: numba has no half precision on processors.

    `instructions` is an instance of `Vnni`, `Avx2` or `Generic`.
    """
    widen = _half if instructions.instance_class is Generic else _half_by_processor

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return widen(builder, arguments[1])

    return types.float32(instructions, types.uint16), generate


def _widen_bfloat(builder: Any, bits: Any) -> Any:
    return builder.bitcast(builder.shl(builder.zext(bits, _INT), ir.Constant(_INT, 16)), _FLOAT)


def _widen_nothing(builder: Any, value: Any) -> Any:
    return value


_WIDENED: Final = {
    Bfloat16: (_SHORT, _widen_bfloat),
    Float16: (_SHORT, _half),
    Float32: (_FLOAT, _widen_nothing),
}


@_intrinsic
def widened(_context: Any, kind: Any, address: Any, index: Any) -> Any:
    """The number at `index` of those that start at `address`, an integer, as float32.

    `kind` is an instance of `Bfloat16`, `Float16` or `Float32`.
    """
    element, widen = _WIDENED[kind.instance_class]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[1], element.as_pointer())
        return widen(builder, builder.load(builder.gep(pointer, [arguments[2]])))

    return types.float32(kind, types.intp, types.intp), generate
