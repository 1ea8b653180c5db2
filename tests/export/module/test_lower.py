"""Folded and lowered, executed: every signal that fires is the unfolded network's, in PyTorch's float64."""

from collections.abc import Callable

import nir
import numpy as np
import pytest
from step_networks import Maker

import spikescr
from spikescr.errors import ExportError
from spikescr.export.module.evaluate import evaluate
from spikescr.export.module.fold import fold
from spikescr.export.module.lower import lower
from spikescr.export.module.pools import pooled
from spikescr.export.record.step import NeuronEquation, StepNetwork

Piece = Callable[[Maker, int], int]
"""Adds operations behind spikes (4, 6, 6), puts out a signal."""


def executed(net: StepNetwork, backend: str = "fast", batch: int = 3, seed: int = 1, kind: str = "values"):
    """Runs the unfolded network and the graph; both answers by neuron, and the output's."""
    shape = net.signals[0].shape
    x = np.random.default_rng(seed).normal(0.5, 1.0, (net.steps, batch, *shape))
    if kind == "spikes":
        x = (x > 0.5).astype(float)
    expected = evaluate(net, {"input": x})
    folded = fold(pooled(net))
    found = evaluate(folded, {"input": x})
    for node in folded.nodes:
        if node.operation == "neuron":
            (same,) = (n.result for n in net.nodes if n.path == node.path)
            np.testing.assert_array_equal(found[node.result], expected[same], err_msg=node.path)
    graph = lower(folded, dt=1e-3)
    run = spikescr.simulate(graph, x.reshape(net.steps, batch, -1), backend=backend, record=("spikes",))
    wanted = {n.path: expected[n.result].reshape(net.steps, batch, -1) for n in net.nodes if n.operation == "neuron"}
    return graph, run, wanted, expected[net.nodes[-1].result].reshape(net.steps, batch, -1)


def assert_same(net: StepNetwork, **how):
    graph, run, wanted, output = executed(net, **how)
    for path, spikes in wanted.items():
        assert spikes.any(), f"{path} is silent"
        np.testing.assert_array_equal(run.spikes[path][: net.steps], spikes, err_msg=path)
    np.testing.assert_allclose(run.outputs["output"][: net.steps], output, rtol=0, atol=1e-12)
    return graph


def front(maker: Maker) -> int:
    """Spikes (4, 6, 6)."""
    return maker.neurons(maker.conv(maker.input(2, 6, 6), 4, (3, 3), padding=1))


def expanded(maker: Maker, x: int, like: int) -> int:
    """(C, 1, 1) as wide as (C, H, W)."""
    channels, height, width = maker.shape(like)
    return maker.select(x, np.repeat(np.arange(channels), height * width), (channels, height, width))


