"""The exported graph: standard NIR readable by anyone, and exactly the trained network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nir
import numpy as np
import pytest
from helpers import SMALL, assert_every_layer_fires, calibrated_model, firing_rates
from oracles.nir_interpreter import interpret

from spikescr.errors import ExportError
from spikescr.export.fold import fold
from spikescr.export.reference import trace
from spikescr.export.to_nir import to_nir
from spikescr.model import ModelConfig

SIZES = [
    SMALL,
    ModelConfig(inputs=7, classes=3, layers=2, heads=4, width=16, mlp_ratio=1, kernel=3),
    ModelConfig(inputs=9, classes=4, layers=1, heads=1, width=6, mlp_ratio=3, kernel=5),
]
DT = 0.025


def clock(steps: int, window: int) -> np.ndarray:
    return (np.arange(window) < steps).astype(float)[:, None]


@pytest.mark.parametrize("config", SIZES, ids=lambda c: c.name)
@pytest.mark.parametrize("counts", [False, True], ids=["values", "counts"])
def test_interpreted_graph_fires_every_spike_of_pytorch(config: ModelConfig, counts: bool, tmp_path: Path) -> None:
    model, x, steps = calibrated_model(config, seed=3, counts=counts, window=20, samples=3)
    assert_every_layer_fires(firing_rates(model, x, steps))
    folded = fold(model)
    window = x.shape[0]
    nir.write(tmp_path / "model.nir", to_nir(folded, steps=window, dt=DT, signal="spikes" if counts else "values"))
    graph = nir.read(tmp_path / "model.nir")
    expected = trace(folded, x.transpose(0, 1).numpy(), steps.numpy())

    latency = {name: int(node.metadata["spikescr.latency"]) for name, node in graph.nodes.items()}
    for sample in range(x.shape[1]):
        inputs = {"input": x[:, sample].numpy(), "clock": clock(int(steps[sample]), window)}
        found = interpret(graph, inputs, window + latency["output"] + 5)
        for layer, spikes in expected.spikes.items():
            after = latency[layer]
            executed = found.outputs[layer]
            np.testing.assert_array_equal(executed[after : after + window], spikes[:, sample], err_msg=layer)
            outside = np.r_[executed[:after], executed[after + int(steps[sample]) :]]
            assert not outside.any(), f"{layer} fires outside of the sample's valid steps"
            membrane = expected.membrane(layer, sample, 0)
            executed_membrane = found.membranes[layer][after : after + int(steps[sample]), 0]
            np.testing.assert_allclose(executed_membrane, membrane[: int(steps[sample])], atol=1e-12)
        after = latency["output"]
        np.testing.assert_allclose(
            found.outputs["output"][after : after + window], expected.logits[:, sample], atol=1e-12
        )


def test_latencies_are_those_of_the_architecture() -> None:
    """Half of the 3-tap kernel, 1; attention, T = 24; half of the 7-tap kernel, 3."""
    model, _, _ = calibrated_model()
    graph = to_nir(fold(model), steps=24, dt=DT)
    latency = {name: node.metadata["spikescr.latency"] for name, node in graph.nodes.items()}
    assert latency["sem.lif"] == 1
    assert latency["blocks.0.ssa.v.lif"] == 1
    assert latency["blocks.0.ssa.attention.lif"] == 1 + 24
    assert latency["blocks.0.sgc.depthwise.lif"] == 1 + 24 + 3
    assert latency["output"] == 1 + 24 + 3


def test_causal_attention_waits_for_nothing() -> None:
    model, _, _ = calibrated_model(SMALL.model_copy(update={"attention": "causal"}))
    graph = to_nir(fold(model), steps=24, dt=DT)
    latency = {name: node.metadata["spikescr.latency"] for name, node in graph.nodes.items()}
    assert latency["blocks.0.ssa.attention.lif"] == latency["blocks.0.ssa.v.lif"] == 1
    assert latency["output"] == 1 + 3
    product = graph.nodes["blocks.0.ssa.attention.product"].metadata
    assert product == {"heads": 2, "scale": 8**-0.5, "spikescr.latency": 1, "spikescr.op": "causal_attention"}


def test_plain_nir_reads_the_file_without_this_package(tmp_path: Path) -> None:
    model, _, _ = calibrated_model()
    nir.write(tmp_path / "model.nir", to_nir(fold(model), steps=24, dt=DT))
    code = (
        "import sys, nir\n"
        f"graph = nir.read({str(tmp_path / 'model.nir')!r})\n"
        "assert not any(name.startswith('spikescr') for name in sys.modules)\n"
        "print(len(graph.nodes), graph.input_type['input'][0], graph.output_type['output'][0])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert run.stdout.split() == [str(len(to_nir(fold(model), steps=24, dt=DT).nodes)), "12", "5"]


def test_write_read_write_gives_the_same_bytes(tmp_path: Path) -> None:
    model, _, _ = calibrated_model()
    metadata = {"spikescr.classes": '["a", "b"]', "a.first": 3}
    nir.write(tmp_path / "one.nir", to_nir(fold(model), steps=24, dt=DT, metadata=metadata))
    nir.write(tmp_path / "two.nir", nir.read(tmp_path / "one.nir"))
    assert (tmp_path / "one.nir").read_bytes() == (tmp_path / "two.nir").read_bytes()


def test_only_standard_nodes_and_the_three_packed_operations_appear() -> None:
    model, _, _ = calibrated_model()
    graph = to_nir(fold(model), steps=24, dt=DT)
    packed = {}
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            packed[name] = node.metadata["spikescr.op"]
            body = [n for n in node.nodes.values() if isinstance(n, nir.Linear)]
            assert len(body) == 1
            assert np.isnan(body[0].weight).all(), "a tool that ignores the metadata must get NaN"
        else:
            assert type(node) in {nir.Input, nir.Output, nir.Linear, nir.Scale, nir.Delay, nir.LIF}
    assert packed == {
        "sem.gate": "gate",
        "blocks.0.ssa.q_rotated.rotary": "rotary",
        "blocks.0.ssa.k_rotated.rotary": "rotary",
        "blocks.0.ssa.attention.product": "attention",
        "blocks.0.sgc.depthwise.gate": "gate",
        "blocks.0.sgc.gated.gate": "gate",
    }


def test_neurons_are_the_training_neuron_in_nir_terms() -> None:
    model, _, _ = calibrated_model()
    for node in to_nir(fold(model), steps=24, dt=DT).nodes.values():
        if isinstance(node, nir.LIF):
            np.testing.assert_array_equal(DT / node.tau, 0.5)
            np.testing.assert_array_equal(node.r * (DT / node.tau), 1.0)
            assert (node.v_threshold < 1).all()
            assert (np.nextafter(node.v_threshold, 2) == 1).all()
            assert not node.v_leak.any()
            assert not node.v_reset.any()


def test_unfolded_model_is_refused_by_name() -> None:
    model, _, _ = calibrated_model()
    with pytest.raises(ExportError, match=r"sem\.current: has batch normalisation; fold the model"):
        to_nir(model, steps=24, dt=DT)
