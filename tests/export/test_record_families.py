"""Our own families through recording: the graph of the module, and the exporter's, spike alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import SMALL, VARIANTS, calibrated_model
from torch import Tensor, nn

import spikescr
from spikescr.errors import ExportError
from spikescr.export.fold import fold
from spikescr.export.to_nir import to_nir

DT = 1 / 40
WINDOW = 12
REFUSED = {
    "causal": "cumsum",
    "causal, no position": "cumsum",
    **{
        name: f"{neuron}: its equation is not one of those known"
        for name in VARIANTS
        for of, neuron in (("ad", "AdaptiveLIF"), ("dcls adaptive", "AdaptiveLIF"), ("commander", "ShiftedLIF"))
        if name.startswith(of)
    },
}
"""What recording does not follow yet, and what it names; the exporter has these."""
FAMILIES = {"rotary": SMALL, **{name: config for name, config in VARIANTS.items() if name not in REFUSED}}


class Whole(nn.Module):
    """A network of ours on whole windows."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x, torch.full((x.shape[1],), len(x)))
        return logits


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_spikes_as_the_exporters_graph(kind: str) -> None:
    model, x, _ = calibrated_model(FAMILIES[kind], seed=4, samples=3, window=WINDOW)
    exported = to_nir(fold(model, DT), steps=WINDOW, dt=DT)
    recorded = spikescr.to_nir(Whole(model), x.numpy(), dt=DT)
    ours = spikescr.simulate(exported, x.numpy(), record=("spikes",))
    theirs = spikescr.simulate(recorded, x.numpy(), record=("spikes",))
    assert {f"network.{name}" for name in ours.spikes} == theirs.spikes.keys()
    for name, spikes in ours.spikes.items():
        assert spikes.mean() > 0.01, "a silent layer proves nothing"
        np.testing.assert_array_equal(spikes, theirs.spikes[f"network.{name}"], err_msg=name)
    np.testing.assert_allclose(ours.outputs["output"], theirs.outputs["output"], atol=1e-9)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_recording_does_not_follow_is_refused_by_name(kind: str) -> None:
    model, x, _ = calibrated_model(VARIANTS[kind], seed=4, samples=3, window=WINDOW)
    with pytest.raises(ExportError, match=REFUSED[kind]):
        spikescr.to_nir(Whole(model), x.numpy(), dt=DT)
