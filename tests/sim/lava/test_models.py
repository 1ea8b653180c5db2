"""Every type of operation, alone and in random networks, against loops written from the docstrings of `sim.program`."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from spikescr.errors import BackendError
from spikescr.sim.program import (
    Attention,
    DelayLine,
    Gate,
    Neuron,
    Port,
    Program,
    Rotary,
    Select,
    Signal,
    Sink,
    Source,
    Synapse,
    Tap,
)
from spikescr.sim.recording import KINDS

pytestmark = pytest.mark.lava

CLOCK, SPIKES, VALUES = Signal.CLOCK, Signal.SPIKES, Signal.VALUES


def port(*sources, width, signal=SPIKES):
    return Port(tuple(sources), width, signal)


def source(name, width, signal=SPIKES):
    return Source(name=name, width=width, signal=signal, latency=0)


def clock():
    return source("clock", 1, CLOCK)


def sink(name, of, width, signal=VALUES):
    return Sink(name=name, width=width, signal=signal, x=port(of, width=width, signal=signal))


def random_neuron(rng, name, x, width, latency=None):
    return Neuron(
        name=name,
        width=width,
        signal=SPIKES,
        latency=latency,
        x=port(*x, width=width, signal=VALUES),
        decay=rng.uniform(0.3, 0.9, width),
        gain=rng.uniform(0.5, 1.5, width),
        drive=rng.normal(0, 0.05, width),
        threshold=rng.uniform(0.5, 1.5, width),
        v_reset=rng.normal(0, 0.2, width),
    )


def program(*operations, steps, period):
    return Program(tuple(operations), steps, 1 / steps, period)


def oracle(program, inputs):
    """(spikes, membranes, outputs, counts) of a program, sample by sample, step by step, from the whole past.

    counts[operation, kind] has shape (period, B).
    """
    samples = next(iter(inputs.values())).shape[1]
    shape = (program.period, samples)
    counts = defaultdict(lambda: np.zeros(shape, int))
    series = {o.name: np.zeros((*shape, o.width)) for o in program.operations}
    membranes = {o.name: np.zeros((*shape, o.width)) for o in program.of_type(Neuron)}
    for b in range(samples):
        for n in range(program.period):
            for o in program.operations:

                def at(name, m, o=o, b=b):
                    """The port `name` of o at step m; zero before the first step."""
                    p = getattr(o, name)
                    return sum((series[s][m, b] for s in p.sources if m >= 0), np.zeros(p.width))

                def add(kind, amount, o=o, b=b, n=n):
                    counts[o.name, kind][n, b] += int(amount)

                if isinstance(o, Source):
                    y = inputs[o.name][n, b] if n < program.steps else 0
                elif isinstance(o, Neuron):
                    y = neuron(o, n, at, add, membranes[o.name][:, b], ticks_of(program, inputs, b))
                else:
                    y = MEANING[type(o)](o, n, at, add)
                series[o.name][n, b] = y
    spikes = {name: series[name] == 1 for name in membranes}
    return spikes, membranes, {o.name: series[o.name] for o in program.of_type(Sink)}, counts


def ticks_of(program, inputs, b):
    """The valid steps of sample b."""
    clocks = [o.name for o in program.of_type(Source) if o.signal is CLOCK]
    return inputs[clocks[0]][:, b].sum() if clocks else program.steps


def neuron(o, n, at, add, membrane, ticks):
    before = np.zeros(o.width) if n == 0 else np.where(membrane[n - 1] > o.threshold, o.v_reset, membrane[n - 1])
    membrane[n] = before * o.decay + o.gain * at("x", n) + o.drive
    y = (membrane[n] > o.threshold).astype(float)
    add("fired", y.sum())
    if o.latency is None or o.latency <= n < o.latency + ticks:
        add("neuron", o.width)
    return y


def gate(o, n, at, add):
    s = at("spike", n)
    if o.spike.signal is not CLOCK:
        add("spikes", s.sum())
    return np.array([value if s[i % len(s)] == 1 else 0.0 for i, value in enumerate(at("value", n))])


def count_entries(x, add, fan_out=0):
    entries, graded = np.count_nonzero(x), np.count_nonzero((x != 0) & (x != 1))
    for kind, amount in (("entries", entries), ("graded", graded)):
        add(kind, amount)
        add({"entries": "synops", "graded": "synops_graded"}[kind], fan_out * amount)


def synapse(o, n, at, add):
    def number(x):
        return np.count_nonzero(x) if o.x.signal is VALUES else x.sum()

    y = np.zeros(o.width)
    cost, entries, graded = 0, 0, 0
    for tap in o.taps:
        x = at("x", n - tap.delay)
        y += tap.weight * x if tap.weight.ndim == 1 else np.array([row @ x for row in tap.weight])
        for value, column in zip(x, np.atleast_2d(tap.weight).T, strict=True):
            reached = len(column) if o.x.signal is CLOCK else np.count_nonzero(column)
            cost += reached * (value if o.x.signal is not VALUES else value != 0)
            entries += reached * (value != 0)
            graded += reached * (value not in (0, 1))
    kind = {SPIKES: "ac", VALUES: "mac", CLOCK: "bias"}[o.x.signal]
    add("spikes", number(at("x", n)))
    add(kind, cost)
    if kind != "bias":
        count_entries(at("x", n), add)
        add("synops", entries)
        add("synops_graded", graded)
    if o.bias is not None:
        y += o.bias * at("clock", n)[0]
        add("bias", o.width * at("clock", n)[0])
    if o.gated and at("clock", n)[0] == 0:
        if kind == "ac":
            add("discarded", cost)
        if kind != "bias":
            add("synops_discarded", entries)
    return y


def rotary(o, n, at, add):
    x = at("x", n)
    add("spikes", x.sum())
    add("ac", 2 * x.sum())
    count_entries(x, add, fan_out=2)
    y = np.zeros(o.width)
    if at("clock", n)[0] == 1:
        p = int(sum(at("clock", m)[0] for m in range(n)))
        half = o.cos.shape[1]
        for h in range(o.heads):
            for i in range(half):
                c, s, j = o.cos[p, i], o.sin[p, i], 2 * (h * half + i)
                y[j] = x[j] * c - x[j + 1] * s
                y[j + 1] = x[j] * s + x[j + 1] * c
    return y


def attention(o, n, at, add):
    def number(name):
        x = at(name, n)
        return np.count_nonzero(x) if getattr(o, name).signal is VALUES else x.sum()

    def heads(name, m):
        return np.split(at(name, m), o.heads)

    add("spikes", number("q") + number("k") + number("v"))
    ticks = [m for m in range(n + 1) if at("clock", m)[0] == 1]
    y = np.zeros((o.heads, o.width // o.heads))
    t = n - o.steps
    for h in range(o.heads):
        if n in ticks:
            add("ac", np.count_nonzero(heads("k", n)[h]) * np.count_nonzero(heads("v", n)[h]))
        if t in ticks:
            state = sum(np.outer(heads("k", m)[h], heads("v", m)[h]) for m in ticks)
            q = heads("q", t)[h]
            y[h] = o.scale * (q @ state)
            add("ac", np.count_nonzero(q) * y.shape[1])
            for m in ticks:
                add("ac_quadratic", np.count_nonzero((q != 0) & (heads("k", m)[h] != 0)))
                add("ac_quadratic", np.count_nonzero(heads("v", m)[h]))
    return np.concatenate(y)


MEANING = {
    Sink: lambda o, n, at, add: at("x", n),
    DelayLine: lambda o, n, at, add: at("x", n - o.delay),
    Select: lambda o, n, at, add: np.array([at("x", n)[i] if i >= 0 else 0.0 for i in o.index]),
    Gate: gate,
    Synapse: synapse,
    Rotary: rotary,
    Attention: attention,
}


def same(recording, program, inputs):
    """A recording equals the oracle: spikes and counts exactly, membranes and outputs to 1e-12."""
    spikes, membranes, outputs, counts = oracle(program, inputs)
    assert set(recording.spikes) == set(spikes)
    assert set(recording.outputs) == set(outputs)
    for name, expected in spikes.items():
        np.testing.assert_array_equal(recording.spikes[name], expected, name)
        np.testing.assert_allclose(recording.membranes[name], membranes[name], rtol=0, atol=1e-12, err_msg=name)
    for name, expected in outputs.items():
        np.testing.assert_allclose(recording.outputs[name], expected, rtol=0, atol=1e-12, err_msg=name)
    for operation in program.operations:
        for kind in KINDS:
            actual = recording.counts.per_step(operation.name, kind)
            np.testing.assert_array_equal(actual, counts[operation.name, kind], f"{operation.name} {kind}")


def clock_of(steps, valid):
    """A clock (T, B, 1) that ticks `valid[b]` times for sample b."""
    return (np.arange(steps)[:, None] < np.asarray(valid)).astype(float)[..., None]


def test_tapped_synapse_sums_delayed_inputs_and_counts_every_tap(build):
    rng = np.random.default_rng(1)
    taps = (Tap(0, rng.normal(size=(3, 2))), Tap(2, rng.normal(size=(3, 2))), Tap(5, rng.normal(size=(3, 2))))
    p = program(
        source("x", 2),
        Synapse(name="s", width=3, signal=VALUES, x=port("x", width=2), taps=taps),
        sink("out", "s", 3),
        steps=3,
        period=9,
    )
    x = np.zeros((3, 1, 2))
    x[0, 0] = [1, 2]  # three events at step 0
    x[1, 0] = [0, 1]  # one at step 1
    recording = build(p, 1).run({"x": x})
    out = recording.outputs["out"][:, 0]
    first, second = x[0, 0], x[1, 0]
    expected = np.zeros((9, 3))
    for tap in taps:
        expected[tap.delay] += tap.weight @ first
        expected[tap.delay + 1] += tap.weight @ second
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-12)
    assert recording.counts.per_step("s", "spikes")[:, 0].tolist() == [3, 1, 0, 0, 0, 0, 0, 0, 0]
    # 3 events x fan-out 3 at steps 0, 2, 5; 1 event x fan-out 3 a step later each
    assert recording.counts.per_step("s", "ac")[:, 0].tolist() == [9, 3, 9, 3, 0, 9, 3, 0, 0]
    assert recording.counts.total("mac") == 0


def test_depthwise_synapse_costs_one_accumulation_for_each_tap_and_event(build):
    taps = tuple(Tap(k, np.array([1.0, 10.0]) * (k + 1)) for k in range(3))
    p = program(
        source("x", 2),
        Synapse(name="s", width=2, signal=VALUES, x=port("x", width=2), taps=taps),
        sink("out", "s", 2),
        steps=2,
        period=4,
    )
    recording = build(p, 1).run({"x": np.array([[[1.0, 0.0]], [[0.0, 1.0]]])})
    assert recording.outputs["out"][:, 0].tolist() == [[1, 0], [2, 10], [3, 20], [0, 30]]
    # one event at step 0 and one at step 1, each over three taps of fan-out 1
    assert recording.counts.per_step("s", "ac")[:, 0].tolist() == [1, 2, 2, 1]


def test_bias_and_gating_are_counted_by_the_clock_of_each_sample(build):
    p = program(
        source("x", 2),
        clock(),
        Synapse(
            name="s",
            width=3,
            signal=VALUES,
            x=port("x", width=2),
            taps=(Tap(0, np.ones((3, 2))),),
            bias=np.array([0.5, -1.0, 2.0]),
            clock=port("clock", width=1, signal=CLOCK),
            gated=True,
        ),
        sink("out", "s", 3),
        steps=4,
        period=4,
    )
    x = np.ones((4, 2, 2))
    counts = build(p, 2).run({"x": x, "clock": clock_of(4, [4, 1])}).counts
    assert counts.per_step("s", "bias").T.tolist() == [[3, 3, 3, 3], [3, 0, 0, 0]]  # width 3 for every tick
    assert counts.per_step("s", "ac").T.tolist() == [[6, 6, 6, 6], [6, 6, 6, 6]]  # 2 events x fan-out 3
    assert counts.per_step("s", "discarded").T.tolist() == [[0, 0, 0, 0], [0, 6, 6, 6]]  # those without a tick


def test_real_valued_and_clocked_inputs_are_not_accumulations(build):
    p = program(
        source("x", 3, VALUES),
        clock(),
        Synapse(
            name="mac", width=2, signal=VALUES, x=port("x", width=3, signal=VALUES), taps=(Tap(0, np.ones((2, 3))),)
        ),
        Synapse(
            name="bias", width=2, signal=VALUES, x=port("clock", width=1, signal=CLOCK), taps=(Tap(1, np.ones((2, 1))),)
        ),
        sink("out", "mac", 2),
        sink("offset", "bias", 2),
        steps=2,
        period=3,
    )
    recording = build(p, 1).run({"x": np.array([[[0.5, 0.0, -2.0]], [[0.0, 0.0, 0.25]]]), "clock": clock_of(2, [1])})
    counts = recording.counts
    assert counts.per_step("mac", "mac")[:, 0].tolist() == [4, 2, 0]  # 2 and 1 non-zero inputs x fan-out 2
    assert counts.per_step("mac", "spikes")[:, 0].tolist() == [2, 1, 0]
    assert counts.per_step("bias", "bias")[:, 0].tolist() == [0, 2, 0]  # one tick x fan-out 2, one step later
    assert counts.total("ac") == 0
    assert recording.outputs["out"][:, 0].tolist() == [[-1.5, -1.5], [0.25, 0.25], [0, 0]]
    assert recording.outputs["offset"][:, 0].tolist() == [[0, 0], [1, 1], [0, 0]]


def test_neuron_fires_above_threshold_not_at_it_and_resets(build):
    one = np.ones(1)
    p = program(
        source("x", 1, VALUES),
        Neuron(
            name="lif",
            width=1,
            signal=SPIKES,
            x=port("x", width=1, signal=VALUES),
            decay=0.5 * one,
            gain=one,
            drive=0 * one,
            threshold=one,
            v_reset=-0.25 * one,
        ),
        steps=5,
        period=5,
    )
    x = np.array([1.0, 0.5, 0.75, 1.0, 0.0])[:, None, None]
    recording = build(p, 1, record_membranes=True).run({"x": x})
    # 1 (equal: silent), 0.5 + 0.5 = 1 (silent), 0.5 + 0.75 = 1.25 fires; -0.125 + 1, then half of it
    assert recording.membranes["lif"][:, 0, 0].tolist() == [1.0, 1.0, 1.25, 0.875, 0.4375]
    assert recording.spikes["lif"][:, 0, 0].tolist() == [False, False, True, False, False]
    assert recording.counts.per_step("lif", "fired")[:, 0].tolist() == [0, 0, 1, 0, 0]
    assert recording.counts.per_step("lif", "neuron")[:, 0].tolist() == [1, 1, 1, 1, 1]  # no latency: every step


def test_neuron_updates_are_counted_in_each_samples_window_at_its_latency(build):
    rng = np.random.default_rng(2)
    p = program(
        clock(),
        Synapse(
            name="s", width=3, signal=VALUES, x=port("clock", width=1, signal=CLOCK), taps=(Tap(2, np.ones((3, 1))),)
        ),
        random_neuron(rng, "lif", ["s"], 3, latency=2),
        steps=4,
        period=6,
    )
    counts = build(p, 2).run({"clock": clock_of(4, [4, 1])}).counts
    # width 3 from step 2 on for 4 and for 1 steps
    assert counts.per_step("lif", "neuron").T.tolist() == [[0, 0, 3, 3, 3, 3], [0, 0, 3, 0, 0, 0]]


def test_select_routes_and_leaves_unwired_channels_at_zero(build):
    p = program(
        source("x", 3, VALUES),
        Select(name="w", width=4, signal=VALUES, x=port("x", width=3, signal=VALUES), index=np.array([2, -1, 0, 2])),
        sink("out", "w", 4),
        steps=1,
        period=1,
    )
    recording = build(p, 1).run({"x": np.array([[[1.5, 2.5, 3.5]]])})
    assert recording.outputs["out"][0, 0].tolist() == [3.5, 0.0, 1.5, 3.5]
    assert recording.counts.table.sum() == 0


def test_delay_of_zero_and_of_three_steps(build):
    p = program(
        source("x", 1),
        DelayLine(name="d0", width=1, signal=SPIKES, x=port("x", width=1), delay=0),
        DelayLine(name="d3", width=1, signal=SPIKES, x=port("x", width=1), delay=3),
        sink("a", "d0", 1, SPIKES),
        sink("b", "d3", 1, SPIKES),
        steps=2,
        period=6,
    )
    recording = build(p, 1).run({"x": np.array([[[1.0]], [[2.0]]])})
    assert recording.outputs["a"][:, 0, 0].tolist() == [1, 2, 0, 0, 0, 0]
    assert recording.outputs["b"][:, 0, 0].tolist() == [0, 0, 0, 1, 2, 0]


def test_several_sources_of_a_port_are_summed(build):
    p = program(
        source("a", 2),
        source("b", 2),
        source("c", 2),
        Synapse(
            name="s", width=1, signal=VALUES, x=port("a", "b", "c", width=2), taps=(Tap(0, np.array([[1.0, 10]])),)
        ),
        sink("out", "s", 1),
        steps=1,
        period=1,
    )
    inputs = {"a": np.array([[[1.0, 0]]]), "b": np.array([[[1.0, 1]]]), "c": np.array([[[1.0, 2]]])}
    recording = build(p, 1).run(inputs)
    assert recording.outputs["out"].item() == 33.0  # 3 x 1 + 3 x 10
    assert recording.counts.per_step("s", "ac").item() == 6  # 6 events x fan-out 1


def test_rotary_counts_positions_by_ticks_and_refuses_more_than_its_tables_have(build):
    p = program(
        source("x", 2),
        clock(),
        Rotary(
            name="turn",
            width=2,
            signal=VALUES,
            x=port("x", width=2),
            clock=port("clock", width=1, signal=CLOCK),
            heads=1,
            cos=np.array([[1.0], [0.0]]),
            sin=np.array([[0.0], [1.0]]),
        ),
        sink("out", "turn", 2),
        steps=4,
        period=4,
    )
    backend = build(p, 1)
    x = np.tile([1.0, 2.0], (4, 1, 1))
    recording = backend.run({"x": x, "clock": np.array([0.0, 1.0, 0.0, 1.0])[:, None, None]})
    # no tick: 0; position 0: as it is; no tick; position 1: a quarter turn
    assert recording.outputs["out"][:, 0].tolist() == [[0, 0], [1, 2], [0, 0], [-2, 1]]
    assert recording.counts.per_step("turn", "spikes")[:, 0].tolist() == [3, 3, 3, 3]
    assert recording.counts.per_step("turn", "ac")[:, 0].tolist() == [6, 6, 6, 6]  # 3 events x 2 table entries
    with pytest.raises(BackendError, match=r"^lava: turn at step 2: IndexError: more ticks than the 2 positions"):
        backend.run({"x": x, "clock": clock_of(4, [4])})


def test_attention_by_hand(build):
    width = 2
    p = program(
        source("q", width),
        source("k", width),
        source("v", width),
        clock(),
        Attention(
            name="a",
            width=width,
            signal=VALUES,
            q=port("q", width=width),
            k=port("k", width=width),
            v=port("v", width=width),
            clock=port("clock", width=1, signal=CLOCK),
            heads=1,
            scale=0.5,
            steps=2,
        ),
        sink("out", "a", width),
        steps=2,
        period=4,
    )
    inputs = {
        "q": np.array([[[1.0, 0.0]], [[1.0, 1.0]]]),
        "k": np.array([[[1.0, 1.0]], [[0.0, 1.0]]]),
        "v": np.array([[[1.0, 1.0]], [[1.0, 0.0]]]),
        "clock": clock_of(2, [2]),
    }
    recording = build(p, 1).run(inputs)
    # A = [1 1]^T [1 1] + [0 1]^T [1 0] = [[1, 1], [2, 1]]; q A = [1, 1] and [3, 2]
    assert recording.outputs["out"][:, 0].tolist() == [[0, 0], [0, 0], [0.5, 0.5], [1.5, 1.0]]
    # writing 2 x 2, 1 x 1; reading 1 and 2 spikes of q x D = 2
    assert recording.counts.per_step("a", "ac")[:, 0].tolist() == [4, 1, 2, 4]
    assert recording.counts.per_step("a", "spikes")[:, 0].tolist() == [5, 4, 0, 0]
    # coincidences 1 + 0, then 2 + 1; and 3 spikes of v for each of the two positions
    assert recording.counts.per_step("a", "ac_quadratic")[:, 0].tolist() == [0, 0, 4, 6]


def random_program(rng):
    """A block with everything in it: taps, bias, gates, residual sums, rotary, attention, two sinks."""
    steps, heads, half = int(rng.integers(6, 10)), int(rng.integers(2, 4)), int(rng.integers(1, 4))
    width, inputs = heads * 2 * half, int(rng.integers(2, 6))
    clocks = {0: "clock"}
    operations = [source("x", inputs), clock(), source("z", inputs, VALUES)]

    def tick(latency):
        if latency not in clocks:
            clocks[latency] = f"clock{latency}"
            operations.append(
                DelayLine(
                    name=clocks[latency],
                    width=1,
                    signal=CLOCK,
                    latency=latency,
                    x=port("clock", width=1, signal=CLOCK),
                    delay=latency,
                )
            )
        return port(clocks[latency], width=1, signal=CLOCK)

    def dense(name, x, signal, columns, latency, delays=(0,), gated=False):
        taps = tuple(Tap(d, rng.normal(0.4, 0.8, (width, columns))) for d in delays)
        operations.append(
            Synapse(
                name=name,
                width=width,
                signal=VALUES,
                latency=latency,
                x=port(*x, width=columns, signal=signal),
                taps=taps,
                bias=rng.normal(0.6, 0.4, width),
                clock=tick(latency),
                gated=gated,
            )
        )

    def add_gate(name, value, spike, latency, signal=SPIKES):
        operations.append(
            Gate(
                name=name,
                width=width,
                signal=signal,
                latency=latency,
                value=port(value, width=width, signal=signal),
                spike=spike,
            )
        )

    dense("embed", ["x"], SPIKES, inputs, 1, (0, 1, 2), gated=True)
    dense("real", ["z"], VALUES, inputs, 1, (1,))
    operations.append(random_neuron(rng, "n1", ["embed", "real"], width, 1))
    add_gate("g1", "n1", tick(1), 1)
    taps = tuple(Tap(int(d), rng.normal(0.8, 1, width)) for d in rng.choice(7, 4, replace=False))
    operations.append(
        Synapse(name="depth", width=width, signal=VALUES, latency=3, x=port("g1", width=width), taps=taps)
    )
    operations.append(random_neuron(rng, "n2", ["depth"], width))
    operations.append(
        DelayLine(name="short", width=width, signal=SPIKES, latency=3, x=port("g1", width=width), delay=2)
    )
    residual = ["n2", "short"]
    for letter in "qkv":
        dense(letter, residual, SPIKES, width, 3)
        operations.append(random_neuron(rng, f"n{letter}", [letter], width, 3))
    angle = rng.normal(0, 1, (steps, half))
    operations.append(
        Rotary(
            name="turn",
            width=width,
            signal=VALUES,
            latency=3,
            x=port("nq", width=width),
            clock=tick(3),
            heads=heads,
            cos=np.cos(angle),
            sin=np.sin(angle),
        )
    )
    operations.append(
        Attention(
            name="attention",
            width=width,
            signal=VALUES,
            latency=3 + steps,
            q=port("turn", width=width, signal=VALUES),
            k=port("nk", width=width),
            v=port("nv", *residual, width=width),
            clock=tick(3),
            heads=heads,
            scale=0.3,
            steps=steps,
        )
    )
    late = 3 + steps
    operations.append(random_neuron(rng, "n3", ["attention"], width, late))
    dense("last", ["n3"], SPIKES, width, late, gated=True)
    add_gate("g3", "last", port("n3", width=width), late, VALUES)
    add_gate("g4", "last", tick(late), late, VALUES)
    index = rng.integers(-1, width, 3)
    operations.append(
        Select(name="pick", width=3, signal=VALUES, x=port("g3", "g4", width=width, signal=VALUES), index=index)
    )
    operations += [sink("out", "pick", 3), sink("heads", "attention", width)]
    return program(*operations, steps=steps, period=late + steps + 7)


def random_inputs(rng, p, valid):
    samples, steps = len(valid), p.steps
    ticks = clock_of(steps, valid)
    width = p["x"].width
    return {
        "x": rng.poisson(0.5, (steps, samples, width)) * ticks,
        "z": rng.normal(0, 1, (steps, samples, width)) * ticks,
        "clock": ticks,
    }


@pytest.mark.parametrize("seed", range(4))
def test_random_network_equals_the_oracle(build, seed):
    rng = np.random.default_rng(seed)
    p = random_program(rng)
    valid = [p.steps, 1, p.steps - 2, 3]
    inputs = random_inputs(rng, p, valid)
    recording = build(p, len(valid), record_membranes=True).run(inputs)
    fired = {name: int(spikes.sum()) for name, spikes in recording.spikes.items()}
    assert all(number >= 5 for number in fired.values()), fired  # a silent network would prove nothing
    same(recording, p, inputs)


def test_batches_start_from_silence_and_may_be_smaller_than_the_network(build):
    rng = np.random.default_rng(11)
    p = random_program(rng)
    backend = build(p, 3, record_membranes=True)
    batches = [random_inputs(rng, p, valid) for valid in ([p.steps, 2, 4], [3], [p.steps, p.steps])]
    recordings = [backend.run(inputs) for inputs in batches]
    for recording, inputs in zip(recordings, batches, strict=True):
        same(recording, p, inputs)
