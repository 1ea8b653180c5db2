"""From a configuration to the network of its family."""

from __future__ import annotations

from spikescr.model.config import AnyModelConfig, DelaysConfig, ModelConfig
from spikescr.model.delays import DelayNetwork
from spikescr.model.network import Network, SpikeSCR
from spikescr.model.recurrent import RecurrentNetwork


def build(config: AnyModelConfig) -> Network:
    """A freshly initialised network."""
    if isinstance(config, ModelConfig):
        return SpikeSCR(config)
    if isinstance(config, DelaysConfig):
        return DelayNetwork(config)
    return RecurrentNetwork(config)
