"""Lava's own Dense and LIF, as they ship, give the spikes that our synapse and neuron give."""

from __future__ import annotations

import logging

import nir
import numpy as np
import pytest
from from_torch import SMALL, calibrated_model, fold, to_nir
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import RunConfig
from lava.proc.dense.models import PyDenseModelFloat
from lava.proc.dense.process import Dense
from lava.proc.io.sink import PyReceiveModelFloat
from lava.proc.io.sink import RingBuffer as Receiver
from lava.proc.io.source import PySendModelFloat
from lava.proc.io.source import RingBuffer as Sender
from lava.proc.lif.models import PyLifModelFloat
from lava.proc.lif.process import LIF

import spikescr.sim.lava  # noqa: F401  (makes Lava importable)
from spikescr.sim.lava.backend import LavaBackend
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Neuron, Port, Program, Signal, Source, Synapse, Tap

pytestmark = [
    pytest.mark.lava,
    pytest.mark.filterwarnings("ignore:pandas not found:ImportWarning"),  # networkx 2.8, while Lava compiles
]

STEPS, INPUTS, NEURONS = 40, 12, 9


class Chosen(RunConfig):
    """The floating point model of each process."""

    def __init__(self, chosen):
        super().__init__()
        self.exception_proc_model_map = chosen


@pytest.fixture
def quiet_lava():
    """Takes off the handlers that Lava's processes add to the root logger."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    root.handlers[:] = before


def stock_spikes(paths, threshold):
    """Spikes (steps, neurons) of LIF behind one Dense for each (weight, x) of `paths`; x (steps, inputs)."""
    neurons, steps = len(paths[0][0]), len(paths[0][1])
    lif = LIF(shape=(neurons,), du=1.0, dv=0.5, vth=threshold)
    receiver = Receiver(shape=(neurons,), buffer=steps)
    models = {lif: PyLifModelFloat, receiver: PyReceiveModelFloat}
    for weight, x in paths:
        sender = Sender(data=x.T)
        dense = Dense(weights=weight, num_message_bits=8)
        sender.s_out.connect(dense.s_in)
        dense.a_out.connect(lif.a_in)
        models |= {sender: PySendModelFloat, dense: PyDenseModelFloat}
    lif.s_out.connect(receiver.a_in)
    try:
        receiver.run(RunSteps(steps), Chosen(models))
        return receiver.data.get().T == 1
    finally:
        receiver.stop()


@pytest.mark.usefixtures("quiet_lava")
@pytest.mark.parametrize("graded", [False, True])
def test_stock_dense_and_lif_agree_spike_for_spike_one_step_later(build, graded):
    rng = np.random.default_rng(5 + graded)
    x = rng.poisson(0.3, (STEPS, INPUTS)).astype(float)
    if not graded:
        x = np.minimum(x, 1)
    weight = rng.normal(0.2, 0.5, (NEURONS, INPUTS))
    threshold = 0.8
    one = np.ones(NEURONS)
    synapse = Synapse(
        name="dense",
        width=NEURONS,
        signal=Signal.VALUES,
        x=Port(("x",), INPUTS, Signal.SPIKES),
        taps=(Tap(0, weight),),
    )
    neuron = Neuron(
        name="lif",
        width=NEURONS,
        signal=Signal.SPIKES,
        x=Port(("dense",), NEURONS, Signal.VALUES),
        decay=0.5 * one,
        gain=one,
        drive=0 * one,
        threshold=threshold * one,
        v_reset=0 * one,
    )
    source = Source(name="x", width=INPUTS, signal=Signal.SPIKES)
    ours = build(Program((source, synapse, neuron), STEPS, 1 / STEPS, STEPS), 1).run({"x": x[:, None]})
    spikes = ours.spikes["lif"][:, 0]
    # Dense puts out at a step what it accumulated in the step before.
    stock = stock_spikes([(weight, x)], threshold)
    np.testing.assert_array_equal(stock[1:], spikes[:-1])
    assert not stock[0].any()
    assert 0.1 < spikes.mean() < 0.9


EXPORTED = ("blocks.0.ssa.q", "blocks.0.mlp1.expand")  # sees spikes of one layer; sees the residual sum of two


def on_a_grid(graph, layer):
    """Weights and bias of a layer in eighths: its membranes are exact, and some meet the threshold exactly."""
    for name in (f"{layer}.synapse", f"{layer}.bias"):
        graph.nodes[name].weight[:] = np.rint(graph.nodes[name].weight * 8) / 8


@pytest.fixture(scope="module", params=["as exported", "membranes at the threshold"])
def executed(request):
    """An exported SpikeSCR that fires in every layer, and what one sample of it did in our Lava backend."""
    model, x, steps = calibrated_model(SMALL, seed=1, samples=3, window=20)
    graph = to_nir(fold(model), steps=20, dt=0.025)
    if request.param == "membranes at the threshold":
        for layer in EXPORTED:
            on_a_grid(graph, layer)
    program = lower(graph)
    clock = (np.arange(20) < int(steps[1])).astype(float)[:, None, None]
    with LavaBackend(program, 1, record_membranes=True) as backend:
        recording = backend.run({"input": x[:, 1:2].numpy(), "clock": clock})
    clock = np.concatenate([clock[:, 0], np.zeros((program.period - 20, 1))])
    return graph, recording, clock, request.param != "as exported"


def arriving(graph, recording, clock, node):
    """What the node received (period, inputs): recorded spikes, as late as the graph's Delays make them, summed."""
    total = 0.0
    for source in (a for a, b in graph.edges if b == node):
        found = graph.nodes[source]
        if isinstance(found, nir.Delay):
            steps = round(found.delay[0] / 0.025)
            whole = arriving(graph, recording, clock, source)
            total = total + np.concatenate([np.zeros((steps, whole.shape[1])), whole[:-steps]])
        elif source == "clock":
            total = total + clock
        else:
            assert isinstance(found, nir.LIF)
            total = total + recording.spikes[source][:, 0]
    return total


