"""Makes `lava.lib.dl.netx` of lava-dl 0.6.0 importable; who reads netx files imports `hdf5` from here.

Its `hdf5` takes one function of `lava.lib.dl.slayer`, whose `__init__` also imports `object_detection`, and with it
torchvision and OpenCV. An empty module of that name keeps them away; nothing in netx uses it.
"""

from __future__ import annotations

import sys
import types
import warnings

import spikescr.sim.lava.compat  # noqa: F401  (before anything of Lava)

_UNUSED = "lava.lib.dl.slayer.object_detection"

sys.modules.setdefault(_UNUSED, types.ModuleType(_UNUSED, "Stands for a package that needs torchvision and OpenCV."))
with warnings.catch_warnings():
    # lava-dl was written for torch 2.3 and NumPy 1.24; it is theirs to mend.
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", FutureWarning)
    from lava.lib.dl.netx import hdf5

__all__ = ["hdf5"]
