"""SpikeSCR in SpikingJelly modules: neuron, layers, network."""

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
