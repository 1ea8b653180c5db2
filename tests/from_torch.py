"""What the simulator's tests take from training and export; where torch is not installed, who calls it is skipped."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, NoReturn

import pytest

__all__ = [
    "SMALL",
    "VARIANTS",
    "assert_every_layer_fires",
    "calibrated_model",
    "firing_rates",
    "fold",
    "to_nir",
    "torch",
    "trace",
]

if find_spec("torch"):
    import torch
    from helpers import SMALL, VARIANTS, assert_every_layer_fires, calibrated_model, firing_rates

    from spikescr.export.fold import fold
    from spikescr.export.reference import trace
    from spikescr.export.to_nir import to_nir
else:

    def _skip(*_: Any, **__: Any) -> NoReturn:
        pytest.skip("torch is not installed")

    class _Absent:
        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("__"):  # pytest asks every name of a module whether it is a test: not to skip the module
                raise AttributeError(name)
            _skip()

    class _Nothing:
        def __getitem__(self, name: str) -> NoReturn:
            _skip()

    SMALL: Any = _Absent()
    VARIANTS: Any = _Nothing()
    torch: Any = _Absent()
    assert_every_layer_fires = calibrated_model = firing_rates = fold = to_nir = trace = _skip
