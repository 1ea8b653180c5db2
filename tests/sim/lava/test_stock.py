"""Lava's own Dense and LIF, as they ship, give the spikes that our synapse and neuron give."""

from __future__ import annotations

import logging

import numpy as np
import pytest
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
from spikescr.sim.program import Neuron, Port, Program, Signal, Source, Synapse, Tap

pytestmark = pytest.mark.lava

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


def stock_spikes(x, weight, threshold):
    """Spikes (steps, neurons) of Dense -> LIF for x (steps, inputs)."""
    sender = Sender(data=x.T)
    dense = Dense(weights=weight, num_message_bits=8)
    lif = LIF(shape=(NEURONS,), du=1.0, dv=0.5, vth=threshold)
    receiver = Receiver(shape=(NEURONS,), buffer=len(x))
    sender.s_out.connect(dense.s_in)
    dense.a_out.connect(lif.a_in)
    lif.s_out.connect(receiver.a_in)
    models = {
        sender: PySendModelFloat,
        dense: PyDenseModelFloat,
        lif: PyLifModelFloat,
        receiver: PyReceiveModelFloat,
    }
    try:
        receiver.run(RunSteps(len(x)), Chosen(models))
        return receiver.data.get().T == 1
    finally:
        receiver.stop()


@pytest.mark.usefixtures("quiet_lava")
@pytest.mark.filterwarnings("ignore:pandas not found:ImportWarning")  # networkx 2.8, while Lava compiles
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
    stock = stock_spikes(x, weight, threshold)
    np.testing.assert_array_equal(stock[1:], spikes[:-1])
    assert not stock[0].any()
    assert 0.1 < spikes.mean() < 0.9
