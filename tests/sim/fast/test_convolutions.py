"""Convolutions of the fast backend are what loops over the definition give, bit by bit, however they are cut up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikescr.errors import BackendError
from spikescr.sim.fast import convolutions, plan
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.program import Convolution, Neuron, Port, Program, Signal, Sink, Source

REPEATABLE = settings(derandomize=True, database=None)
DECAY, GAIN = 0.75, 0.5


@dataclass(frozen=True)
class Case:
    """A convolution, what arrives (T, B, N), and what joins its output: values, spikes or nothing."""

    operation: Convolution
    x: np.ndarray
    other: np.ndarray | None
    soft: bool


@st.composite
def cases(draw: st.DrawFn) -> Case:
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    groups, inside = draw(st.sampled_from([(1, 1), (1, 3), (2, 1), (3, 2)]))
    each = draw(st.sampled_from([1, 2, 5, 9]))
    size, image = rng.integers(1, 4, 2), rng.integers(1, 7, 2)
    stride, padding, dilation = rng.integers(1, 4, 2), rng.integers(0, 3, 2), rng.integers(1, 3, 2)
    reach = (size - 1) * dilation + 1
    image = np.maximum(image, reach - 2 * padding)
    out = (image + 2 * padding - reach) // stride + 1
    signal = draw(st.sampled_from([Signal.SPIKES, Signal.VALUES]))
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 3)), groups * inside * int(image.prod()))
    x = (rng.random(shape) < rng.uniform(0, 1)) * (rng.normal(size=shape) if signal is Signal.VALUES else 1.0)
    if signal is Signal.SPIKES and draw(st.booleans()):
        x = x * rng.integers(1, 4, shape)  # sums of residuals
    if draw(st.booleans()):
        x[1:] = x[:1]  # an image that is held
    weight = rng.normal(size=(groups * each, inside, *size))
    weight[rng.random(weight.shape) < 0.1] = 0
    width = groups * each * int(out.prod())
    other = {
        "nothing": None,
        "values": rng.normal(size=(*shape[:2], width)),
        "spikes": (rng.random((*shape[:2], width)) < 0.3).astype(float),
    }[draw(st.sampled_from(["nothing", "values", "spikes"]))]
    operation = Convolution(
        name="convolution",
        width=width,
        signal=Signal.VALUES,
        x=Port(("x",), shape[2], signal),
        weight=weight,
        in_shape=(groups * inside, *image.tolist()),
        out_shape=(groups * each, *out.tolist()),
        stride=tuple(stride.tolist()),
        padding=tuple(padding.tolist()),
        dilation=tuple(dilation.tolist()),
        groups=groups,
        bias=rng.normal(size=groups * each) if draw(st.booleans()) else None,
    )
    return Case(operation, x, other, draw(st.booleans()))


def convolved(o: Convolution, x: np.ndarray) -> np.ndarray:
    """One step of one sample by the definition; terms are added in the order of the inputs' flat indices."""
    image, y = x.reshape(o.in_shape), np.zeros(o.out_shape)
    each, inside = o.out_shape[0] // o.groups, o.weight.shape[1]
    for out, i, j in np.ndindex(*o.out_shape):
        for c, k, m in np.ndindex(*o.weight.shape[1:]):
            row = i * o.stride[0] + k * o.dilation[0] - o.padding[0]
            column = j * o.stride[1] + m * o.dilation[1] - o.padding[1]
            if 0 <= row < o.in_shape[1] and 0 <= column < o.in_shape[2]:
                y[out, i, j] += image[out // each * inside + c, row, column] * o.weight[out, c, k, m]
        y[out, i, j] += 0 if o.bias is None else o.bias[out]
    return y.ravel()


def program(case: Case, *, neurons: bool) -> Program:
    o = case.operation
    sources = [Source(name="x", width=o.x.width, signal=o.x.signal)]
    reads = ("convolution",)
    if case.other is not None:
        carries = Signal.SPIKES if set(np.unique(case.other)) <= {0, 1} else Signal.VALUES
        sources.append(Source(name="other", width=o.width, signal=carries))
        reads = ("convolution", "other")
    port, each = Port(reads, o.width, Signal.VALUES), np.ones(o.width)
    threshold = 0.5 + np.arange(o.width) % 3 / 4 if case.soft else each
    neuron = Neuron(name="neuron", width=o.width, signal=Signal.SPIKES, x=port, decay=DECAY * each, gain=GAIN * each,
                    drive=0 * each, threshold=threshold, v_reset=0 * each, soft=case.soft)  # fmt: skip
    read = Port(("neuron",), o.width, Signal.SPIKES) if neurons else port
    sink = Sink(name="out", width=o.width, signal=read.signal, x=read)
    return Program((*sources, o, *([neuron] if neurons else []), sink), len(case.x), 0.01, len(case.x))


def run(case: Case, *, neurons: bool, **options: bool):
    inputs = {"x": case.x} if case.other is None else {"x": case.x, "other": case.other}
    made = program(case, neurons=neurons)
    return made, FastBackend(made, case.x.shape[1], **options).run(inputs)


@contextmanager
def cut(
    *, few: int = plan.FEW, at_once: int = 1 << 22, block: int = 1, tile: int = 1, rows: int = 1,
    multiplied: bool | None = None,
) -> Iterator[None]:  # fmt: skip
    """Other limits of what is done at once, and one way to sum."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "FEW", few)
        for name, value in {"WEIGHTS_AT_ONCE": at_once, "BLOCK": block, "TILE": tile, "ROWS": rows}.items():
            patch.setattr(convolutions, name, value)
        if multiplied is not None:
            patch.setattr(convolutions, "_multiplies", lambda *_: multiplied)
        yield


WAYS = {
    "as it is": {"rows": convolutions.ROWS},
    "planes where there are groups": {"few": 100},
    "gathered row by row": {"few": 0, "multiplied": False},
    "multiplied row by row": {"few": 0, "multiplied": True},
    "multiplied at once": {"few": 0, "rows": convolutions.ROWS, "multiplied": True},
    "blocks of one channel": {"few": 0, "at_once": 0, "tile": 1 << 20},
    "blocks, samples one by one": {"few": 0, "at_once": 0, "block": 200},
}


@pytest.mark.parametrize("way", WAYS)
@settings(REPEATABLE, max_examples=12)
@given(cases())
def test_sums_neurons_and_counts_are_those_of_loops(way: str, case: Case) -> None:
    o, (steps, samples) = case.operation, case.x.shape[:2]
    expected = np.stack([[convolved(o, case.x[n, b]) for b in range(samples)] for n in range(steps)])
    joined = expected if case.other is None else expected + case.other
    with cut(**WAYS[way]):
        _, summed = run(case, neurons=False)
        made, fired = run(case, neurons=True, record_membranes=True)
        _, bare = run(case, neurons=True, record_spikes=False)
    np.testing.assert_array_equal(summed.outputs["out"], joined)
    v, neuron = np.zeros((samples, o.width)), made["neuron"]
    for n in range(steps):
        v = v * DECAY + GAIN * joined[n]
        np.testing.assert_array_equal(fired.membranes["neuron"][n], v)
        spikes = v > neuron.threshold
        np.testing.assert_array_equal(fired.spikes["neuron"][n], spikes)
        np.testing.assert_array_equal(bare.outputs["out"][n], spikes)
        v = np.where(spikes, v - neuron.threshold if case.soft else 0, v)
    count_as_loops(case, fired)
    np.testing.assert_array_equal(fired.counts.table, bare.counts.table)


@pytest.mark.parametrize("way", ["gathered row by row", "multiplied at once"])
@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("each", [41, 79])
def test_sums_of_many_channels_are_those_of_loops(each: int, most: int, way: str) -> None:
    """As many as whole vectors and some more, for lists of up to 27 rows; `most`: events of a pixel at a step."""
    rng = np.random.default_rng(each)
    operation = Convolution(
        name="convolution", width=10 * each, signal=Signal.VALUES, x=Port(("x",), 84, Signal.SPIKES),
        weight=rng.normal(size=(each, 3, 3, 3)), in_shape=(3, 4, 7), out_shape=(each, 2, 5), stride=(1, 1),
        padding=(0, 0), dilation=(1, 1), groups=1,
    )  # fmt: skip
    x = (rng.random((4, 1, 84)) < np.array([0.1, 0.5, 0.8, 1])[:, None, None]) * rng.integers(1, most + 1, (4, 1, 84))
    with cut(**WAYS[way]):
        _, found = run(Case(operation, x.astype(float), None, soft=False), neurons=False)
    np.testing.assert_array_equal(found.outputs["out"][:, 0], [convolved(operation, x[n, 0]) for n in range(4)])


def count_as_loops(case: Case, recording) -> None:
    """Every event times the weights other than 0 that it meets."""
    o, x = case.operation, case.x
    ones = replace(o, weight=(o.weight != 0).astype(float), bias=None)
    live = x != 0
    real = o.x.signal is Signal.VALUES
    events = live.astype(float) if real else x
    told = {
        kind: recording.counts.per_step("convolution", kind) for kind in ("spikes", "ac", "mac", "synops", "graded")
    }
    for n, b in np.ndindex(*x.shape[:2]):
        assert told["spikes"][n, b] == events[n, b].sum()
        assert told["mac" if real else "ac"][n, b] == convolved(ones, events[n, b]).sum()
        assert told["synops"][n, b] == convolved(ones, live[n, b].astype(float)).sum()
        assert told["graded"][n, b] == (live & (x != 1))[n, b].sum()
    assert recording.counts.total("bias") == (0 if o.bias is None else x.shape[0] * x.shape[1] * o.width)


def test_a_membrane_that_is_not_finite_is_told_with_the_first_step_of_the_first_sample() -> None:
    weight = np.full((9, 1, 1, 1), 1e308)
    o = Convolution(name="convolution", width=36, signal=Signal.VALUES, x=Port(("x",), 4, Signal.VALUES),
                    weight=weight, in_shape=(1, 4, 1), out_shape=(9, 4, 1), stride=(1, 1), padding=(0, 0),
                    dilation=(1, 1), groups=1)  # fmt: skip
    x = np.zeros((3, 3, 4))
    x[2, 1, 0], x[1, 1, 3], x[0, 2, 0] = 1e9, 1e9, 1e9
    told = "neuron at step 1: a membrane of sample 1 is not finite"
    with cut(), pytest.raises(BackendError, match=told):
        run(Case(o, x, None, False), neurons=True)
