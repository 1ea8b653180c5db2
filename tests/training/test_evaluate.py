from __future__ import annotations

import math

import pytest
import torch
from helpers import SMALL, calibrated_model, spikes_by_layer

from spikescr.model import readout
from spikescr.training.batches import Split
from spikescr.training.evaluate import evaluate


@pytest.mark.parametrize("batch_size", [2, 64])
def test_figures_are_those_of_a_plain_loop(batch_size: int) -> None:
    model, x, steps = calibrated_model(SMALL, 3, samples=7)
    labels = readout(model(x, steps), steps).argmax(-1)
    labels[2] = (labels[2] + 1) % SMALL.classes
    loss = spikes = neurons = 0.0
    for i, length in enumerate(steps.tolist()):
        of_layers, logits = spikes_by_layer(model, x[:length, i : i + 1], steps[i : i + 1])
        y = torch.softmax(logits[:, 0], -1).sum(0)
        loss -= math.log(float(y[labels[i]].exp() / y.exp().sum())) / len(steps)
        spikes += sum(float(s.sum()) for s in of_layers.values())
        neurons = sum(s.shape[-1] for s in of_layers.values())
    model.train()
    found = evaluate(model, Split(x.transpose(0, 1), steps, labels), batch_size)
    assert not model.training
    assert found.accuracy == 6 / 7
    assert found.loss == pytest.approx(loss, rel=1e-12)
    assert found.firing_rate == pytest.approx(spikes / (neurons * int(steps.sum())), rel=1e-12)
    assert 0.05 < found.firing_rate < 0.5
