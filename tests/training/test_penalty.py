"""What synaptic operations cost in a training: counted as the simulator counts, learnt to do without."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from audits import audit_of, total
from helpers import SMALL, VARIANTS, calibrated_model
from pydantic import ValidationError

from spikescr.data import DataSet
from spikescr.export.fold import fold
from spikescr.export.to_nir import to_nir
from spikescr.model import DelaysConfig, ModelConfig, readout
from spikescr.model.backends import FUSED, PLAIN, install
from spikescr.runs import RunFolder
from spikescr.sim.counting.account import Account
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lowering.lower import lower
from spikescr.sim.run import run_batches
from spikescr.training.config import TrainConfig
from spikescr.training.loop import train
from spikescr.training.penalty import noting
from spikescr.training.running import TrainResult

WINDOW, DT = 14, 1 / 40


@pytest.mark.parametrize("config", [SMALL, VARIANTS["causal"], VARIANTS["no SGU"], VARIANTS["sinusoidal_lif"]])
def test_operations_are_those_of_the_formula_spike_for_spike(config: ModelConfig) -> None:
    model, x, steps = calibrated_model(config, samples=3, window=WINDOW)
    program = lower(to_nir(fold(model, DT), steps=WINDOW, dt=DT))
    (batch,) = run_batches(program, FastBackend(program, 3), x.transpose(0, 1).numpy(), steps.numpy())
    account = Account(program)
    account.add(batch.recording.counts, batch.valid)
    audit = audit_of(account)
    between = [
        row
        for row, (name, kind) in enumerate(zip(audit.operations, audit.types, strict=True))
        if kind == "Synapse" and not name.startswith(("sem.", "head"))
    ]
    executed = sum(total(account, "formula_ac", row) for row in between)
    assert executed > 0
    with noting(model, 0.5) as penalty:
        model(x, steps)
    assert sum(int(operations.sum()) for operations, _ in penalty.noted) == executed
    synapses = sum(p.numel() for name, p in model.named_parameters() if "synapse.weight" in name and "sem" not in name)
    expected = 0.5 * sum(operations for operations, _ in penalty.noted) / (synapses * steps)
    torch.testing.assert_close(penalty.of(steps), expected)


def test_gradients_are_the_plain_equations_whoever_computes() -> None:
    model, x, steps = calibrated_model(SMALL.model_copy(update={"dropout": 0.0}), dtype=torch.float32)
    found = []
    for backend in (PLAIN, FUSED):
        other = copy.deepcopy(model).train()
        install(other, backend)
        with noting(other, 1.0) as penalty:
            readout(other(x, steps), steps)
        penalty.of(steps).sum().backward()
        found.append({name: p.grad for name, p in other.named_parameters() if not name.endswith("synapse.bias")})
    plain, fused = found
    assert sum(gradient is not None for gradient in plain.values()) > 20
    for name, gradient in plain.items():
        assert (gradient is None) == (fused[name] is None), name
        if gradient is not None:
            torch.testing.assert_close(fused[name], gradient, rtol=0, atol=2e-5 * float(gradient.abs().max()))


def test_a_network_learns_to_do_with_fewer(dataset: DataSet, config: TrainConfig, tmp_path: Path) -> None:
    def trained(penalty: float) -> TrainResult:
        settings = config.model_copy(update={"synop_penalty": penalty, "epochs": 6})
        return train(settings, dataset, RunFolder(tmp_path / f"{penalty}"))

    free, dear = trained(0.0), trained(20.0)
    assert dear.epochs[-1].firing_rate < 0.8 * free.epochs[-1].firing_rate
    assert dear.epochs[0].train_loss > free.epochs[0].train_loss


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (DelaysConfig(inputs=20), "family spikescr, not dcls"),
        (ModelConfig(inputs=20, position="sinusoidal"), "layers get real numbers"),
    ],
)
def test_networks_whose_operations_it_does_not_know_are_refused(model: ModelConfig, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainConfig(synop_penalty=0.1, model=model)
