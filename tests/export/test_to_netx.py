"""netx files: run by lava-dl itself, against integer loops from the equations; what does not fit is listed."""

from __future__ import annotations

import itertools
from importlib import metadata
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest
from helpers import calibrated_model
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracles.netx_loop import run_file
from oracles.nir_interpreter import interpret

from spikescr.errors import ExportError
from spikescr.export.builder import GraphBuilder, Stream
from spikescr.export.chain import read_chain
from spikescr.export.fold import fold
from spikescr.export.layers import SpikingLayer
from spikescr.export.to_netx import quantize, write_netx
from spikescr.export.to_nir import to_nir

DT = 0.01
pytestmark = [
    pytest.mark.lava,
    pytest.mark.filterwarnings("ignore:pandas not found:ImportWarning"),  # networkx 2.8, while Lava compiles
]


def export(path: Path, graph: nir.NIRGraph) -> Path:
    chain = read_chain(graph, DT)
    write_netx(path, chain, tuple(quantize(layer) for layer in chain.layers), {})
    return path


def lava_dl(path: Path, spikes: np.ndarray, **options: int) -> np.ndarray:
    """What lava-dl's Network puts out, (steps, *shape), channels first; it counts channels last, width first."""
    from spikescr.sim.lava.netx import hdf5  # noqa: I001  (before anything of Lava)
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source

    net = hdf5.Network(net_config=str(path), **options)
    source = Source(
        data=np.ascontiguousarray(np.moveaxis(spikes, 0, -1).transpose(*range(spikes.ndim - 2, -1, -1), -1))
    )
    sink = Sink(shape=net.out.shape, buffer=len(spikes))
    source.s_out.connect(net.inp)
    net.out.connect(sink.a_in)
    net.run(condition=RunSteps(num_steps=len(spikes)), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    try:
        data = sink.data.get()
    finally:
        net.stop()
    return data.transpose(*range(data.ndim - 2, -1, -1), -1).transpose(-1, *range(data.ndim - 1)).astype(int)


def lif(*shape: int, tau: float = 2 * DT, threshold: float = 1.0, r: float = 2.0) -> nir.LIF:
    one = np.ones(shape)
    return nir.LIF(tau=tau * one, r=r * one, v_leak=0 * one, v_threshold=threshold * one, v_reset=0 * one)


def chained(*nodes: nir.NIRNode, shape: tuple[int, ...]) -> nir.NIRGraph:
    named = {"input": nir.Input(np.array(shape))} | {f"n{i}": node for i, node in enumerate(nodes)}
    named["output"] = nir.Output(np.array(next(iter(nodes[-1].output_type.values()))))
    # nir 1.0.8 takes a grouped convolution's input for that of one group: no type check.
    return nir.NIRGraph(named, list(itertools.pairwise(named)), type_check=False)


def dense_chain(rng: np.random.Generator) -> nir.NIRGraph:
    """Our own neurons and clocked biases, then CUBA neurons with two decays, then integrate-and-fire."""
    build = GraphBuilder(DT)
    x = build.input("input", 9, "spikes")
    build.lif("a.lif", build.linear("a", x, rng.normal(0, 0.6, (12, 9)), rng.normal(0, 0.2, 12)))
    one = np.ones(10)
    nodes = {
        **build._nodes,
        "b": nir.Linear(rng.normal(0.2, 1.0, (10, 12))),
        "b.cuba": nir.CubaLIF(2.5 * DT * one, 4 * DT * one, 1.5 * one, 0 * one, 0.7 * one, w_in=1.3 * one),
        "c": nir.Affine(np.abs(rng.normal(0, 0.3, (6, 10))), rng.normal(0, 0.02, 6)),
        "c.if": nir.IF(np.ones(6) / DT, np.linspace(0.6, 1.4, 6)),
        "output": nir.Output(np.array([6])),
    }
    names = ["a.lif", "b", "b.cuba", "c", "c.if", "output"]
    return nir.NIRGraph(nodes, [*build._edges, *itertools.pairwise(names)])


def conv_chain(rng: np.random.Generator) -> nir.NIRGraph:
    return chained(
        nir.Conv2d((7, 6), rng.normal(0.05, 0.3, (4, 2, 3, 3)), (2, 1), (1, 0), 1, 1, rng.normal(0, 0.1, 4)),
        lif(4, 4, 4),
        nir.Conv2d((4, 4), rng.normal(0.2, 0.4, (6, 2, 2, 2)), 1, 1, 2, 2, np.zeros(6)),
        lif(6, 4, 4, tau=3 * DT),
        nir.Flatten(np.array([6, 4, 4]), 0, -1),
        nir.Linear(rng.normal(0.1, 0.3, (5, 96))),
        lif(5),
        shape=(2, 7, 6),
    )


def delay_chain(rng: np.random.Generator) -> nir.NIRGraph:
    """Every synapse has a delay of its own, as in networks whose delays were learned."""
    weight = rng.normal(0.1, 0.5, (5, 6))
    delay = rng.integers(0, 4, (5, 6))
    nodes = {"input": nir.Input(np.array([6])), "lif": lif(5), "output": nir.Output(np.array([5]))}
    edges = [("lif", "output")]
    for late in range(4):
        nodes[f"delay{late}"] = nir.Delay(np.full(6, late * DT))
        nodes[f"tap{late}"] = nir.Linear(np.where(delay == late, weight, 0))
        edges += [("input", f"delay{late}"), (f"delay{late}", f"tap{late}"), (f"tap{late}", "lif")]
    return nir.NIRGraph(nodes, edges)


def pooled_chain(rng: np.random.Generator) -> nir.NIRGraph:
    """As the CNN of the NIR paper: sums of 2 x 2 before a convolution, and before a dense layer. No leak."""
    two = np.array([2, 2])
    fire = nir.IF(np.ones((1,)) / DT, np.ones((1,)))

    def weight(*shape: int) -> np.ndarray:
        return rng.integers(-3, 6, shape) / 16

    return chained(
        nir.SumPool2d(two, two, 0 * two),
        nir.Conv2d((6, 5), weight(4, 2, 3, 3), 1, 1, 1, 1, weight(4)),
        fire,
        nir.SumPool2d(two, two, 0 * two),
        nir.Conv2d((3, 2), weight(6, 2, 2, 1), 1, 0, 1, 2, np.zeros(6)),
        fire,
        nir.AvgPool2d(np.array([2, 1]), np.array([1, 1]), 0 * two),
        nir.Flatten({"input": None}, 0, -1),
        nir.Linear(weight(5, 12)),
        fire,
        shape=(2, 12, 10),
    )


@pytest.mark.parametrize(
    ("make", "shape"), [(dense_chain, (9,)), (conv_chain, (2, 7, 6)), (delay_chain, (6,)), (pooled_chain, (2, 12, 10))]
)
@pytest.mark.parametrize("options", [{}, {"reset_interval": 10, "reset_offset": 1}])
def test_lava_dl_gives_the_spikes_of_the_equations(make, shape, options, tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(3)
    spikes = (rng.random((30, *shape)) < 0.4).astype(int)
    path = export(tmp_path / "chain.net", make(rng))
    expected = run_file(path, spikes, **options)
    for layer in expected:
        assert 0.03 < layer.mean() < 0.7
    found = lava_dl(path, spikes, **options)
    assert found.shape == expected[-1].shape
    assert np.array_equal(found, expected[-1])
    assert "WARNING" not in capsys.readouterr().out


@pytest.mark.parametrize("latest", [0, 3])
def test_spikes_are_those_of_training_where_the_weights_are_exact(latest: int, tmp_path: Path) -> None:
    """Binary fractions: v reaches the threshold exactly, and at v = 1 the neuron fires as in training."""
    rng = np.random.default_rng(0)
    weight = rng.choice([0.5, 0.25, 1.0, -0.25, -0.5], (16, 8))
    delay = rng.integers(0, latest + 1, (16, 8))
    build = GraphBuilder(DT)
    x = build.input("input", 8, "spikes")
    taps = [np.where(delay == late, weight, 0) for late in range(latest + 1)]
    streams = [build.linear(f"a{i}", build.delayed(x, i), tap, None) for i, tap in enumerate(taps)]
    sources = tuple(source for stream in streams for source in stream.sources)
    build.output("output", build.lif("a.lif", Stream(sources, 16, latest)))
    path = export(tmp_path / "a.net", build.graph({}))
    spikes = (rng.random((40, 8)) < 0.35).astype(int)
    v, expected, ties = np.zeros(16), np.zeros((40, 16), int), 0
    for t in range(1, 40):
        v = v / 2 + sum(tap @ spikes[t - 1 - late] for late, tap in enumerate(taps) if t - 1 - late >= 0)
        ties += int(np.sum(v == 1))
        near = (v > 1 - 1 / 128) & (v < 1)  # less than a unit below the threshold: fires early
        assert not near.any()
        expected[t] = v >= 1
        v[v >= 1] = 0
    assert ties > 20
    assert np.array_equal(run_file(path, spikes)[0], expected)
    assert np.array_equal(lava_dl(path, spikes), expected)


def test_chain_is_nirs_neurons_by_forward_euler() -> None:
    """Currents, decays, gains and thresholds of the chain against NIR's own equations, in floating point."""
    rng = np.random.default_rng(8)
    one = np.ones(7)
    r, w_in, threshold = rng.uniform(0.5, 2, 7), rng.uniform(0.5, 2, 7), rng.uniform(0.3, 0.8, 7)
    weight, leak = rng.normal(0.2, 1, (7, 5)), rng.uniform(0, 0.4, 7)
    cuba = nir.CubaLIF(3 * DT * one, 5 * DT * one, r, leak, threshold, w_in=w_in)
    chain = read_chain(chained(nir.Linear(weight), cuba, shape=(5,)), DT)
    (layer,) = chain.layers
    current, v, fired = np.zeros(7), np.zeros(7), 0
    mine_u, mine_v = np.zeros(7), np.zeros(7)
    for _ in range(500):
        x = (rng.random(5) < 0.4).astype(float)
        current = current + DT / cuba.tau_syn * (-current + w_in * (weight @ x))
        v = v + DT / cuba.tau_mem * (leak - v + r * current)
        mine_u = (1 - layer.current_decay) * mine_u + layer.weight @ x
        mine_v = (1 - layer.voltage_decay) * mine_v + mine_u + layer.bias
        assert np.allclose(mine_v, v / threshold, rtol=0, atol=1e-9)
        assert np.array_equal(mine_v >= 1, v > threshold)
        fired += int(np.sum(v > threshold))
        v[v > threshold] = 0
        mine_v[mine_v >= 1] = 0
    assert 100 < fired < 1000


def test_reset_with_offset_one_makes_biases_begin_with_the_input(tmp_path: Path) -> None:
    """A layer's state is cleared in the step in which its first input arrives: no early bias, no padding before it."""
    rng = np.random.default_rng(5)
    path = export(tmp_path / "a.net", dense_chain(rng))
    window = (rng.random((12, 9)) < 0.4).astype(int)
    late = np.concatenate([np.zeros((12, 9), int), window, np.zeros((12, 9), int)])
    first = run_file(path, np.concatenate([window, np.zeros((12, 9), int)]), reset_interval=12, reset_offset=1)
    second = run_file(path, late, reset_interval=12, reset_offset=1)
    for k, (a, b) in enumerate(zip(first, second, strict=True), start=1):
        assert a[k : 12 + k].any()
        assert np.array_equal(a[k : 12 + k], b[12 + k : 24 + k])
    plain = run_file(path, late)
    assert not np.array_equal(plain[-1][15:27], second[-1][15:27])


# lava-dl divides 127 by the largest weight, which is 0 where those above it were rounded away; it then takes infinity.
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@settings(max_examples=60)
@given(
    weight=arrays(np.float64, (3, 4), elements=st.floats(-3, 3, width=32).filter(lambda w: w == 0 or abs(w) > 1e-3)),
    signs=st.sampled_from(["mixed", "positive"]),
    bias=arrays(np.float64, 3, elements=st.floats(-2, 2, width=32)),
)
def test_what_netx_makes_of_the_weights_is_what_was_written(weight: np.ndarray, signs: str, bias: np.ndarray) -> None:
    """lava-dl shifts and truncates weights when it loads them; undone by the exponent they are those of the file."""
    from spikescr.sim.lava.netx import hdf5  # noqa: F401, I001  (makes the next lines importable)
    from lava.lib.dl.netx.utils import optimize_weight_bits
    from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights

    weight = np.abs(weight) if signs == "positive" else weight
    if not np.any(weight) or (signs == "mixed" and weight.max() <= 0):
        return
    found = quantize(SpikingLayer("n", (3,), weight, bias, 1.0, 0.5))
    shifted, bits, exponent, _ = optimize_weight_bits(found.weight)
    mode = determine_sign_mode(shifted)
    kept = truncate_weights(clip_weights(shifted, mode, num_bits=8), mode, bits)
    assert exponent == found.exponent <= 0
    assert np.array_equal(kept >> -exponent, found.weight)
    assert np.array_equal((kept >> -exponent) << -exponent, kept)
    assert np.abs(found.bias).max() <= 4095
    assert 0 <= found.threshold < 2**17
    assert found.error <= (1 if found.signed else 0.5) / found.units + 1e-12
    if found.error <= 1e-6 * np.abs(weight).max():
        return  # exact
    # no larger scale would fit: a number stands at one of the ends
    more = found.units + 1
    assert (
        np.abs(weight).max() * more > (254 if found.signed else 255) or np.abs(bias).max() * more > 4095 or more > 2**17
    )


def test_a_neuron_that_meets_its_threshold_waits_for_more(tmp_path: Path) -> None:
    """NIR fires above the threshold: of 0.5, 1.0, 1.5 with threshold 1 the third fires."""
    one = np.ones(1)
    graph = chained(nir.Linear(np.array([[0.5]])), nir.IF(one / DT, one), shape=(1,))
    path = export(tmp_path / "a.net", graph)
    expected = np.tile([0, 0, 1], 4)
    found = lava_dl(path, np.ones((13, 1), int))
    assert np.array_equal(found[1:, 0], expected)
    assert np.array_equal(run_file(path, np.ones((13, 1), int))[-1], found)
    assert quantize(read_chain(graph, DT).layers[0]).losses() == []


def loihi_file(path: Path, weights: list[np.ndarray], threshold: int, current: int, voltage: int) -> Path:
    """Dense layers as lava-dl's slayer writes them."""
    with h5py.File(path, "w") as file:
        file["layer/0/type"], file["layer/0/shape"] = np.array([b"input"], "S10"), [weights[0].shape[1]]
        for number, weight in enumerate(weights, start=1):
            entry = file.create_group(f"layer/{number}")
            entry["type"], entry["shape"] = np.array([b"dense"], "S10"), [len(weight)]
            entry["inFeatures"], entry["outFeatures"], entry["weight"] = weight.shape[1], len(weight), weight
            neuron = {"type": b"CUBA", "iDecay": current, "vDecay": voltage, "vThMant": threshold, "refDelay": 1}
            for key, value in (neuron | {"gradedSpike": False}).items():
                entry[f"neuron/{key}"] = value
    return path


def as_nir(path: Path, unit: float, kind: type) -> nir.NIRGraph:
    """What a netx file of dense layers computes, less truncation, in weights of `unit`."""
    nodes = []
    with h5py.File(path) as file:
        for number in range(1, len(file["layer"])):
            entry = file[f"layer/{number}"]
            ones = np.ones(len(entry["weight"]), kind)
            tau = kind(DT * 4096 / entry["neuron/vDecay"][()]) * ones
            rest = {
                "r": tau / kind(DT),
                "v_leak": 0 * ones,
                "v_threshold": kind(entry["neuron/vThMant"][()] * unit) * ones,
            }
            nodes.append(nir.Linear(entry["weight"][()].astype(kind) * kind(unit)))
            if entry["neuron/iDecay"][()] == 4096:
                nodes.append(nir.LIF(tau=tau, **rest))
            else:
                tau_syn = kind(DT * 4096 / entry["neuron/iDecay"][()]) * ones
                nodes.append(nir.CubaLIF(tau_syn=tau_syn, tau_mem=tau, w_in=tau_syn / kind(DT), **rest))
        return chained(*nodes, shape=tuple(file["layer/0/shape"][()]))


def sparse(rng: np.random.Generator, *shape: int, largest: int) -> np.ndarray:
    """Even weights, most of them 0, as slayer rounds them."""
    weight = 2 * rng.integers(-largest // 2, largest // 2 + 1, shape)
    weight[0, 0] = largest
    return weight * (rng.random(shape) < 0.2)


@pytest.mark.parametrize(
    ("threshold", "current", "largest", "unit", "kind"),
    [
        (6, 4096, 230, 1, np.float64),
        (6, 4096, 230, 1 / 64, np.float64),
        (6, 1024, 200, 1, np.float32),
        (80, 4096, 58, 1, np.float64),
        (80, 1024, 58, 64, np.float32),
    ],
)
def test_a_network_of_lava_dl_comes_back_as_it_was(threshold, current, largest, unit, kind, tmp_path: Path) -> None:
    """The sizes and neurons of lava-dl's Oxford tutorial, whose file its wheel does not hold; and others.

    The numbers of the file are those before NIR, so that lava-dl computes the same.
    """
    rng = np.random.default_rng(threshold + current)
    weights = [sparse(rng, 256, 200, largest=largest), sparse(rng, 200, 256, largest=largest)]
    original = loihi_file(tmp_path / "original.net", weights, threshold, current, 410)
    back = export(tmp_path / "back.net", as_nir(original, unit, kind))
    with h5py.File(original) as before, h5py.File(back) as after:
        for number, key in itertools.product(
            (1, 2), ("weight", *(f"neuron/{k}" for k in ("iDecay", "vDecay", "vThMant")))
        ):
            name = f"layer/{number}/{key}"
            assert np.array_equal(before[name][()], after[name][()]), name


def test_the_oxford_network_of_lava_dl_fires_as_before(tmp_path: Path) -> None:
    """Run by lava-dl itself before and after NIR: sizes and neurons of the tutorial, whose file is not in the wheel."""
    rng = np.random.default_rng(1)
    weights = [sparse(rng, 256, 200, largest=230), sparse(rng, 200, 256, largest=200)]
    original = loihi_file(tmp_path / "original.net", weights, threshold=6, current=4096, voltage=410)
    graph = as_nir(original, 1, np.float64)
    back = export(tmp_path / "back.net", graph)
    spikes = (rng.random((60, 200)) < 0.02).astype(int)
    theirs = lava_dl(original, spikes)
    assert theirs.sum() > 149
    assert np.array_equal(lava_dl(back, spikes), theirs)
    for layer in read_chain(graph, DT).layers:
        assert [loss.split(" less")[0] for loss in quantize(layer).losses()] == ["truncation takes"]


def test_a_network_in_lava_dls_wheel_comes_back_as_it_was(tmp_path: Path) -> None:
    """mnist.net of lava-dl's own tests, its two dense layers of neurons with v_th 80."""
    (path,) = (file.locate() for file in metadata.files("lava-dl") or () if file.name == "mnist.net")
    with h5py.File(path) as file:
        weights = [file[f"layer/{k}/weight"][()].astype(int) for k in (1, 2)]
        neurons = [{k: int(file[f"layer/{n}/neuron/{k}"][()]) for k in ("vThMant", "iDecay", "vDecay")} for n in (1, 2)]
    assert neurons[0] == neurons[1]
    original = loihi_file(tmp_path / "original.net", weights, *neurons[0].values())
    back = export(tmp_path / "back.net", as_nir(original, 1, np.float64))
    spikes = (np.random.default_rng(0).random((20, 784)) < 0.1).astype(int)
    expected, found = (run_file(path, spikes) for path in (original, back))
    for before, after in zip(expected, found, strict=True):
        assert before.any()
        assert np.array_equal(before, after)


@pytest.mark.parametrize(
    ("threshold", "meets"),
    [
        (1.0, False),
        (np.nextafter(1, 0), True),
        (0.3, False),
        (np.nextafter(0.3, 0), True),
        (float(np.nextafter(np.float32(1), np.float32(0))), True),
        (float(np.float32(0.7)), False),
        (0.7234567891234567, False),
        (np.nextafter(1, 2), False),
    ],
)
def test_one_float_below_a_round_threshold_is_fired_at(threshold: float, meets: bool) -> None:
    (layer,) = read_chain(chained(nir.Linear(np.eye(3)), lif(3, threshold=threshold), shape=(3,)), DT).layers
    assert layer.meets is meets
    assert quantize(layer).threshold == quantize(layer).units - meets


def test_every_loss_is_said_with_its_size() -> None:
    rng = np.random.default_rng(2)
    weight, bias = rng.normal(0.1, 0.5, (8, 5)), rng.normal(0, 0.1, 8)
    weight[0, 0] = 1e-5
    layer = SpikingLayer("n", (8,), weight, bias, 0.4, 0.013, meets=True, threshold=1.0, apart=2)
    found = quantize(layer)
    error = np.abs(found.weight / found.units - weight).max()
    assert found.losses() == [
        f"weights are off by up to {error:.2g}, 1 of 40 rounded to 0",
        f"biases are off by up to {np.abs(found.bias / found.units - bias).max():.2g} a step",
        "currents decay by 1638/4096 a step for 0.4",
        "membranes decay by 53/4096 a step for 0.013",
        f"truncation takes less than {(1 + 4096 / 1638) / 64 / found.units * 4096 / 53:.2g} from a membrane",
        f"a membrane that lacks less than {1 / found.units:.2g} fires",
        "all fire where they meet the threshold, 2 of 8 should not",
    ]
    endless = quantize(SpikingLayer("n", (1,), np.array([[0.5, -0.5]]), np.zeros(1), 1.0, 0.0))
    assert endless.losses() == [f"membranes are cut at -{131071 / endless.units:.3g}"]


def test_truncation_is_what_the_losses_say() -> None:
    """Integers of the file beside the same numbers in floating point, without spikes."""
    rng = np.random.default_rng(4)
    found = quantize(SpikingLayer("n", (6,), np.abs(rng.normal(0, 1e-4, (6, 4))), np.zeros(6), 0.3, 0.02))
    said = float(found.losses()[-1].split("less than ")[1].split(" from")[0])
    u, v, exact_u, exact_v, worst = *(np.zeros(6) for _ in range(4)), 0.0
    for _ in range(3000):
        a = 64 * (found.weight @ (rng.random(4) < 0.3))
        u = np.trunc(u * (4096 - found.current_decay) / 4096) + a
        v = np.trunc(v * (4096 - found.voltage_decay) / 4096) + u
        exact_u = exact_u * (4096 - found.current_decay) / 4096 + a
        exact_v = exact_v * (4096 - found.voltage_decay) / 4096 + exact_u
        worst = max(worst, np.abs(exact_v - v).max() / 64 / found.units)
    assert 0.2 * said < worst < said


def test_weights_of_almost_nothing_are_refused() -> None:
    layer = SpikingLayer("fc", (2,), np.array([[3.6e-6, -1e-6], [0, 0]]), np.zeros(2), 0.02, 0.005)
    with pytest.raises(ExportError, match=r"fc: its weights reach 3.6e-06 thresholds.* all would be rounded to 0"):
        quantize(layer)


def test_large_sums_lower_the_scale() -> None:
    rng = np.random.default_rng(0)
    layer = SpikingLayer("n", (2,), rng.uniform(0.5, 1, (2, 400)), np.zeros(2), 1.0, 0.5)
    found = quantize(layer)
    assert found.weight.sum(axis=1).max() <= 2**15 - 1
    assert found.weight.sum(axis=1).max() > 2**15 - 401
    assert found.weight.max() < 255


def test_spikescr_is_refused_with_the_list_of_its_nodes() -> None:
    graph = to_nir(fold(calibrated_model()[0]), steps=24, dt=DT)
    with pytest.raises(ExportError) as error:
        read_chain(graph, DT)
    text = str(error.value)
    assert "attention: blocks.0.ssa.attention.product;" in text
    assert "rotary: blocks.0.ssa.k_rotated.rotary, blocks.0.ssa.q_rotated.rotary" in text
    assert "gate: blocks.0.sgc.depthwise.gate, blocks.0.sgc.gated.gate, sem.gate" in text
    assert "input of real values: input" in text
    assert "sum of several layers" in text
    assert "head.synapse" in text


def test_one_number_stands_for_a_layer() -> None:
    """As `simulate` takes it: constants of one number, an Output of another shape, no type check of nir."""
    whole = chained(
        nir.Conv2d((4, 4), np.ones((3, 2, 3, 3)) / 4, 1, 0, 1, 1, np.zeros(3)), lif(3, 2, 2), shape=(2, 4, 4)
    )
    short = chained(nir.Conv2d(None, np.ones((3, 2, 3, 3)) / 4, 1, 0, 1, 1, np.zeros(3)), lif(1), shape=(2, 4, 4))
    short.nodes["output"] = nir.Output(np.array([1, 1, 12]))
    (expected,), (found,) = (read_chain(graph, DT).layers for graph in (whole, short))
    assert (found.shape, found.convolution) == (expected.shape, expected.convolution) == ((3, 2, 2), found.convolution)
    assert np.array_equal(found.weight, expected.weight)
    (dense,) = read_chain(chained(nir.Linear(np.eye(3)), lif(), shape=(1, 1, 3)), DT).layers
    assert (dense.shape, dense.bias.shape) == ((3,), (3,))


def test_shapes_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ExportError, match=r"weight of shape \(3, 3\), for an input of shape \(4,\): n1"):
        read_chain(chained(nir.Linear(np.eye(3)), lif(3), shape=(4,)), DT)
    with pytest.raises(ExportError, match=r"v_threshold of shape \(2,\) for neurons of shape \(3,\): n1"):
        read_chain(chained(nir.Linear(np.eye(3)), lif(2), shape=(3,)), DT)
    with pytest.raises(ExportError, match="parameters of type complex128: n1"):
        read_chain(chained(nir.Linear(np.eye(3) * 1j), lif(3), shape=(3,)), DT)
    unflattened = nir.Conv2d((2, 2), np.ones((1, 1, 2, 2)), 1, 0, 1, 1, np.zeros(1))
    with pytest.raises(ExportError, match="n3: a chain has no convolution behind a dense layer"):
        read_chain(chained(nir.Linear(np.eye(4)), lif(4), unflattened, lif(1, 1, 1), shape=(4,)), DT)


def test_pools_give_the_spikes_of_nir(tmp_path: Path) -> None:
    """Against an interpreter of NIR that has pools.

    Biases of a chain act from its first step, in which no input is there yet.
    """
    rng = np.random.default_rng(3)
    graph = pooled_chain(rng)
    spikes = (rng.random((25, 2, 12, 10)) < 0.3).astype(int)
    (*_, found) = run_file(export(tmp_path / "a.net", graph), np.concatenate([spikes, 0 * spikes[:2]]))
    shapes = [(4, 6, 5), (6, 2, 2), (5,)]
    ones = iter(np.ones(shape) for shape in shapes)
    for name, node in graph.nodes.items():
        if isinstance(node, nir.IF):
            one = next(ones)
            graph.nodes[name] = nir.IF(one / DT, one)
    graph.nodes["n7"] = nir.Flatten({"input": np.array([6, 1, 2])}, 0, -1)
    late = np.concatenate([0 * spikes[:1], spikes[:-1]]).reshape(25, -1)  # a layer's first step sees no input
    expected = interpret(graph, {"input": late}, 25, dt=DT).outputs["output"]
    assert 0.05 < expected.mean() < 0.9
    assert np.array_equal(found[2:], expected)


one = np.ones(3)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([nir.Linear(np.eye(3)), nir.LI(one, one, one)], "no place for LI: n1"),
        (
            [nir.Linear(np.eye(3)), lif(3), nir.Linear(np.eye(3))],
            "no neurons behind it, or more than one layer of them: n2",
        ),
        ([nir.Linear(np.eye(3)), nir.LIF(one, one, 0 * one, one, one)], "v_reset other than 0: n1"),
        ([nir.Linear(np.eye(3)), nir.LIF(one * [1, 2, 3], one, one, one)], "time constants that differ"),
        ([nir.Linear(np.eye(3)), lif(3, tau=DT / 2)], "shorter than a step: n1"),
        ([nir.Linear(np.eye(3)), lif(3, threshold=-1.0)], "threshold not above 0: n1"),
        ([nir.Affine(np.eye(3), one), nir.CubaLIF(one, one, one, one, one)], "bias into a current that decays: n1"),
        ([nir.Delay(one * DT), nir.Scale(one), lif(3)], "Delay that is no tap of a Linear: n0; no place for Scale: n1"),
        ([lif(3)], "neurons not fed by a Linear, Affine or Conv2d: n0"),
        (
            [nir.NIRGraph.from_list(nir.Linear(np.eye(3))), nir.Linear(np.eye(3)), lif(3)],
            "nested graph: n0",
        ),
    ],
)
def test_what_netx_cannot_hold_is_named(nodes: list[nir.NIRNode], words: str) -> None:
    with pytest.raises(ExportError, match="cannot hold these nodes") as error:
        read_chain(chained(*nodes, shape=(3,)), DT)
    assert words in str(error.value)


