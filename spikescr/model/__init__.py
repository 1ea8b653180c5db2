"""SpikeSCR in SpikingJelly modules: neuron, layers, network.

Names are imported when they are asked for: the configuration alone (`spikescr.model.config`) is to need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spikescr.model.config import ModelConfig
    from spikescr.model.layers import Current, Masked, SequenceBatchNorm, SpikingLayer, TimeConv, valid_mask
    from spikescr.model.network import SpikeSCR, readout
    from spikescr.model.neuron import LIF

__all__ = [
    "LIF",
    "Current",
    "Masked",
    "ModelConfig",
    "SequenceBatchNorm",
    "SpikeSCR",
    "SpikingLayer",
    "TimeConv",
    "readout",
    "valid_mask",
]

_HOMES = {
    "config": ("ModelConfig",),
    "layers": ("Current", "Masked", "SequenceBatchNorm", "SpikingLayer", "TimeConv", "valid_mask"),
    "network": ("SpikeSCR", "readout"),
    "neuron": ("LIF",),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
