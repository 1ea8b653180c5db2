"""Our own recurrent family through recording: the graph of the module, and the exporter's, spike alike."""

from __future__ import annotations

import numpy as np
import torch
from helpers import VARIANTS, calibrated_model
from torch import Tensor, nn

import spikescr
from spikescr.export.fold import fold
from spikescr.export.to_nir import to_nir

DT = 1 / 40
WINDOW = 12


class Whole(nn.Module):
    """A network of ours on whole windows."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x, torch.full((x.shape[1],), len(x)))
        return logits


def test_the_recurrent_family_spikes_as_the_exporters_graph() -> None:
    model, x, _ = calibrated_model(VARIANTS["recurrent"], seed=4, samples=3, window=WINDOW)
    exported = to_nir(fold(model, DT), steps=WINDOW, dt=DT)
    recorded = spikescr.to_nir(Whole(model), x.numpy(), dt=DT)
    ours = spikescr.simulate(exported, x.numpy(), record=("spikes",))
    theirs = spikescr.simulate(recorded, x.numpy(), record=("spikes",))
    names = [name for name in ours.spikes if name in {n.removeprefix("network.") for n in theirs.spikes}]
    assert names
    for name in names:
        assert ours.spikes[name].mean() > 0.01, "a silent layer proves nothing"
        np.testing.assert_array_equal(ours.spikes[name], theirs.spikes[f"network.{name}"])
    np.testing.assert_allclose(ours.outputs["output"], theirs.outputs["output"], atol=1e-9)