def test_soft_reset_is_refused() -> None:
    graph = chained(nir.Linear(np.eye(3)), lif(3), shape=(3,))
    graph.metadata["reset_mechanism"] = "subtract"
    with pytest.raises(ExportError, match="reset other than to zero: n1"):
        read_chain(graph, DT)
    graph.nodes["n1"].metadata["reset_mechanism"] = "zero"
    assert len(read_chain(graph, DT).layers) == 1


def test_residual_connection_and_recurrence_are_refused() -> None:
    graph = chained(nir.Linear(np.eye(3)), lif(3), nir.Linear(np.eye(3)), lif(3), shape=(3,))
    graph.nodes["skip"] = nir.Linear(np.eye(3))
    graph.edges += [("n1", "skip"), ("skip", "n3"), ("input", "skip")]
    with pytest.raises(ExportError) as error:
        read_chain(graph, DT)
    assert "sum of several layers: n3, skip" in str(error.value)
    assert "feeds not exactly one layer: " in str(error.value)
    again = chained(nir.Linear(np.eye(3)), lif(3), shape=(3,))
    again.nodes["back"] = nir.Linear(np.eye(3))
    again.edges += [("n1", "back"), ("back", "n1")]
    with pytest.raises(ExportError, match="feeds not exactly one layer: n1"):
        read_chain(again, DT)


def test_weights_beyond_eight_bits_of_a_threshold_are_refused() -> None:
    layer = SpikingLayer("big", (1,), np.array([[300.0, -1.0]]), np.zeros(1), 1.0, 0.5)
    with pytest.raises(ExportError, match="big: weights or biases reach 300 thresholds"):
        quantize(layer)
    with pytest.raises(ExportError, match="big: all its weights are 0"):
        quantize(SpikingLayer("big", (1,), np.zeros((1, 2)), np.zeros(1), 1.0, 0.5))


def test_file_states_where_each_layer_comes_from(tmp_path: Path) -> None:
    with h5py.File(export(tmp_path / "a.net", dense_chain(np.random.default_rng(1)))) as file:
        layers = [file["layer"][str(i)] for i in range(len(file["layer"]))]
        assert [entry["type"][0] for entry in layers] == [b"input", b"dense", b"dense", b"dense"]
        assert [entry.attrs.get("node") for entry in layers] == [None, "a.lif", "b.cuba", "c.if"]
        decays = [(int(e["neuron/iDecay"][()]), int(e["neuron/vDecay"][()])) for e in layers[1:]]
    assert decays == [(4096, 2048), (1638, 1024), (4096, 0)]