def pool(m: Maker, x: int, op: str, window, stride, padding=(0, 0), dilation=(1, 1), ceil=False, **more) -> int:
    channels, *space = m.shape(x)
    out = []
    for n, k, s, p, d in zip(space, window, stride, padding, dilation, strict=True):
        count = -(-(n + 2 * p - d * (k - 1) - 1) // s) if ceil else (n + 2 * p - d * (k - 1) - 1) // s
        out.append(count + 1 - (ceil and count * s >= n + p))
    kind = {"max_pool": m.signals[x].kind, "avg_pool": "values"}[op]
    options = {"window": window, "stride": stride, "padding": padding, "ceil": ceil, **more}
    if op == "max_pool":
        options["dilation"] = dilation
    return m.add(op, x, shape=(channels, *out), kind=kind, **options)


def average(m: Maker, x: int, window=(2, 2), stride=(2, 2), **more) -> int:
    return pool(m, x, "avg_pool", window, stride, **{"count_padding": True, "divisor": None, **more})


def summed(m: Maker, *xs: int, coefficients=None, kind="values") -> int:
    return m.add("sum", *xs, shape=m.shape(xs[0]), kind=kind, coefficients=coefficients or (1.0,) * len(xs))


def tokens(m: Maker, x: int) -> int:
    """(4, 36) as (36, 4)."""
    return m.transposed(m.select(x, np.arange(144), (4, 36)))


def normalised_tokens(m: Maker, x: int) -> int:
    """A Linear over tokens, and a batch normalisation of its channels, which are turned to the front for it."""
    return m.norm(m.transposed(m.linear(tokens(m, x), 5, bias=True)))


def normalised_sum(m: Maker, x: int) -> int:
    return m.norm(summed(m, m.conv(x, 3, (3, 3), bias=True), m.conv(x, 3, (3, 3))))


def gated(m: Maker, x: int, inverted: bool) -> int:
    channel = m.neurons(m.add("reduce", x, shape=(4, 1, 1), kind="counts", axes=(1, 2), mean=False))
    spike = expanded(m, channel, x)
    if inverted:
        spike = m.add("complement", spike, shape=(4, 6, 6), kind="spikes")
    return m.add("product", m.neurons(m.conv(x, 4, (1, 1))), spike, shape=(4, 6, 6), kind="spikes")


def attended(m: Maker, x: int, first: bool, scale_inside: bool) -> int:
    """Two heads of 9 tokens and 8 channels, as (q k^T) v or q (k^T v)."""
    shape = (2, 9, 8)
    q, k, v = (
        m.select(m.neurons(m.conv(x, 4, (1, 1))), np.random.default_rng(s).permutation(144), shape) for s in range(3)
    )
    kt = m.select(k, np.arange(144).reshape(shape).transpose(0, 2, 1), (2, 8, 9))
    a, b = (q, kt) if first else (kt, v)
    inner = m.add("matmul", a, b, shape=(2, 9, 9) if first else (2, 8, 8), kind="counts")
    factor = {"factor": np.array(0.25)}
    if scale_inside:
        inner = m.add("scale", inner, shape=m.shape(inner), arrays=factor)
    out = m.add("matmul", *((inner, v) if first else (q, inner)), shape=shape)
    return out if scale_inside else m.add("scale", out, shape=shape, arrays=factor)


def recurrent(m: Maker, x: int) -> int:
    """Spikes that come back a step later through weights."""
    ahead = len(m.nodes)
    late = m.add("delay", shape=(3, 6, 6), kind="spikes")
    current = summed(m, m.conv(x, 3, (1, 1), bias=True), m.conv(late, 3, (3, 3), padding=1))
    spikes = m.neurons(current)
    m.nodes[ahead] = m.nodes[ahead].__class__(
        ahead, "delay", "loop", (m.nodes[current].operands[0].__class__(spikes, (3, 6, 6)),), ahead
    )
    return m.conv(spikes, 2, (1, 1))


def transposed(m: Maker, x: int) -> int:
    weight = m.rng.normal(size=(4, 3, 3, 2))
    return m.norm(
        m.add(
            "conv_transpose", x, shape=(6, 12, 18), arrays={"weight": weight, "bias": m.rng.normal(size=6)},
            stride=(2, 3), padding=(1, 0), output_padding=(1, 1), dilation=(1, 1), groups=2,
        )
    )  # fmt: skip


PIECES: dict[str, Piece] = {
    "norm_behind_conv": lambda m, x: m.norm(m.conv(x, 6, (3, 3), padding=1, bias=True)),
    "norm_behind_grouped": lambda m, x: m.norm(m.conv(x, 8, (3, 3), stride=2, groups=2)),
    "norm_behind_depthwise": lambda m, x: m.norm(m.conv(x, 4, (3, 3), groups=4, bias=True)),
    "norm_behind_linear": lambda m, x: m.norm(m.linear(x, 7, reads=(144,))),
    "norm_behind_tokens": normalised_tokens,
    "norm_behind_transposed_conv": transposed,
    "norm_behind_sum": normalised_sum,
    "norm_behind_norm": lambda m, x: m.norm(m.norm(m.conv(x, 3, (1, 1)))),
    "norm_before_conv": lambda m, x: m.conv(m.norm(x), 3, (3, 3), bias=True),
    "norm_before_padded_conv": lambda m, x: m.conv(m.norm(x), 3, (3, 3), padding=1),
    "norm_before_grouped": lambda m, x: m.conv(m.norm(x), 6, (3, 3), groups=2),
    "norm_alone": lambda m, x: m.norm(x),
    "norm_behind_average": lambda m, x: m.norm(average(m, m.conv(x, 3, (1, 1)))),
    "scale_before_linear": lambda m, x: m.linear(
        m.add("scale", x, shape=(4, 6, 6), arrays={"factor": np.array(0.3)}), 5, reads=(144,)
    ),
    "bias_alone": lambda m, x: m.add("bias", x, shape=(4, 6, 6), arrays={"addend": m.rng.normal(size=(4, 1, 6))}),
    "average": average,
    "average_before_conv": lambda m, x: m.conv(average(m, x), 3, (3, 3), bias=True),
    "average_before_linear": lambda m, x: m.linear(average(m, x, (6, 6), (6, 6)), 5, reads=(4,)),
    "average_overlapping": lambda m, x: m.conv(average(m, x, (3, 3), (2, 2), padding=(1, 1)), 3, (1, 1)),
    "average_without_padding": lambda m, x: average(m, x, (3, 3), (2, 2), padding=(1, 1), count_padding=False),
    "average_rounded_up": lambda m, x: m.conv(average(m, x, (4, 4), (4, 4), ceil=True), 3, (1, 1)),
    "max_pool": lambda m, x: pool(m, x, "max_pool", (2, 2), (2, 2)),
    "max_pool_padded": lambda m, x: pool(m, x, "max_pool", (3, 3), (2, 2), (1, 1)),
    "max_pool_rounded_up": lambda m, x: pool(m, x, "max_pool", (4, 4), (4, 4), ceil=True),
    "max_pool_dilated": lambda m, x: pool(m, x, "max_pool", (2, 2), (1, 1), dilation=(3, 2)),
    "max_pool_of_values": lambda m, x: pool(m, m.conv(x, 3, (3, 3), padding=1), "max_pool", (3, 3), (2, 2), (1, 1)),
    "maximum": lambda m, x: m.add("maximum", m.conv(x, 4, (1, 1)), x, shape=(4, 6, 6)),
    "sum_over_channels": lambda m, x: m.add("reduce", x, shape=(6, 6), kind="counts", axes=(0,), mean=False),
    "mean_over_space": lambda m, x: m.linear(m.add("reduce", x, shape=(4,), axes=(1, 2), mean=True), 5),
    "mean_over_odd": lambda m, x: m.add("reduce", x, shape=(4, 6), axes=(-1,), mean=True),
    "sum_weighted": lambda m, x: summed(m, x, m.conv(x, 4, (1, 1)), coefficients=(0.5, -2.0)),
    "sum_of_itself": lambda m, x: summed(m, x, x, kind="counts"),
    "sum_of_sums": lambda m, x: summed(m, summed(m, x, m.conv(x, 4, (1, 1))), x),
    "and": lambda m, x: gated(m, x, inverted=False),
    "iand": lambda m, x: gated(m, x, inverted=True),
    "complement": lambda m, x: m.add("complement", x, shape=(4, 6, 6), kind="spikes"),
    "attention": lambda m, x: attended(m, x, first=True, scale_inside=True),
    "attention_right": lambda m, x: attended(m, x, first=False, scale_inside=False),
    "recurrent": recurrent,
}  # fmt: skip


@pytest.mark.parametrize("name", PIECES)
def test_an_operation_fires_as_the_module(name):
    maker = Maker()
    out = PIECES[name](maker, front(maker))
    assert_same(maker.network(maker.neurons(out)))


@pytest.mark.parametrize("name", ["norm_behind_conv", "max_pool_rounded_up", "iand", "attention", "recurrent"])
def test_lava_fires_as_the_module(name):
    maker = Maker()
    out = PIECES[name](maker, front(maker))
    assert_same(maker.network(maker.neurons(out)), backend="lava")


EQUATIONS = {
    "if_soft": NeuronEquation("IFNode", 1.0, 1.0, 1.0, None),
    "if_reset_elsewhere": NeuronEquation("IFNode", 1.0, 1.0, 0.75, -0.5, initial=-0.5),
    "lif": NeuronEquation("LIFNode", 0.5, 0.5, 1.0, 0.0),
    "lif_odd_tau": NeuronEquation("LIFNode", 1 - 1 / 1.7, 1 / 1.7, 0.5, 0.0),
    "lif_no_decay_of_input": NeuronEquation("LIFNode", 1 - 1 / 3.0, 1.0, 1.0, None),
    "lif_reset_elsewhere": NeuronEquation("LIFNode", 0.5, 0.5, 1.0, -0.25, drive=-0.125, initial=-0.25),
    "cuba": NeuronEquation("CUBALIFNode", 0.75, 1.0, 1.0, 0.0, current_decay=0.5),
}


@pytest.mark.parametrize("name", EQUATIONS)
@pytest.mark.parametrize("dt", [1e-3, 1.0, 0.0125])
def test_a_neuron_fires_as_its_equation_says(name, dt):
    maker = Maker()
    net = maker.network(maker.neurons(maker.input(50), EQUATIONS[name]), steps=30)
    x = maker.rng.normal(0.5, 1.0, (30, 4, 50))
    x[:, :, :25] = np.round(4 * x[:, :, :25]) / 4  # meets thresholds exactly
    (wanted,) = [v for k, v in evaluate(net, {"input": x}).items() if k == 1]
    run = spikescr.simulate(lower(fold(net), dt), x, record=("spikes",))
    assert wanted.any()
    np.testing.assert_array_equal(run.spikes["neuron1"][:30], wanted)


def test_a_plain_reader_of_nir_loads_the_file(tmp_path):
    maker = Maker()
    graph = assert_same(maker.network(PIECES["attention"](maker, front(maker))))
    nir.write(tmp_path / "net.nir", graph)
    assert set(nir.read(tmp_path / "net.nir").nodes) == set(graph.nodes)


def test_a_product_of_matrices_alone_is_refused_by_name():
    maker = Maker()
    x = front(maker)
    out = maker.add("matmul", (x, (4, 6, 6)), (x, (4, 6, 6)), shape=(4, 6, 6), path="block.attn")
    with pytest.raises(ExportError, match=r"block\.attn: multiplies two signals as matrices"):
        lower(fold(maker.network(out)), 1e-3)


def test_an_average_of_spikes_before_weights_is_accumulated_not_multiplied():
    maker = Maker()
    net = maker.network(maker.neurons(PIECES["average_before_conv"](maker, maker.input(4, 6, 6, kind="spikes"))))
    _, run, _, _ = executed(net, kind="spikes")
    assert run.counts["ac"].sum() > 0
    assert run.counts["mac"].sum() == 0
