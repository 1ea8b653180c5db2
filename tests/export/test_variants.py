"""Every ablation and baseline, exported: the interpreter and both backends do what the folded PyTorch model does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from audits import NAMES, audit_of, charges, total, unexplained
from helpers import VARIANTS, calibrated_model
from oracles.nir_interpreter import interpret

from spikescr.errors import ExportError
from spikescr.export.fold import fold
from spikescr.export.reference import Trace, trace
from spikescr.export.to_nir import to_nir
from spikescr.model import DelaysConfig, Network, build
from spikescr.model.delays import DelayedLinear
from spikescr.sim.compare import compare
from spikescr.sim.counting.account import Account
from spikescr.sim.counting.formula import CAUSES
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lava.backend import LavaBackend
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Program, Synapse
from spikescr.sim.recording import KINDS
from spikescr.sim.run import Batch, run_batches

DT = 1 / 40
WINDOW = 14


@dataclass(frozen=True)
class Case:
    graph: nir.NIRGraph
    program: Program
    values: np.ndarray  # (B, T, C)
    valid: np.ndarray
    reference: Trace
    fast: Batch


@cache
def case(name: str) -> Case:
    model, x, steps = calibrated_model(VARIANTS[name], seed=4, samples=3, window=WINDOW)
    folded = fold(model, DT)
    graph = to_nir(folded, steps=WINDOW, dt=DT)
    program = lower(graph)
    values, valid = x.transpose(0, 1).numpy(), steps.numpy()
    (batch,) = run_batches(program, FastBackend(program, 3, record_membranes=True), values, valid)
    return Case(graph, program, values, valid, trace(folded, values, valid), batch)


def assert_same(case: Case, batch: Batch) -> None:
    """No spike differs, in layers that fire; logits differ by rounding alone."""
    layers, divergence = compare(case.program, batch.recording, case.reference.spikes, batch.valid)
    assert divergence is None
    assert {layer.layer: 0.04 <= layer.firing_rate <= 0.65 for layer in layers} == {x.layer: True for x in layers}
    np.testing.assert_allclose(batch.output, case.reference.logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_fast_fires_every_spike_of_pytorch(name: str) -> None:
    found = case(name)
    assert_same(found, found.fast)
    for layer in found.reference.spikes:
        late, steps = found.program[layer].latency or 0, int(found.valid[1])
        executed = found.fast.recording.membranes[layer][late : late + steps, 1, 2]
        np.testing.assert_allclose(executed, found.reference.membrane(layer, 1, 2)[:steps], rtol=0, atol=1e-12)


@pytest.mark.lava
@pytest.mark.parametrize("name", VARIANTS)
def test_lava_fires_and_counts_the_same(name: str) -> None:
    found = case(name)
    with LavaBackend(found.program, 3) as backend:
        (batch,) = run_batches(found.program, backend, found.values, found.valid)
    assert_same(found, batch)
    np.testing.assert_array_equal(batch.recording.counts.table, found.fast.recording.counts.table)


@pytest.mark.parametrize("name", VARIANTS)
def test_file_that_plain_nir_reads_is_interpreted_to_the_same_spikes_and_counts(name: str, tmp_path: Path) -> None:
    found = case(name)
    nir.write(tmp_path / "model.nir", found.graph)
    graph = nir.read(tmp_path / "model.nir")
    inputs = {
        "input": found.values[1],
        "clock": (np.arange(WINDOW) < found.valid[1]).astype(float)[:, None],
    }
    oracle = interpret(graph, inputs, found.program.period)
    for layer, spikes in found.fast.recording.spikes.items():
        np.testing.assert_array_equal(spikes[:, 1], oracle.outputs[layer], err_msg=layer)
    counts = found.fast.recording.counts
    for kind in ("ac", "mac", "ac_quadratic", "fired"):
        expected = sum(of[kind].sum() for of in oracle.counts.values() if kind in of)
        assert counts.table[:, KINDS.index(kind), :, 1].sum() == expected, kind


@pytest.mark.parametrize("name", VARIANTS)
def test_causes_add_up_to_the_difference_from_the_formula_and_from_every_convention(name: str) -> None:
    found = case(name)
    account = Account(found.program)
    account.add(found.fast.recording.counts, found.valid)
    for row, operation in enumerate(found.program.operations):
        for column, kind in enumerate(("ac", "mac")):
            difference = total(account, kind, row) - total(account, f"formula_{kind}", row)
            assert difference == audit_of(account).formula_causes()[row, :, column].sum(), f"{operation.name} {kind}"
    assert audit_of(account).formula_causes()[:, CAUSES.index("padding")].any()
    np.testing.assert_allclose(unexplained(account), 0, rtol=0, atol=1e-6)
    charged = charges(account)
    assert (charged != charged[:, [NAMES.index("executed")]]).any()


def test_real_valued_residual_makes_its_readers_multiply() -> None:
    """Sinusoidal encodings alone: queries, MLPs, SGC and head read real values; what neurons feed stays AC."""
    kinds = {}
    for name in ("sinusoidal", "sinusoidal_lif"):
        found = case(name)
        counts = found.fast.recording.counts
        kinds[name] = {
            operation.name: (
                bool(counts.per_step(operation.name, "ac").any()),
                bool(counts.per_step(operation.name, "mac").any()),
            )
            for operation in found.program.of_type(Synapse)
        }
    b, ac, mac = "blocks.0", (True, False), (False, True)
    for name, readers in (("sinusoidal", mac), ("sinusoidal_lif", ac)):
        for reader in (
            f"{b}.ssa.q",
            f"{b}.ssa.v",
            f"{b}.mlp1.expand",
            f"{b}.sgc.pointwise",
            f"{b}.mlp2.expand",
            "head",
        ):
            assert kinds[name][f"{reader}.synapse"] == readers, (name, reader)
        for fed_by_neurons in (f"{b}.ssa.out", f"{b}.mlp1.contract", f"{b}.sgc.depthwise"):
            assert kinds[name][f"{fed_by_neurons}.synapse"] == ac, (name, fed_by_neurons)
        assert kinds[name]["sem.synapse"] == mac


def test_each_synapse_with_a_delay_is_counted_once() -> None:
    """Every spike of the first layer reaches each neuron of the second one once, whatever the delays are."""
    found, config = case("dcls"), VARIANTS["dcls"]
    assert isinstance(config, DelaysConfig)
    counts = found.fast.recording.counts
    second = found.program["layers.1.synapse"]
    assert isinstance(second, Synapse)
    assert len(second.taps) == config.taps  # all delays occur
    fired = counts.per_step("layers.0.lif", "fired").sum()
    assert counts.per_step(second.name, "ac").sum() == fired * config.width
    non_zero = np.count_nonzero(found.values)
    assert counts.per_step("layers.0.synapse", "mac").sum() == non_zero * config.width
    delays = {
        int(name.rpartition("tap")[2]): node
        for name, node in found.graph.nodes.items()
        if "layers.1.synapse.tap" in name
    }
    covered = sum((node.weight != 0).astype(int) for node in delays.values())
    np.testing.assert_array_equal(covered, np.ones((config.width, config.width)))


def test_a_delay_for_each_axon_is_one_delay_by_channel_and_one_linear() -> None:
    found = case("axonal")
    assert isinstance(found.program["layers.1.synapse"], Synapse)
    assert len(found.program["layers.1.synapse"].taps) == 1
    names = [name for name in found.graph.nodes if name.startswith("layers.1.")]
    assert sorted(names) == [
        "layers.1.bias",
        "layers.1.gate",
        "layers.1.gate.wire_spike",
        "layers.1.gate.wire_value",
        "layers.1.lif",
        "layers.1.synapse",
        "layers.1.synapse.delay",
    ]
    counts = found.fast.recording.counts
    fired = counts.per_step("layers.0.lif", "fired").sum()
    assert counts.per_step("layers.1.synapse", "ac").sum() == fired * 10


def test_recurrent_network_is_standard_nir_with_a_delay_of_one_step_in_its_cycle() -> None:
    graph = case("recurrent").graph
    assert case("recurrent").program.cyclic
    for layer in ("layers.0.lif", "layers.1.lif"):
        assert isinstance(graph.nodes[f"{layer}.delay"], nir.Delay)
        np.testing.assert_array_equal(graph.nodes[f"{layer}.delay"].delay, DT)
        assert isinstance(graph.nodes[f"{layer}.recurrent"], nir.Linear)
        assert {(layer, f"{layer}.delay"), (f"{layer}.delay", f"{layer}.recurrent")} <= set(graph.edges)


def test_adaptive_neurons_are_integrators_a_threshold_and_delays_of_one_step() -> None:
    graph = case("adlif").graph
    kinds = {
        name.removeprefix("layers.1.lif"): type(graph.nodes[name])
        for name in graph.nodes
        if "layers.1.lif" in name and "gate" not in name
    }
    assert kinds == {
        "": nir.Threshold,
        ".membrane": nir.LI,
        ".adaptation": nir.LI,
        ".membrane_late": nir.Delay,
        ".spike_late": nir.Delay,
        ".adapting": nir.Scale,
        ".firing": nir.Scale,
        ".reset": nir.Scale,
    }
    counts, layer = case("adlif").fast.recording.counts, "layers.1.lif"
    a = graph.nodes[f"{layer}.adapting"].scale
    assert (a <= 0).all()
    # One multiplication for each neuron and valid step: nothing else is multiplied, nor anything after the last step.
    assert counts.per_step(f"{layer}.adapting", "mac").sum() == case("adlif").fast.valid.sum() * np.count_nonzero(a)
    assert not any(counts.per_step(f"{layer}{part}", "mac").any() for part in (".firing", ".reset"))
    with pytest.raises(ExportError, match=r"layers\.0\.lif: has learnt its time constants; folding it needs dt"):
        fold(build(VARIANTS["adlif"]))
    with pytest.raises(ExportError, match=r"layers\.0\.lif: fold for steps of 0\.5 s"):
        to_nir(fold(build(VARIANTS["adlif"]), DT), steps=WINDOW, dt=0.5)


def test_adaptive_neurons_that_would_fire_after_the_last_step_are_silent_there() -> None:
    model, x, steps = calibrated_model(VARIANTS["adlif"], seed=4, samples=3, window=WINDOW)
    with torch.no_grad():
        for layer in model.layers:  # type: ignore[union-attr]
            layer.lif.by_membrane.fill_(1.0)  # type: ignore[union-attr, operator]
            layer.current.norm.weight.mul_(20)  # type: ignore[union-attr, operator]
    folded = fold(model, DT)
    values, valid = x.transpose(0, 1).numpy(), steps.numpy()
    reference = trace(folded, values, valid)
    late = np.arange(WINDOW)[:, None] >= valid
    lif, currents = reference.neurons["layers.0.lif"], torch.from_numpy(reference.currents["layers.0.lif"])
    with torch.no_grad():
        assert lif(currents, torch.ones(WINDOW, 3, 1))[torch.from_numpy(late)].any()  # were the steps not masked
    program = lower(to_nir(folded, steps=WINDOW, dt=DT))
    (batch,) = run_batches(program, FastBackend(program, 3, record_membranes=True), values, valid)
    layers, divergence = compare(program, batch.recording, reference.spikes, batch.valid)
    assert divergence is None
    for layer in layers:
        assert not batch.recording.spikes[layer.layer][:WINDOW][late].any()
    np.testing.assert_allclose(batch.output, reference.logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["parametric", "recurrent parametric"])
def test_learnt_constants_are_exact_in_the_file(name: str) -> None:
    found = case(name)
    decays = set()
    for layer, neuron in found.reference.neurons.items():
        decay = neuron.decay
        node = found.graph.nodes[layer]
        np.testing.assert_array_equal(1 - DT / node.tau, decay)
        np.testing.assert_array_equal(node.r * (DT / node.tau), 1.0)
        decays.add(decay)
    assert len(decays) == len(found.reference.neurons)  # each layer has learnt its own
    assert 0.5 not in decays


def test_folding_learnt_constants_moves_them_by_rounding_alone_and_needs_dt() -> None:
    model, _, _ = calibrated_model(VARIANTS["parametric"], seed=4)
    with pytest.raises(ExportError, match=r"sem\.lif: has learnt its membrane constant; folding it needs dt"):
        fold(model)
    folded = fold(model, DT)
    for path in ("sem.lif", "blocks.0.mlp1.expand.lif"):
        trained = model.get_submodule(path).decay
        assert folded.get_submodule(path).decay == pytest.approx(trained, abs=1e-13)
    with pytest.raises(ExportError, match=r"lif: a decay of .* cannot be stated for steps of .* s; fold for this dt"):
        to_nir(folded, steps=WINDOW, dt=1 / 77)


def test_a_network_of_no_family_is_refused() -> None:
    with pytest.raises(ExportError, match=r"^Network cannot be exported"):
        to_nir(Network(VARIANTS["dcls"]), steps=3, dt=DT)


def test_unused_delays_make_no_nodes() -> None:
    model = build(VARIANTS["dcls"])
    for module in model.modules():
        if isinstance(module, DelayedLinear):
            module.position.data.fill_(0.5)  # 3 of 0 to 4
    graph = to_nir(fold(model), steps=WINDOW, dt=DT)
    assert [n for n in sorted(graph.nodes) if ".synapse." in n] == [
        f"layers.{i}.synapse.{kind}3" for i in range(2) for kind in ("delay", "tap")
    ]


def test_bias_of_a_recurrent_layer_belongs_to_its_input_synapse() -> None:
    program = case("recurrent").program
    forward, back = program["layers.0.synapse"], program["layers.0.lif.recurrent"]
    assert isinstance(forward, Synapse)
    assert isinstance(back, Synapse)
    assert (forward.bias is not None, forward.origin, forward.gated) == (True, ("bias", "batch_norm"), True)
    assert (back.bias, back.gated) == (None, True)