@pytest.mark.usefixtures("quiet_lava")
@pytest.mark.parametrize("layer", EXPORTED)
def test_stock_dense_and_lif_fire_the_spikes_of_exported_layers(executed, layer):
    graph, recording, clock, ties = executed
    synapse, bias, lif = (graph.nodes[f"{layer}.{part}"] for part in ("synapse", "bias", "lif"))
    # The parameters of the stock LIF, du 1, dv 1/2 and no bias, are those of the graph; so is its threshold.
    np.testing.assert_array_equal(lif.tau, 0.05)
    np.testing.assert_array_equal(lif.r, 2.0)
    np.testing.assert_array_equal(lif.v_leak, 0.0)
    np.testing.assert_array_equal(lif.v_reset, 0.0)
    np.testing.assert_array_equal(lif.v_threshold, np.nextafter(1.0, 0.0))
    x, ticks = (arriving(graph, recording, clock, f"{layer}.{part}") for part in ("synapse", "bias"))
    assert set(np.unique(x)) == ({0, 1} if layer == "blocks.0.ssa.q" else {0, 1, 2})

    # One step more than ours: Dense puts out at a step what it accumulated in the step before.
    paths = [(node.weight, np.append(e, 0 * e[:1], axis=0)) for node, e in ((synapse, x), (bias, ticks))]
    stock = stock_spikes(paths, float(lif.v_threshold[0]))
    spikes, membranes = (of[f"{layer}.lif"][:, 0] for of in (recording.spikes, recording.membranes))
    np.testing.assert_array_equal(stock[1:], spikes)
    assert not stock[0].any()
    assert 0.04 < spikes.sum() / (ticks.sum() * spikes.shape[1]) < 0.9
    assert (membranes == 1.0).any() == ties
