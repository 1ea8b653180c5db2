"""What numba does not generate by itself: loops over whole vectors that stay in registers."""

# mypy: allow-untyped-decorators

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import DTypeLike

_intrinsic: Any = intrinsic
"""Called without the first argument, which numba passes; its own type does not say so."""
BLOCK = 256
"""Bytes of a row of a block of weights: four vectors of AVX-512, eight of AVX2. 128 such rows fit the nearest cache."""


def lanes(dtype: DTypeLike) -> int:
    """Numbers in a row of a block."""
    return BLOCK // np.dtype(dtype).itemsize


def spread(builder: Any, value: Any, size: int) -> Any:
    """A vector of `size` times the same number."""
    place = ir.IntType(32)
    alone = builder.insert_element(ir.Constant(ir.VectorType(value.type, size), ir.Undefined), value, place(0))
    return builder.shuffle_vector(alone, alone, ir.Constant(ir.VectorType(place, size), [0] * size))


def up_to(builder: Any, start: Any, stop: Any, step: int) -> Any:
    """A loop from start to stop; gives the place, and how often it ran."""
    integer = ir.IntType(64)
    return cgutils.for_range_slice(builder, start, stop, ir.Constant(integer, step), integer)


@_intrinsic
def put_eight(_typing: Any, target: Any, start: Any, table: Any, row: Any, first: Any) -> Any:
    """target[start + k] = first + table[row, k] for k in 0 to 7; int32, without bounds checks.

    LLVM unrolls such a loop into eight scalar stores, and numba has its vectoriser of straight code switched off.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        eight = ir.VectorType(ir.IntType(32), 8)
        out = context.make_array(signature.args[0])(context, builder, arguments[0])
        values = context.make_array(signature.args[2])(context, builder, arguments[2])
        row_start = builder.mul(arguments[3], ir.Constant(arguments[3].type, 8))
        source = builder.bitcast(builder.gep(values.data, [row_start]), eight.as_pointer())
        moved = spread(builder, arguments[4], 8)
        place = builder.bitcast(builder.gep(out.data, [arguments[1]]), eight.as_pointer())
        builder.store(builder.add(builder.load(source, align=4), moved), place, align=4)
        return context.get_dummy_value()

    return types.void(target, types.int64, table, types.int64, types.int32), generate


def _added(scaled: bool) -> Any:
    """What adds rows of a block of weights, each times how often its channel fired or once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, integer = context.get_data_type(signature.args[0].dtype), ir.IntType(64)
        align = signature.args[0].dtype.bitwidth // 8
        row = ir.VectorType(number, lanes(signature.args[0].dtype.name))
        _, place, _, first, _, _, start, stop, fresh = arguments
        data = {k: context.make_array(signature.args[k])(context, builder, arguments[k]).data for k in (0, 2, 4, 5)}
        target = builder.bitcast(builder.gep(data[0], [place]), row.as_pointer())
        rows = builder.gep(builder.bitcast(data[2], row.as_pointer()), [first])

        def taken(p: Any) -> Any:
            channel = builder.sext(builder.load(builder.gep(data[4], [p])), integer)
            weights = builder.load(builder.gep(rows, [channel]), align=align)
            if not scaled:
                return weights
            times = builder.sitofp(builder.load(builder.gep(data[5], [p])), number)
            return builder.fmul(spread(builder, times, row.count), weights)

        before = builder.block
        pairs, pair, rest, last, end = (builder.append_basic_block() for _ in range(5))
        nothing = ir.Constant(row, None)
        there = builder.load(target, align=align)
        found = builder.select(builder.icmp_signed("!=", fresh, ir.Constant(fresh.type, 0)), nothing, there)
        builder.branch(pairs)
        builder.position_at_end(pairs)
        p, even, odd = builder.phi(integer), builder.phi(row), builder.phi(row)
        after = builder.add(p, ir.Constant(integer, 2))
        builder.cbranch(builder.icmp_signed("<=", after, stop), pair, rest)
        builder.position_at_end(pair)
        more = builder.fadd(even, taken(p)), builder.fadd(odd, taken(builder.add(p, ir.Constant(integer, 1))))
        builder.branch(pairs)
        for phi, initial, next_one in (
            (p, start, after),
            (even, found, more[0]),
            (odd, nothing, more[1]),
        ):
            phi.add_incoming(initial, before)
            phi.add_incoming(next_one, pair)
        builder.position_at_end(rest)
        total = builder.fadd(even, odd)
        builder.cbranch(builder.icmp_signed("<", p, stop), last, end)
        builder.position_at_end(last)
        whole = builder.fadd(total, taken(p))
        builder.branch(end)
        builder.position_at_end(end)
        result = builder.phi(row)
        result.add_incoming(total, rest)
        result.add_incoming(whole, last)
        builder.store(result, target, align=align)
        return context.get_dummy_value()

    return generate


