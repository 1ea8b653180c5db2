"""Names of functions on tensors, by what they do with elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_MOVES = """
reshape view flatten unflatten permute transpose swapaxes swapdims movedim moveaxis t T mT H mH squeeze unsqueeze
expand expand_as broadcast_to repeat repeat_interleave tile cat concat concatenate stack vstack hstack dstack chunk
split split_with_sizes tensor_split unbind select narrow index_select gather take take_along_dim getitem flip fliplr
flipud rot90 roll pad clone contiguous detach view_as reshape_as ravel data atleast_1d atleast_2d atleast_3d
diagonal pixel_shuffle pixel_unshuffle channel_shuffle unfold tril triu setitem copy iter masked_fill where zero
overlay interpolate upsample float double half bfloat16 to type type_as real dropout dropout1d dropout2d dropout3d
alpha_dropout feature_alpha_dropout identity squeeze_copy
"""
MOVES = frozenset(_MOVES.split())
"""Functions that move elements, leave some out, or put zeros between them."""

ZEROS = frozenset(["zeros", "zeros_like", "new_zeros", "full", "full_like", "new_full"])
"""Functions that make zeros, or may."""

MAKES = ZEROS | frozenset(["ones_like", "empty_like", "new_ones", "new_empty", "new_tensor", "requires_grad"])
"""Functions that need a tensor's shape or type only."""

_READS = """
item tolist numpy bool float_value int_value index_value equal allclose is_nonzero array cpu_numpy
"""
READS = frozenset(_READS.split())
"""Functions that let Python see a tensor's numbers."""

_RANDOM = """
rand_like randn_like randint_like bernoulli multinomial normal uniform poisson
"""
RANDOM = frozenset(_RANDOM.split())

_PLAIN = {
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "truediv": "div",
    "true_divide": "div",
    "negative": "neg",
    "concatenate": "cat",
    "concat": "cat",
    "fill_diagonal": "unknown",
}
_READING = {"__bool__": "bool", "__float__": "float_value", "__int__": "int_value", "__index__": "index_value"}


def plain(function: Callable[..., Any]) -> str:
    """One name for a function, its method, its operator and its in-place form: "add" for torch.add, +, += and add_."""
    name = getattr(function, "__name__", str(function))
    if name in {"__get__", "__set__"}:
        return str(getattr(getattr(function, "__self__", None), "__name__", name))
    if name in _READING:
        return _READING[name]
    if name in {"__array__"}:
        return "array"
    if name.startswith("__") and name.endswith("__"):
        name = name[2:-2]
        if name not in {"add", "and", "abs", "iter", "invert", "index", "xor"} and name[:1] in {"i"}:
            name = name[1:]
        name = {"radd": "add", "rmul": "mul"}.get(name, name)
    elif name.endswith("_") and not name.startswith("_"):
        name = name[:-1]
    return _PLAIN.get(name, name)
