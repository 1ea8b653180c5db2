"""Images on cores by boxes: covered once, what a box hears against the kernel moved by hand, cores by arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikescr.sim.chip.limits import Limit, chip_named
from spikescr.sim.chip.mapper import Placement, place
from spikescr.sim.chip.parts import Box
from spikescr.sim.chip.rules import check
from spikescr.sim.chip.tiling import tiled
from spikescr.sim.program import Convolution, Neuron, Port, Program, Signal, Source

SPIKES, VALUES = Signal.SPIKES, Signal.VALUES


def convolved(name: str, source: str, weight: np.ndarray, in_shape: tuple[int, int, int], **how: object) -> Convolution:
    """A convolution of stride 1 or what is told, padded by half its kernel."""
    rows, columns = weight.shape[2:]
    given = {"stride": (1, 1), "padding": (rows // 2, columns // 2), "dilation": (1, 1), "groups": 1, **how}
    out = [
        (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        for size, pad, dilation, kernel, stride in zip(
            in_shape[1:], given["padding"], given["dilation"], (rows, columns), given["stride"], strict=True
        )
    ]
    out_shape = (len(weight), *out)
    x = Port((source,), int(np.prod(in_shape)), SPIKES)
    width = int(np.prod(out_shape))
    return Convolution(
        name=name, width=width, signal=VALUES, x=x, weight=weight, in_shape=in_shape, out_shape=out_shape, **given
    )


def neuron(name: str, source: str, width: int) -> Neuron:
    one = np.ones(width)
    given = {"decay": one, "gain": one, "drive": 0 * one, "threshold": one, "v_reset": 0 * one}
    return Neuron(name=name, width=width, signal=SPIKES, x=Port((source,), width, VALUES), **given)


def placed(*convolutions: Convolution, **limits: int) -> Placement:
    """A chain of convolutions and their neurons on Loihi 2 with other limits."""
    operations = [Source(name="input", width=convolutions[0].x.width, signal=SPIKES)]
    for convolution in convolutions:
        operations += [convolution, neuron(f"{convolution.name}.lif", convolution.name, convolution.width)]
    chip = chip_named("loihi2").model_copy(
        update={name: Limit(value=value, unit="", assumed="test") for name, value in limits.items()}
    )
    return place(Program(tuple(operations), 1, 1.0, 1), "loihi2", chip, {})


@given(
    image=st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)),
    most=st.integers(1, 60),
    inputs=st.integers(1, 80),
)
def test_boxes_cover_an_image_once_and_fit(image: tuple[int, int, int], most: int, inputs: int) -> None:
    class Used:
        def __init__(self, box: Box) -> None:
            rows, columns = (stop - start + 2 for start, stop in (box.rows, box.columns))
            self.input_axons = rows * columns

    boxes = list(tiled(image, most, 100, Used, lambda used: used.input_axons <= inputs))
    held = np.concatenate([box.numbers for box in boxes])
    assert sorted(held) == list(range(int(np.prod(image))))
    assert all(box.count == len(box.numbers) <= most for box in boxes)
    if inputs >= 9:  # one neuron fits
        assert all(Used(box).input_axons <= inputs for box in boxes)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    grouped=st.booleans(),
    neurons=st.integers(1, 30),
)
def test_a_core_hears_what_its_neurons_read(
    seed: int,
    size: tuple[int, int, int],
    kernel: tuple[int, int],
    stride: int,
    dilation: int,
    grouped: bool,
    neurons: int,
) -> None:
    channels, rows, columns = size
    groups = channels if grouped else 1
    weight = np.random.default_rng(seed).normal(size=(2 * groups, channels // groups, *kernel))
    how = {"stride": (stride, stride), "dilation": (dilation, dilation), "groups": groups, "padding": (2, 2)}
    convolution = convolved("c", "input", weight, size, **how)
    (layer,) = placed(convolution, neurons=neurons).layers
    for core in layer.cores:
        read = set()
        for number in core.part.numbers:
            o, i, j = np.unravel_index(number, convolution.out_shape)
            first = o // (len(weight) // groups) * (channels // groups)
            for c in range(channels // groups):
                for k in range(kernel[0]):
                    for m in range(kernel[1]):
                        y, x = i * stride + k * dilation - 2, j * stride + m * dilation - 2
                        if 0 <= y < rows and 0 <= x < columns:
                            read.add(int((first + c) * rows * columns + y * columns + x))
        heard = layer.demand.inputs(core.part)["input"]
        assert read <= set(heard.tolist())  # a stride may leave out some between the rows that are read
        if stride == dilation == 1:
            assert read == set(heard.tolist())
        assert core.input_axons == len(heard)


def test_an_image_of_many_channels_takes_the_cores_that_its_neurons_need() -> None:
    # 64 channels of 32 x 32 that each read 32: 65,536 neurons, at least 8 cores of 8,192. Whole channels would hear
    # 32,768 inputs, eight times what a core may.
    weight = np.ones((64, 32, 3, 3))
    placement = placed(convolved("c", "input", weight, (32, 32, 32)))
    (layer,) = placement.layers
    assert not check(placement)
    # all channels of 16 x 5 pixels hear 18 x 7 x 32 = 4,032 of 4,096 inputs: 2 x 7 cores; 8 x 8 would take 16
    assert layer.cores[0].part == Box((64, 32, 32), (0, 64), (0, 16), (0, 5))
    assert len(layer.cores) == 14
    assert layer.cores[1].input_axons == 17 * 7 * 32  # at the edge
    # the kernel once, membrane and input sum of each neuron, one set of parameters, an entry for every input
    bits = weight.size * 8 + 64 * 16 * 5 * 48 + 8 * 8 + 8 * 4 * (17 * 6 * 32)
    assert layer.cores[0].memory == -(-bits // 8)


def test_a_core_with_some_of_the_channels_keeps_their_kernels() -> None:
    weight = np.ones((8, 4, 1, 1))
    (layer,) = placed(convolved("c", "input", weight, (4, 1, 1)), neurons=4).layers
    assert [core.part.channels for core in layer.cores] == [(0, 4), (4, 8)]
    assert (
        layer.demand.core_bits(layer.cores[0].part) == (4 * 4 + 8) * 8
    )  # half of 8 x 4 weights, one set of parameters


def test_layers_do_not_ask_more_and_more_of_each_other() -> None:
    # By rows each layer needed more cores the more the next one had; of 64 channels and 64 x 64 pixels thousands.
    size = (32, 64, 64)
    convolutions = [convolved("c0", "input", np.ones((32, 3, 3, 3)), (3, 64, 64))]
    convolutions += [convolved(f"c{i}", f"c{i - 1}.lif", np.ones((32, 32, 3, 3)), size) for i in range(1, 5)]
    placement = placed(*convolutions)
    assert not [violation for violation in check(placement) if violation.limit != "cores"]
    # 131,072 neurons a layer: 16 cores of 8,192 at least, 32 where each neuron is heard by one core of 4,096 axons
    assert all(16 <= len(layer.cores) < 100 for layer in placement.layers)


def test_a_source_that_two_convolutions_hear_is_one_list_of_axons() -> None:
    weight = np.ones((2, 1, 3, 3))
    first, second = convolved("a", "input", weight, (1, 4, 4)), convolved("b", "input", weight, (1, 4, 4))
    both = Neuron(
        name="lif", width=32, signal=SPIKES, x=Port(("a", "b"), 32, VALUES),
        **{key: np.ones(32) for key in ("decay", "gain", "drive", "threshold", "v_reset")},
    )  # fmt: skip
    program = Program((Source(name="input", width=16, signal=SPIKES), first, second, both), 1, 1.0, 1)
    (layer,) = place(program, "loihi2", chip_named("loihi2"), {}).layers
    assert layer.demand.image == (2, 4, 4)
    assert [core.input_axons for core in layer.cores] == [16]


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_a_neuron_that_reads_more_than_a_core_hears_is_told(chip: str) -> None:
    convolution = convolved("c", "input", np.ones((2, 600, 3, 3)), (600, 4, 4))
    operations = (Source(name="input", width=9600, signal=SPIKES), convolution, neuron("lif", "c", 32))
    placement = place(Program(operations, 1, 1.0, 1), chip, chip_named(chip), {})
    assert "input_axons" in {violation.limit for violation in check(placement)}
    assert placement.cores <= 4  # no placement would keep that limit: the others are kept