def _signature(out: Any, weight: Any, idx: Any, mult: Any) -> Any:
    return types.void(out, types.int64, weight, types.int64, idx, mult, types.int64, types.int64, types.int64)


@_intrinsic
def add_block(
    _typing: Any, out: Any, place: Any, weight: Any, first: Any, idx: Any, mult: Any, start: Any, stop: Any, fresh: Any
) -> Any:
    """Add rows first + idx[start:stop] of `weight` to `lanes` numbers of `out` from `place` on.

    out: flat. weight: (rows, lanes). mult: not read. fresh: where it is not 0, they take the place of what is there.
    The sums stay in registers, and there are two of them, so that an addition need not wait for the one before.
    """
    return _signature(out, weight, idx, mult), _added(scaled=False)


@_intrinsic
def add_scaled_block(
    _typing: Any, out: Any, place: Any, weight: Any, first: Any, idx: Any, mult: Any, start: Any, stop: Any, fresh: Any
) -> Any:
    """The same of mult[p] times the row first + idx[p]."""
    return _signature(out, weight, idx, mult), _added(scaled=True)


def _updated(shared: bool) -> Any:
    """What updates eight neurons at once, and those left over one by one; `shared`: all have the same parameters."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, integer, place = context.get_data_type(signature.args[0].dtype), ir.IntType(64), ir.IntType(32)
        align = signature.args[0].dtype.bitwidth // 8
        v, driving, current, bias, lif, flags = (
            context.make_array(signature.args[k])(context, builder, arguments[k]).data for k in (0, 1, 3, 4, 6, 7)
        )
        ticks, (last, wide, count) = arguments[5], arguments[8:]
        driving = builder.gep(driving, [arguments[2]])
        order = [ir.Constant(integer, row) for row in range(4)] + [last]
        rows = [builder.gep(lif, [builder.mul(row, wide)]) for row in order]

        def loop(size: int, start: Any, stop: Any) -> Any:
            """Updates the neurons [start, stop), `size` at a time; 0, or not a number."""
            numbers, bytes_ = ir.VectorType(number, size), ir.VectorType(ir.IntType(8), size)

            def at(data: Any, j: Any, kind: Any = numbers) -> Any:
                return builder.bitcast(builder.gep(data, [j]), kind.as_pointer())

            def load(data: Any, j: Any) -> Any:
                return builder.load(at(data, j), align=align)

            constants = [spread(builder, builder.load(row), size) for row in rows] if shared else []
            ticking, before = spread(builder, ticks, size), builder.block
            head, body, end = (builder.append_basic_block() for _ in range(3))
            builder.branch(head)
            builder.position_at_end(head)
            j, bad = builder.phi(integer), builder.phi(numbers)
            builder.cbranch(builder.icmp_signed("<", j, stop), body, end)
            builder.position_at_end(body)
            decay, gain, drive, threshold, reset = constants or [load(row, j) for row in rows]
            driven = builder.fadd(load(driving, j), builder.fmul(ticking, load(bias, j)))
            u = builder.fadd(builder.fadd(builder.fmul(load(v, j), decay), builder.fmul(gain, driven)), drive)
            fired = builder.fcmp_ordered(">", u, threshold)
            builder.store(u, at(current, j), align=align)
            builder.store(builder.select(fired, reset, u), at(v, j), align=align)
            builder.store(builder.zext(fired, bytes_), at(flags, j, bytes_), align=1)
            worse = builder.fadd(bad, builder.fsub(u, u))
            j.add_incoming(start, before)
            j.add_incoming(builder.add(j, ir.Constant(integer, size)), body)
            bad.add_incoming(ir.Constant(numbers, None), before)
            bad.add_incoming(worse, body)
            builder.branch(head)
            builder.position_at_end(end)
            each = [builder.extract_element(bad, ir.Constant(place, k)) for k in range(size)]
            return functools.reduce(builder.fadd, each)

        eights = builder.and_(count, ir.Constant(integer, -8))
        return builder.fadd(loop(8, ir.Constant(integer, 0), eights), loop(1, eights, count))

    return generate


@_intrinsic
def update_shared(
    _typing: Any, v: Any, driving: Any, place: Any, current: Any, bias: Any, ticks: Any, lif: Any, flags: Any,
    last: Any, wide: Any, count: Any,
) -> Any:  # fmt: skip
    """What `neurons.update` does to `count` neurons, but for soft resets; gives 0, or not a number.

    Numba's own loop takes twice the time: it writes flags one by one, and asks of each membrane whether it is finite.
    lif: rows of `wide` columns, that of resets is the row `last`; all neurons share the first column.
    """
    return _update_signature(v, driving, current, bias, lif, flags), _updated(shared=True)


@_intrinsic
def update_each(
    _typing: Any, v: Any, driving: Any, place: Any, current: Any, bias: Any, ticks: Any, lif: Any, flags: Any,
    last: Any, wide: Any, count: Any,
) -> Any:  # fmt: skip
    """The same where each neuron has a column of its own."""
    return _update_signature(v, driving, current, bias, lif, flags), _updated(shared=False)


def _update_signature(v: Any, driving: Any, current: Any, bias: Any, lif: Any, flags: Any) -> Any:
    size = types.int64
    return v.dtype(v, driving, size, current, bias, v.dtype, lif, flags, size, size, size)


def _gathered(graded: bool) -> Any:
    """What adds rows of weights that a list names, in its order, the sums in registers: 32 of them, 8, or one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, integer = context.get_data_type(signature.args[0].dtype), ir.IntType(64)
        align = signature.args[0].dtype.bitwidth // 8
        strip, weight, lists, amounts = (
            context.make_array(signature.args[k])(context, builder, arguments[k]).data for k in (0, 2, 4, 5)
        )
        _, begin, _, first, _, _, start, stop, each = arguments
        strip, weight = builder.gep(strip, [begin]), builder.gep(weight, [first])

        def add(size: int, j: Any) -> None:
            numbers = ir.VectorType(number, size)
            target = builder.bitcast(builder.gep(strip, [j]), numbers.as_pointer())
            columns, total = builder.gep(weight, [j]), cgutils.alloca_once(builder, numbers)  # a register, in the end
            builder.store(builder.load(target, align=align), total)
            with up_to(builder, start, stop, 1) as (p, _):
                row = builder.mul(builder.sext(builder.load(builder.gep(lists, [p])), integer), each)
                weights = builder.load(builder.bitcast(builder.gep(columns, [row]), numbers.as_pointer()), align=align)
                if graded:
                    amount = builder.load(builder.gep(amounts, [p]))
                    weights = builder.fmul(spread(builder, amount, size), weights)
                builder.store(builder.fadd(builder.load(total), weights), total)
            builder.store(builder.load(total), target, align=align)

        done: Any = ir.Constant(integer, 0)
        for size in (32, 8, 1):
            whole = builder.sub(each, builder.srem(builder.sub(each, done), ir.Constant(integer, size)))
            with up_to(builder, done, whole, size) as (j, _):
                add(size, j)
            done = whole
        return context.get_dummy_value()

    return generate


def _gather_signature(strip: Any, weight: Any, lists: Any, amounts: Any) -> Any:
    size = types.int64
    return types.void(strip, size, weight, size, lists, amounts, size, size, size)


@_intrinsic
def gather_rows(
    _typing: Any, strip: Any, begin: Any, weight: Any, first: Any, lists: Any, amounts: Any, start: Any, stop: Any,
    each: Any,
) -> Any:  # fmt: skip
    """Add rows lists[start:stop] of `weight`, of `each` numbers from `first` on, to `strip` from `begin` on, in order.

    strip, weight: flat. amounts: not read.
    """
    return _gather_signature(strip, weight, lists, amounts), _gathered(graded=False)


@_intrinsic
def gather_scaled_rows(
    _typing: Any, strip: Any, begin: Any, weight: Any, first: Any, lists: Any, amounts: Any, start: Any, stop: Any,
    each: Any,
) -> Any:  # fmt: skip
    """The same of amounts[p] times the row lists[p]."""
    return _gather_signature(strip, weight, lists, amounts), _gathered(graded=True)
