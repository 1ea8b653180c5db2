"""Makes lava-nc 0.10.0 run on Python 3.11 and with NumPy 2; every module here that uses Lava imports this one first.

Also a pytest plugin, to run tests that import Lava on their own: `pytest -p spikescr.sim.lava.compat ...`.
"""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _import_var_model() -> None:
    """Import the one module of Lava that Python 3.11 refuses, with dataclasses that hash.

    It gives a dataclass field an instance of another, unhashable dataclass (`ByteEncoder`) as default; since 3.11
    that counts as mutable. Classes that are hashable pass.
    """
    original = dataclasses.dataclass
    dataclasses.dataclass = functools.partial(original, unsafe_hash=True)
    try:
        import lava.magma.compiler.var_model  # noqa: F401
    finally:
        dataclasses.dataclass = original


def _import_infrastructure() -> None:
    """Import Lava's message infrastructure, which sets the start method of multiprocessing to `fork` and insists.

    Where somebody set `fork` before, that is what Lava wants. A worker of joblib has `loky` set, for workers of its own
    that it never starts; it gets `fork`. Where somebody set another method, Lava cannot work.

    Raises:
        RuntimeError: the start method of this process is already another one than `fork`.
    """
    method = multiprocessing.get_start_method(allow_none=True)
    if method not in (None, "fork", "loky"):
        raise RuntimeError(f"Lava needs multiprocessing's start method 'fork', but it was already set to {method!r}")
    set_start_method = multiprocessing.set_start_method
    multiprocessing.set_start_method = functools.partial(set_start_method, force=True)
    try:
        import lava.magma.runtime.message_infrastructure.multiprocessing  # noqa: F401
    finally:
        multiprocessing.set_start_method = set_start_method


def _reshaped(data: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    return np.reshape(data, shape)


def _mend_reshape() -> None:
    """Have ports that reshape, as in netx, call NumPy without `newshape`, which 2.1 deprecates and 2.5 lacks."""
    from lava.magma.core.process.ports.ports import ReshapePort

    ReshapePort.get_transform_func_fwd = lambda port: functools.partial(_reshaped, shape=port.shape)
    ReshapePort.get_transform_func_bwd = lambda port: functools.partial(_reshaped, shape=port.old_shape)


with warnings.catch_warnings():
    # Lava and networkx 2.8 use names that NumPy, SciPy and Python have deprecated; it is theirs to mend.
    warnings.simplefilter("ignore", DeprecationWarning)
    _import_var_model()
    _import_infrastructure()
    _mend_reshape()
