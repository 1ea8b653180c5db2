"""Installed frameworks: their graphs run by us, ours run by them, spike for spike on the same input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nir
import numpy as np
import pytest
from frameworks.catalogue import MODULES, cases, missing
from frameworks.comparison import changed, compare, execute

from spikescr.sim.lowering.graph_file import read_graph
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Neuron

STEPS, SAMPLES = 60, 2
# Differences that a framework's own ways explain; every other case has none.
EXPLAINED = {
    "snntorch.soft_reset",
    "norse.seconds",
    "norse.synaptic",
    "spikingjelly.at_threshold",
    "ours.norse_feed_forward",
    "ours.norse_recurrent",
    "ours.nirtorch_delayed_cycle",
}
UNWRITABLE = {("norse", "convolutional")}  # see test_defects
NAMES = {
    "snntorch": ("feed_forward", "synaptic", "recurrent", "convolutional", "soft_reset"),
    "norse": ("feed_forward", "convolutional", "seconds", "synaptic"),
    "spikingjelly": ("feed_forward", "synaptic", "convolutional", "at_threshold"),
    "ours": (
        "snntorch_feed_forward", "spikingjelly_feed_forward", "norse_feed_forward", "nirtorch_feed_forward",
        "spikingjelly_recurrent", "norse_recurrent", "nirtorch_recurrent", "nirtorch_delayed_cycle", "nirtorch_delays",
    ),
}  # fmt: skip


def _peer(name: str) -> None:
    if missing(name):
        pytest.skip(f"not installed: {', '.join(missing(name))}")


@pytest.mark.parametrize("backend", ["fast", pytest.param("lava", marks=pytest.mark.lava)])
@pytest.mark.parametrize(("peer", "name"), [(peer, name) for peer, names in NAMES.items() for name in names])
def test_every_spike_is_the_peers(peer: str, name: str, backend: str) -> None:
    _peer(peer)
    row = compare(cases(peer)[name](STEPS, SAMPLES), backend)  # type: ignore[arg-type]
    assert all(0.01 < rate < 0.9 for rate in row.rates.values()), row.rates
    assert row.neuron_steps >= 40 * STEPS * SAMPLES
    assert row.differing - row.explained == 0, row
    assert (row.differing > 0) == (f"{peer}.{name}" in EXPLAINED)
    if name != "at_threshold":  # whose membranes are exact
        assert row.margin > 1e-7  # far above rounding; constants of imported Norse neurons are float32


@pytest.mark.parametrize("peer", MODULES)
def test_no_case_is_left_out_here(peer: str) -> None:
    _peer(peer)
    assert tuple(cases(peer)) == NAMES[peer]


def test_recurrent_and_convolutional_graphs_of_others_have_what_they_say() -> None:
    _peer("snntorch")
    _peer("spikingjelly")
    recurrent = cases("snntorch")["recurrent"](2, 1)
    program = lower(recurrent.nir, dt=recurrent.dt, steps=2)
    assert program.cyclic
    assert {o.name for o in program.of_type(Neuron)} == {"1.lif", "3.lif"}
    for peer in ("snntorch", "spikingjelly"):
        kinds = {type(node) for node in cases(peer)["convolutional"](2, 1).nir.nodes.values()}
        assert kinds >= {nir.Conv2d, nir.AvgPool2d, nir.Flatten, nir.Affine, nir.LIF}


def test_a_changed_weight_is_seen() -> None:
    """The comparison can fail: one synapse of one layer, 1 % off."""
    _peer("snntorch")
    case = cases("snntorch")["recurrent"](STEPS, SAMPLES)

    def off(name: str, node: nir.NIRNode) -> None:
        if name == "0":
            node.weight = node.weight.copy()
            node.weight[0] *= 1.01

    row = compare(replace(case, nir=changed(case.nir, off)), "fast")
    assert row.differing > 0
    assert row.explained == 0
    assert np.isfinite(row.margin)


@pytest.mark.parametrize(
    ("peer", "name"), [(p, n) for p, names in NAMES.items() if p != "ours" for n in names if (p, n) not in UNWRITABLE]
)
def test_graph_of_a_peer_does_the_same_from_a_file(peer: str, name: str, tmp_path: Path) -> None:
    _peer(peer)
    case = cases(peer)[name](20, 1)
    graph = case.mended or case.nir
    nir.write(tmp_path / "peer.nir", graph)
    _, expected = execute(graph, case.x, case.dt, "fast")
    _, got = execute(read_graph(tmp_path / "peer.nir", type_check=False), case.x, case.dt, "fast")
    for neuron, spikes in expected.spikes.items():
        assert spikes.any()
        np.testing.assert_array_equal(got.spikes[neuron], spikes, err_msg=neuron)
