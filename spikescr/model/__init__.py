"""SpikeSCR and its baselines in SpikingJelly modules: neurons, layers, networks.

Names are imported when they are asked for: the configuration alone (`spikescr.model.config`) is to need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spikescr.model.config import (
        AdaptiveConfig,
        AnyModelConfig,
        CommanderConfig,
        DelaysConfig,
        ModelConfig,
        RecurrentConfig,
    )
    from spikescr.model.families import build
    from spikescr.model.layers import Current, Masked, SequenceBatchNorm, SpikingLayer, TimeConv, valid_mask
    from spikescr.model.network import Network, SpikeSCR, readout
    from spikescr.model.neuron import LIF

__all__ = [
    "LIF",
    "AdaptiveConfig",
    "AnyModelConfig",
    "CommanderConfig",
    "Current",
    "DelaysConfig",
    "Masked",
    "ModelConfig",
    "Network",
    "RecurrentConfig",
    "SequenceBatchNorm",
    "SpikeSCR",
    "SpikingLayer",
    "TimeConv",
    "build",
    "readout",
    "valid_mask",
]

_HOMES = {
    "config": (
        "AdaptiveConfig",
        "AnyModelConfig",
        "CommanderConfig",
        "DelaysConfig",
        "ModelConfig",
        "RecurrentConfig",
    ),
    "families": ("build",),
    "layers": ("Current", "Masked", "SequenceBatchNorm", "SpikingLayer", "TimeConv", "valid_mask"),
    "network": ("Network", "SpikeSCR", "readout"),
    "neuron": ("LIF",),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
