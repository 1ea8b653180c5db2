"""One instruction that numba does not generate by itself: eight integers from a table, moved on and stored at once."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic


@intrinsic
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
        moved = builder.insert_element(ir.Constant(eight, ir.Undefined), arguments[4], ir.Constant(ir.IntType(32), 0))
        moved = builder.shuffle_vector(moved, ir.Constant(eight, ir.Undefined), ir.Constant(eight, [0] * 8))
        place = builder.bitcast(builder.gep(out.data, [arguments[1]]), eight.as_pointer())
        builder.store(builder.add(builder.load(source, align=4), moved), place, align=4)
        return context.get_dummy_value()

    return types.void(target, types.int64, table, types.int64, types.int32), generate
