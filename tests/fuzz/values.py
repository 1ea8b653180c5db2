"""Values that no field expects: of another type, shape or size than was there."""

from __future__ import annotations

from typing import Any

import numpy as np

from fuzz.draws import Draws

NUMBERS = (0, -1, 1, 2, 7, 0.5, 1e-30, 1e30, 1e308, -1e308, float("nan"), float("inf"), 2**31, 2**53, 2**63 - 1)
TEXTS = (
    "",
    "abc",
    "1",
    "NaN",
    "../../etc/passwd",
    "x" * 5000,
    "\u20ac\u0000\n",
    "{}",
    "[1, 2",
    "subtract",
    "spikes",
    "LIF",
)
NUMERIC = ("f2", "f4", "f8", "i1", "i8", "u1", "u8", "c16", "?")
SHAPES = ((), (0,), (1,), (2,), (3, 1), (1, 1, 1), (2, 0), (1, 2, 3, 4), (5000,))


def array(draws: Draws, was: Any = None) -> np.ndarray:
    """An array: what was there, damaged, or another."""
    was = None if was is None else np.asarray(was)
    if was is not None and was.dtype.kind in "fiub" and was.size and draws.whole(0, 2):
        return _damaged(draws, was)
    kind = draws.one((*NUMERIC, "text", "object", "compound"))
    shape = draws.one(SHAPES)
    if kind == "text":
        return np.full(shape, draws.one(TEXTS).replace("\0", "").encode() or b"-")
    if kind == "object":
        return np.full(shape, {"a": draws.one(NUMBERS)}, object)
    if kind == "compound":
        return np.zeros(shape, [("re", "f8"), ("name", "S3")])
    with np.errstate(all="ignore"):
        return np.full(shape, draws.one(NUMBERS), np.float64).astype(kind)


def _damaged(draws: Draws, was: np.ndarray) -> np.ndarray:
    flat = was.reshape(-1)
    with np.errstate(all="ignore"):
        match draws.whole(0, 7):
            case 0:
                found = flat[: draws.whole(0, was.size)]
            case 1:
                found = was[None]
            case 2:
                found = was.T
            case 3:
                found = np.concatenate([flat, flat])
            case 4:
                found = was.astype(draws.one(NUMERIC))
            case 5:
                found = flat[0]
            case 6:
                found = (was.astype("f8") * draws.one(NUMBERS)).astype(was.dtype)
            case _:  # one number
                found = np.array(was)
                found.reshape(-1)[draws.whole(0, found.size - 1)] = np.array(draws.one(NUMBERS), "f8").astype(was.dtype)
    return found


def json_value(draws: Draws, was: Any) -> Any:
    """A JSON value in the place of another: a part of it changed, or something else altogether."""
    if isinstance(was, dict) and was and draws.whole(0, 5):
        found = dict(was)
        key = draws.one(sorted(found))
        match draws.whole(0, 5):
            case 0:
                del found[key]
            case 1:
                found[draws.one(TEXTS)] = found.pop(key)
            case _:
                found[key] = json_value(draws, found[key])
        return found
    if isinstance(was, list) and was and draws.whole(0, 3):
        found_list = list(was)
        place = draws.whole(0, len(was) - 1)
        found_list[place] = json_value(draws, was[place])
        return found_list if draws.whole(0, 3) else found_list[:place]
    nested: Any = 0
    for _ in range(draws.one((1, 50, 500)) if draws.whole(0, 9) == 0 else 0):
        nested = [nested]
    return draws.one((None, True, [], {}, [1, "a"], {"a": 1}, nested, draws.one(NUMBERS), draws.one(TEXTS)))
