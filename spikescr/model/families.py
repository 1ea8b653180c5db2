"""From a configuration to the network of its family."""

from __future__ import annotations

import torch

from spikescr.model.adlif import AdaptiveNetwork
from spikescr.model.commander import SpikCommander
from spikescr.model.config import AdaptiveConfig, AnyModelConfig, CommanderConfig, DelaysConfig, ModelConfig
from spikescr.model.delays import DelayNetwork
from spikescr.model.network import Network, SpikeSCR
from spikescr.model.recurrent import RecurrentNetwork


def build(config: AnyModelConfig) -> Network:
    """A freshly initialised network."""
    if isinstance(config, ModelConfig):
        return SpikeSCR(config)
    if isinstance(config, DelaysConfig):
        return DelayNetwork(config)
    if isinstance(config, AdaptiveConfig):
        return AdaptiveNetwork(config)
    if isinstance(config, CommanderConfig):
        return SpikCommander(config)
    return RecurrentNetwork(config)


def outline(config: AnyModelConfig) -> Network:
    """A network of these sizes that takes no memory, on torch's device "meta": names, types and shapes alone."""
    with torch.device("meta"):
        return build(config)
