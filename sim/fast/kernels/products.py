"""Convolutions of images of which so much is not 0 that all of it is multiplied."""

# Kernels take what numba infers: their docstrings state shapes and types.
# mypy: allow-untyped-defs, allow-untyped-decorators, disable-error-code="assignment"

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

from spikescr.sim.fast.kernels.events import KERNEL
from spikescr.sim.fast.kernels.vectors import spread, up_to

_intrinsic: Any = intrinsic
SIZES = ((16, 8), (8, 8), (4, 8), (1, 8))
"""Channels and places whose sums are in registers together: 16 vectors of AVX-512, in what is wider."""


@_intrinsic
def _multiply_places(
    _typing: Any, strip: Any, begin: Any, apart: Any, image: Any, origin: Any, reads: Any, first: Any, places: Any,
    taps: Any, weight: Any, first_weight: Any, each: Any,
) -> Any:  # fmt: skip
    """strip[begin + apart p + o] = sum_q image[origin + reads[first + p] + taps[q]] weight[first_weight + each q + o].

    For p below `places` and o below `each`, the sum in the order of the taps. strip, image, weight: flat.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, integer = context.get_data_type(signature.args[0].dtype), ir.IntType(64)
        align = signature.args[0].dtype.bitwidth // 8
        arrays = [context.make_array(signature.args[k])(context, builder, arguments[k]) for k in (0, 3, 5, 8, 9)]
        starts = [arguments[1], arguments[4], arguments[6], ir.Constant(integer, 0), arguments[10]]
        strip, image, reads, taps, weight = (
            builder.gep(array.data, [start]) for array, start in zip(arrays, starts, strict=True)
        )
        apart, places, each = arguments[2], arguments[7], arguments[11]
        count = builder.extract_value(arrays[3].shape, 0)

        def at(base: Any, place: Any, numbers: Any) -> Any:
            return builder.bitcast(builder.gep(base, [place]), numbers.as_pointer())

        def block(size: int, together: int, o: Any, p: Any) -> None:
            numbers = ir.VectorType(number, size)
            each_place = [builder.add(p, ir.Constant(integer, i)) for i in range(together)]
            read = [builder.gep(image, [builder.load(builder.gep(reads, [place]))]) for place in each_place]
            sums = [cgutils.alloca_once(builder, numbers) for _ in each_place]  # registers, once LLVM is done
            for total in sums:
                builder.store(ir.Constant(numbers, None), total)
            with up_to(builder, ir.Constant(integer, 0), count, 1) as (q, _):
                row = builder.load(at(weight, builder.add(builder.mul(q, each), o), numbers), align=align)
                tap = builder.load(builder.gep(taps, [q]))
                for total, pixel in zip(sums, read, strict=True):
                    met = spread(builder, builder.load(builder.gep(pixel, [tap])), size)
                    builder.store(builder.fadd(builder.load(total), builder.fmul(met, row)), total)
            for total, place in zip(sums, each_place, strict=True):
                target = at(strip, builder.add(builder.mul(place, apart), o), numbers)
                builder.store(builder.load(total), target, align=align)

        done: Any = ir.Constant(integer, 0)
        for size, together in SIZES:
            stop = builder.sub(each, builder.srem(builder.sub(each, done), ir.Constant(integer, size)))
            whole = builder.sub(places, builder.srem(places, ir.Constant(integer, together)))
            with up_to(builder, done, stop, size) as (o, _):
                with up_to(builder, ir.Constant(integer, 0), whole, together) as (p, _):
                    block(size, together, o, p)
                with up_to(builder, whole, places, 1) as (p, _):
                    block(size, 1, o, p)
            done = stop
        return context.get_dummy_value()

    place = types.int64
    signature = types.void(strip, place, place, image, place, reads, place, place, taps, weight, place, place)
    return signature, generate


@njit(**KERNEL)
def frame(framed, walk, shape, size, idx, amounts, starts):
    """Lay an image of `shape` out with zeros around it, framed (in channels x rows x columns,) of `size` (2,).

    idx, amounts, starts: its entries, sorted, and where those of each row begin.
    """
    for i in range(len(framed)):
        framed[i] = 0
    for c in range(shape[0]):
        for y in range(shape[1]):
            segment = c * shape[1] + y
            moved = (c * size[0] + y + walk[1, 0]) * size[1] + walk[1, 1] - segment * shape[2]
            for e in range(starts[segment], starts[segment + 1]):
                framed[idx[e] + moved] = amounts[e] if len(amounts) else 1


@njit(**KERNEL)
def multiply(strip, first, places, framed, weight, reads, taps):
    """What `gather` gives for an image of which most is not 0, zeros and all: in the same order, place by place.

    strip (places, channels): of `places` from `first` on. reads: what the first tap of each place reads of a frame;
    taps: how far from it those of a group's channels do.
    """
    groups, count, each = weight.shape
    sums, weights = strip.reshape(strip.size), weight.reshape(weight.size)
    of_group = np.int64(len(framed) / groups)
    for g in range(groups):
        _multiply_places(
            sums, g * each, strip.shape[1], framed, g * of_group, reads, first, places, taps, weights, g * count * each,
            each,
        )  # fmt: skip
