"""Primitives of NIR: convolutions and pools against PyTorch, neurons against scipy, all against the interpreter."""

from __future__ import annotations

import itertools
from typing import Any

import nir
import numpy as np
import pytest
from from_torch import torch
from oracles.nir_interpreter import Trace, interpret
from oracles.program_interpreter import InterpreterBackend
from recordings import same
from scipy.signal import lfilter

from spikescr.errors import GraphError
from spikescr.sim.backends import Options
from spikescr.sim.counting.formula import evaluate
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.fast.stepwise import OWN
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Convolution, Program, Signal, Synapse
from spikescr.sim.recording import Recording
from spikescr.sim.steps.backend import StepBackend

DT = 1e-3


def chain(shape: tuple[int, ...], *nodes: nir.NIRNode, **metadata: object) -> nir.NIRGraph:
    """Input -> n0 -> n1 ... -> Output, shapes unchecked: nir knows neither groups nor kernels that are not square."""
    named: dict[str, nir.NIRNode] = {"input": nir.Input(np.array(shape))}
    named |= {f"n{i}": node for i, node in enumerate(nodes)} | {"output": nir.Output(None)}
    names = list(named)
    return nir.NIRGraph(named, list(itertools.pairwise(names)), metadata=metadata, type_check=False)


def run(graph: nir.NIRGraph, steps: int, inputs: dict[str, np.ndarray], **options: Any) -> tuple[Program, Recording]:
    program = lower(graph, dt=DT, steps=steps, **options)
    samples = next(iter(inputs.values())).shape[1]
    flat = {name: x.reshape(steps, samples, -1) for name, x in inputs.items()}
    return program, FastBackend(program, samples, record_membranes=True).run(flat)


def out(graph: nir.NIRGraph, x: np.ndarray, **options: Any) -> np.ndarray:
    """What the Output gives for x (T, B, ...)."""
    return run(graph, len(x), {"input": x}, **options)[1].outputs["output"]


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stride": {"stride": (2, 3)},
    "padding": {"padding": (2, 1)},
    "one number": {"padding": 1, "stride": 2},
    "dilation": {"dilation": (1, 2), "padding": (0, 3)},
    "groups": {"groups": 2},
    "depthwise": {"groups": 4, "padding": "same"},
    "same": {"padding": "same"},
    "same, even kernel": {"padding": "same", "kernel": (2, 4)},
    "valid": {"padding": "valid", "kernel": (3, 1)},
    "all": {"stride": (2, 1), "padding": (1, 2), "dilation": (2, 1), "groups": 2, "kernel": (2, 3)},
    "stride that leaves a rest": {"stride": (3, 2), "kernel": (2, 2)},
}


def convolution(*, kernel: tuple[int, int] = (3, 3), groups: int = 1, **fields: Any) -> nir.Conv2d:
    rng = np.random.default_rng(1)
    settings = {"stride": 1, "padding": 0, "dilation": 1} | fields
    weight = rng.normal(size=(8, 4 // groups, *kernel))
    weight[::3, :, 0] = 0  # no synapses
    return nir.Conv2d((7, 6), weight, groups=groups, bias=rng.normal(size=8), **settings)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("signal", ["spikes", "values"])
@pytest.mark.parametrize("fields", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_convolution_is_pytorchs_and_its_synapses_are_counted(fields: dict[str, Any], signal: str) -> None:
    rng = np.random.default_rng(2)
    node, x = convolution(**fields), rng.poisson(0.5, (5, 2, 4, 7, 6)).astype(float)
    if signal == "values":
        x = x * rng.normal(size=x.shape)
    named = {name: getattr(node, name) for name in ("stride", "padding", "dilation", "groups")}
    images, weight = torch.tensor(x).flatten(0, 1), torch.tensor(node.weight)
    expected = torch.nn.functional.conv2d(images, weight, torch.tensor(node.bias), **named)
    program, got = run(chain((4, 7, 6), node), 5, {"input": x}, input_signal=Signal(signal))
    np.testing.assert_allclose(got.outputs["output"].reshape(-1, *expected.shape[1:]), expected, rtol=0, atol=1e-12)

    # Every synapse that meets something: a convolution of ones, where there are weights, with the events.
    for kind, arriving in {
        "ac" if signal == "spikes" else "mac": x if signal == "spikes" else x != 0,
        "synops": x != 0,
        "synops_graded": (x != 0) & (x != 1),
    }.items():
        met = torch.nn.functional.conv2d(torch.tensor(arriving).flatten(0, 1).double(), (weight != 0).double(), **named)
        assert got.counts.per_step("n0", kind).tolist() == met.flatten(1).sum(1).reshape(5, 2).tolist(), kind
    assert got.counts.total("mac" if signal == "spikes" else "ac") == 0
    assert (got.counts.per_step("n0", "bias") == program["n0"].width).all()


def test_convolution_in_one_dimension_is_pytorchs() -> None:
    rng = np.random.default_rng(3)
    node = nir.Conv1d(9, rng.normal(size=(6, 2, 4)), 2, 3, 2, 2, rng.normal(size=6))
    x = rng.normal(size=(3, 2, 4, 9))
    expected = torch.nn.functional.conv1d(
        torch.tensor(x).flatten(0, 1), torch.tensor(node.weight), torch.tensor(node.bias), 2, 3, 2, 2
    )
    got = out(chain((4, 9), node), x)
    np.testing.assert_allclose(got.reshape(-1, *expected.shape[1:]), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((2, 2), (2, 2), (0, 0)), ((3, 2), (1, 2), (1, 1)), (2, 2, 0)]
)
def test_pools_are_pytorchs_and_only_sums_of_spikes_are_spikes(kernel: Any, stride: Any, padding: Any) -> None:
    rng = np.random.default_rng(4)
    x = (rng.random((4, 2, 3, 5, 6)) < 0.4).astype(float)
    images = torch.tensor(x).flatten(0, 1)
    mean = torch.nn.functional.avg_pool2d(images, kernel, stride, padding)
    total = torch.nn.functional.avg_pool2d(images, kernel, stride, padding, divisor_override=1)
    for pool, expected, signal in ((nir.AvgPool2d, mean, Signal.VALUES), (nir.SumPool2d, total, Signal.SPIKES)):
        node = pool(*(np.array(value) for value in (kernel, stride, padding)))
        program, got = run(chain((3, 5, 6), node), 4, {"input": x}, input_signal=Signal.SPIKES)
        np.testing.assert_allclose(got.outputs["output"].reshape(-1, *expected.shape[1:]), expected, atol=1e-15)
        assert program["n0"].signal is signal
        # Each event is one accumulation for every window that holds it, whatever is made of the sum.
        assert got.counts.per_step("n0", "ac").sum() == total.sum()
        assert got.counts.total("mac") == 0


def test_matrix_for_each_place_of_leading_axes() -> None:
    rng = np.random.default_rng(5)
    weight, bias, x = rng.normal(size=(3, 5, 4)), rng.normal(size=(3, 5)), rng.normal(size=(2, 2, 3, 4))
    got = out(chain((3, 4), nir.Affine(weight, bias)), x)
    expected = np.stack([x[:, :, g] @ weight[g].T + bias[g] for g in range(3)], axis=2)
    np.testing.assert_allclose(got.reshape(expected.shape), expected, atol=1e-14)


def test_leaky_integrators_are_recursive_filters() -> None:
    """LI is v[t] = (1 - a) v[t-1] + a r x[t]; CubaLI is one behind another; I is a sum."""
    x, one = np.random.default_rng(6).normal(size=(40, 1, 1)), np.ones(1)

    def leaky(tau: float, gain: float, x: np.ndarray, *, exact: bool = False) -> np.ndarray:
        kept = np.exp(-DT / tau) if exact else 1 - DT / tau
        return lfilter([gain * (1 - kept)], [1, -kept], x, axis=0)

    li = chain((1,), nir.LI(0.01 * one, 3 * one, 0 * one))
    cuba = chain((1,), nir.CubaLI(0.004 * one, 0.01 * one, 3 * one, 0 * one, w_in=2 * one))
    np.testing.assert_allclose(out(li, x), leaky(0.01, 3, x), atol=1e-14)
    np.testing.assert_allclose(out(cuba, x), leaky(0.01, 3, leaky(0.004, 2, x)), atol=1e-14)
    np.testing.assert_allclose(out(chain((1,), nir.I(200 * one)), x), 0.2 * np.cumsum(x, axis=0), atol=1e-14)
    np.testing.assert_allclose(out(li, x, integration="exponential"), leaky(0.01, 3, x, exact=True), atol=1e-14)


def test_exponential_integration_is_the_solution_of_the_equation() -> None:
    """tau dv/dt = v_leak - v + r I with constant I, whatever the step."""
    one = np.ones(1)
    graph = chain((1,), nir.LI(0.01 * one, 3 * one, 0.5 * one))
    t = DT * np.arange(1, 31)
    got = out(graph, np.full((30, 1, 1), 0.7), integration="exponential")[:, 0, 0]
    np.testing.assert_allclose(got, (0.5 + 3 * 0.7) * (1 - np.exp(-t / 0.01)), rtol=1e-13)


def test_current_of_a_step_reaches_the_membrane_in_that_step() -> None:
    """tau_syn = tau_mem = 2 dt: I = 1, then 0.5; v = 1, then 0.5 + 0.5: as Lava, snnTorch, SpikingJelly have it."""
    two, one = np.full(1, 2 * DT), np.ones(1)
    node = nir.CubaLIF(two, two, 2 * one, 0 * one, 10 * one, w_in=2 * one)
    _, got = run(chain((1,), node), 3, {"input": np.array([1.0, 0, 0]).reshape(3, 1, 1)})
    assert got.membranes["n0"][:, 0, 0].tolist() == [1, 1, 0.75]


@pytest.mark.parametrize(
    ("where", "resets"), [("node", [0.25, 0.5, 0.75]), ("graph", [0.25, 0.5, 0.75]), (None, [0, 0, 0])]
)
def test_soft_reset_keeps_what_is_above_the_threshold(where: str | None, resets: list[float]) -> None:
    """An IF that gets 1.25 per step and fires above 1: v before the reset is what was left plus 1.25."""
    metadata = {"reset_mechanism": "subtract"}
    node = nir.IF(np.full(1, 1 / DT), np.ones(1), metadata=metadata if where == "node" else {})
    graph = chain((1,), node, **(metadata if where == "graph" else {}))
    _, got = run(graph, 3, {"input": np.full((3, 1, 1), 1.25)})
    assert got.spikes["n0"].all()
    assert got.membranes["n0"][:, 0, 0].tolist() == [1.25, *(1.25 + left for left in resets[:2])]


def test_one_parameter_holds_for_all_neurons() -> None:
    x = np.random.default_rng(7).normal(size=(6, 2, 3))
    one = np.array(0.5)
    scalar, full = (nir.LIF(0.01 * n, 20 * n, 0 * n, n, -n) for n in (one, np.full(3, 0.5)))
    np.testing.assert_array_equal(out(chain((3,), scalar), x), out(chain((3,), full), x))


def test_channels_wait_their_own_time() -> None:
    x = np.arange(1.0, 11).reshape(5, 1, 2)
    got = out(chain((2,), nir.Delay(np.array([0, 3 * DT]))), x)
    assert got[:, 0].tolist() == [[1, 0], [3, 0], [5, 0], [7, 2], [9, 4]]


def test_delays_are_rounded_only_where_that_is_asked_for() -> None:
    graph = chain((2,), nir.Delay(np.array([0.9 * DT, 2.2 * DT])))
    with pytest.raises(
        GraphError, match=r"n0: delay must be whole steps of 0\.001 s, not 0\.0009 s; .* \(--round-delays\)"
    ):
        lower(graph, dt=DT, steps=4)
    program = lower(graph, dt=DT, steps=4, round_delays=True)
    assert program["n0"].delay.tolist() == [1, 2]  # type: ignore[attr-defined]
    assert program.notes == ("n0: 2 delays rounded to whole steps of 0.001 s",)


def neurons(n: int, **changes: float) -> nir.LIF:
    values = {"tau": 2 * DT, "r": 2.0, "v_leak": 0.0, "v_threshold": 0.9, "v_reset": 0.0} | changes
    return nir.LIF(**{name: np.full(n, value) for name, value in values.items()})


def nested(inner: nir.NIRNode, weight: np.ndarray) -> nir.NIRGraph:
    """A recurrent layer as snnTorch exports it: neurons whose spikes come back through a matrix."""
    n = len(weight)
    nodes = {
        "input": nir.Input(np.array([n])),
        "lif": inner,
        "w_rec": nir.Linear(weight),
        "output": nir.Output(np.array([n])),
    }
    return nir.NIRGraph(nodes, [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")])


def test_recurrent_layer_in_a_nested_graph() -> None:
    """One neuron excites the other with weight 2, a step later; nobody excites the first."""
    graph = chain((2,), nested(neurons(2), np.array([[0.0, 0], [2, 0]])))
    program, got = run(graph, 4, {"input": np.array([[1.0, 0], [0, 0], [1, 0], [0, 0]])[:, None]})
    assert got.spikes["n0.lif"][:, 0].astype(int).tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    assert got.counts.per_step("n0.w_rec", "ac")[:, 0].tolist() == [0, 1, 0, 1]  # a weight of 0 is no synapse
    assert program.notes == (
        "n0.lif -> n0.w_rec closes a cycle without a delay: it carries what n0.lif put out in the step before",
    )
    assert {o.name for o in program.operations} == {"input", "n0.lif", "n0.w_rec", "n0.lif.step_before", "output"}


def test_neuron_that_feeds_itself_gets_its_spike_a_step_later() -> None:
    nodes = {"input": nir.Input(np.array([1])), "lif": neurons(1), "output": nir.Output(np.array([1]))}
    graph = nir.NIRGraph(nodes, [("input", "lif"), ("lif", "lif"), ("lif", "output")])
    assert out(graph, np.array([0.0, 1, 0, 0]).reshape(4, 1, 1)).ravel().tolist() == [0, 1, 1, 1]


def test_integrator_that_feeds_itself_is_a_sum_of_sums() -> None:
    """LI of tau = dt keeps nothing: y[t] = x[t] + y[t - 1]."""
    one = np.ones(1)
    nodes = {
        "input": nir.Input(np.array([1])),
        "li": nir.LI(DT * one, one, 0 * one),
        "output": nir.Output(np.array([1])),
    }
    graph = nir.NIRGraph(nodes, [("input", "li"), ("li", "li"), ("li", "output")])
    assert out(graph, np.array([1.0, 2, 3]).reshape(3, 1, 1)).ravel().tolist() == [1, 3, 6]


def test_nested_graphs_nest_and_pass_on_what_leads_straight_through() -> None:
    """outer = inner(x) + x, where inner = 2 x + x: 4 x in all."""
    inner = nir.NIRGraph(
        {"in": nir.Input(np.array([2])), "double": nir.Scale(np.full(2, 2.0)), "out": nir.Output(np.array([2]))},
        [("in", "double"), ("double", "out"), ("in", "out")],
    )
    outer = nir.NIRGraph(
        {"in": nir.Input(np.array([2])), "inner": inner, "out": nir.Output(np.array([2]))},
        [("in", "inner"), ("inner", "out"), ("in", "out")],
    )
    x = np.random.default_rng(8).normal(size=(3, 1, 2))
    np.testing.assert_array_equal(out(chain((2,), outer), x), 4 * x)


def test_several_inputs_and_outputs() -> None:
    rng = np.random.default_rng(9)
    a, b = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 2))
    weight = rng.normal(size=(2, 4))
    nodes = {
        "a": nir.Input(np.array([4])), "b": nir.Input(np.array([2])), "fc": nir.Linear(weight),
        "sum": nir.Output(np.array([2])), "copy": nir.Output(np.array([4])),
    }  # fmt: skip
    graph = nir.NIRGraph(nodes, [("a", "fc"), ("fc", "sum"), ("b", "sum"), ("a", "copy")])
    _, got = run(graph, 2, {"a": a, "b": b})
    np.testing.assert_allclose(got.outputs["sum"], a @ weight.T + b, atol=1e-15)
    np.testing.assert_array_equal(got.outputs["copy"], a)


def test_constant_of_an_affine_is_added_and_counted_at_every_step() -> None:
    graph = chain((2,), nir.Affine(np.eye(2), np.array([0.25, -1])))
    _, got = run(graph, 3, {"input": np.zeros((3, 1, 2))})
    assert got.outputs["output"][:, 0].tolist() == [[0.25, -1]] * 3
    assert got.counts.per_step("n0", "bias")[:, 0].tolist() == [2, 2, 2]
    zero = lower(chain((2,), nir.Affine(np.eye(2), np.zeros(2))), dt=DT, steps=3)["n0"]
    assert isinstance(zero, Synapse)
    assert zero.bias is None


@pytest.mark.parametrize(("signal", "kind"), [(None, "mac"), (Signal.SPIKES, "ac"), (Signal.VALUES, "mac")])
def test_what_an_input_carries_decides_between_ac_and_mac_not_its_numbers(signal: Signal | None, kind: str) -> None:
    graph = chain((2,), nir.Linear(np.ones((3, 2))), neurons(3), nir.Linear(np.ones((4, 3))))
    _, got = run(graph, 2, {"input": np.ones((2, 1, 2))}, input_signal=signal)
    assert got.counts.per_step("n0", kind)[:, 0].tolist() == [6, 6]
    assert got.counts.per_step("n2", "ac")[:, 0].tolist() == [
        12,
        12,
    ]  # three neurons fire into four, whatever drove them
    assert got.counts.total("ac" if kind == "mac" else "mac") == (24 if kind == "mac" else 0)


def test_an_average_of_spikes_is_multiplied_further_on_a_sum_is_not() -> None:
    two = np.array([2, 2])
    for pool, kind in ((nir.AvgPool2d, "mac"), (nir.SumPool2d, "ac")):
        graph = chain((1, 2, 2), pool(two, two, 0 * two), nir.Flatten({"input": None}, 0), nir.Linear(np.ones((5, 1))))
        _, got = run(graph, 1, {"input": np.ones((1, 1, 1, 2, 2))}, input_signal=Signal.SPIKES)
        assert got.counts.per_step("n2", kind).item() == (5 if kind == "mac" else 20)  # a sum of four is four events


def _unequal() -> nir.NIRGraph:
    two = np.ones(2)
    nodes = {"a": nir.Input(np.array([3])), "b": nir.Linear(np.ones((2, 3))), "c": nir.LIF(two, two, two, two, two)}
    return nir.NIRGraph({**nodes, "d": nir.Output(np.array([2]))}, [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d")],
                        type_check=False)  # fmt: skip


def _two_inputs() -> nir.NIRGraph:
    two = np.array([2])
    nodes = {"a": nir.Input(two), "b": nir.Input(two), "c": nir.Output(two)}
    return nir.NIRGraph(nodes, [("a", "c"), ("b", "c")])


def _changed(node: nir.NIRNode, field: str, value: Any) -> nir.NIRNode:
    setattr(node, field, value)
    return node


IMAGE = (4, 7, 6)


def test_end_of_a_nested_graph_without_a_type_passes_on_what_arrives() -> None:
    ends = {"a": nir.Input(None), "b": nir.Output(None)}
    nested = nir.NIRGraph({**ends, "lif": neurons(2)}, [("a", "lif"), ("lif", "b")], type_check=False)
    program = lower(chain((2,), nested), dt=DT, steps=3)
    assert [(o.name, o.width) for o in program.operations] == [("input", 2), ("n0.lif", 2), ("output", 2)]


REFUSED: dict[str, tuple[Any, str]] = {
    "widths": (_unequal, r"a -> c: 3 channels lead into 2"),
    "not a number": (
        lambda: chain((2,), nir.Linear(np.array([[1, np.nan]]))),
        r"n0: weight must be numbers, found nan at \[0, 1\]",
    ),
    "parameter": (lambda: chain((2,), neurons(2, v_leak=np.inf)), r"n0: v_leak must be a number, found inf"),
    "threshold": (lambda: chain((1,), nir.Threshold(np.array([np.nan]))), r"n0: threshold must be a number, found nan"),
    "tau_syn": (lambda: chain((1,), nir.CubaLI(*(np.zeros(1),) * 4)), r"n0: tau_syn must be above 0, found 0\.0"),
    "reset": (
        lambda: chain((2,), neurons(2), reset_mechanism="none"),
        r"n0 \(LIF\): metadata reset_mechanism must be subtract or zero, not 'none'",
    ),
    "two resets": (
        lambda: chain((2,), neurons(2, v_reset=-1.0), reset_mechanism="subtract"),
        r"n0 \(LIF\): metadata reset_mechanism is subtract, but v_reset is -1\.0",
    ),
    "same with a stride": (
        lambda: chain(IMAGE, convolution(padding="same", stride=2)),
        r"n0 \(Conv2d\): padding 'same' with stride \(2, 2\) has no meaning in NIR",
    ),
    "padding": (
        lambda: chain(IMAGE, _changed(convolution(), "padding", "full")),
        r"n0 \(Conv2d\): padding 'full' is not known",
    ),
    "stride": (
        lambda: chain(IMAGE, _changed(convolution(), "stride", (0, 1))),
        r"n0 \(Conv2d\): stride must be 2 whole numbers, 1 or more, found \(0, 1\)",
    ),
    "groups": (
        lambda: chain(IMAGE, _changed(convolution(), "groups", 3)),
        r"n0 \(Conv2d\): groups 3 do not divide its 8 output channels",
    ),
    "kernel too large": (
        lambda: chain(IMAGE, convolution(kernel=(8, 3))),
        r"n0 \(Conv2d\): its kernel of \(8, 3\) does not fit",
    ),
    "channels": (
        lambda: chain((3, 7, 6), convolution()),
        r"n0 \(Conv2d\): shape \(3, 7, 6\) arrives, it takes 4 channels x 7x6",
    ),
    "flat pool": (
        lambda: chain((12,), nir.SumPool2d(*(np.array([1, 1]),) * 3)),
        r"n0 \(SumPool2d\): shape \(12,\) arrives, it takes C channels x NxN",
    ),
    "two ends": (
        lambda: chain((2,), _two_inputs()),
        r"n0: a nested NIRGraph must have one Input to be run, it has 2",
    ),
    "nothing arrives": (
        lambda: nir.NIRGraph({"lif": neurons(1), "b": nir.Output(None)}, [("lif", "b")], type_check=False),
        r"lif: nothing leads into this LIF",
    ),
    "edge twice": (
        lambda: nir.NIRGraph({"a": nir.Input([1]), "b": nir.Output(None)}, [("a", "b")] * 2, type_check=False),
        r"the edge a -> b is there twice",
    ),
    "edge to nowhere": (
        lambda: nir.NIRGraph({"input": nir.Input(np.array([1]))}, [("input", "lif")], type_check=False),
        r"the edge input -> lif names a node lif that the graph does not have",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_run_is_named(make: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        lower(make(), dt=DT, steps=3)


def test_without_a_step_length_the_option_is_named() -> None:
    with pytest.raises(GraphError, match="--dt"):
        lower(chain((2,), neurons(2)), steps=3)
    assert lower(chain((2,), neurons(2), dt=0.5), steps=3).dt == 0.5
    assert lower(chain((2,), neurons(2), dt=0.5), steps=3, dt=0.25).dt == 0.25


def test_step_longer_than_a_time_constant_is_told() -> None:
    (note,) = lower(chain((2,), neurons(2, tau=DT / 2)), dt=DT, steps=3).notes
    assert "n0: tau of 0.0005 s is shorter than the step of 0.001 s: forward Euler overshoots" in note
    assert lower(chain((2,), neurons(2, tau=DT / 2)), dt=DT, steps=3, integration="exponential").notes == ()


def deep(seed: int, *, recurrent: bool) -> nir.NIRGraph:
    """Convolutions, pools and neurons of every kind with ordinary floats as weights, none of them exact in binary."""
    rng = np.random.default_rng(seed)

    def numbers(*shape: int, low: float = 0.2) -> np.ndarray:
        return rng.uniform(low, 1, shape)

    first = (3, 5, 6)
    nodes: list[nir.NIRNode] = [
        nir.Conv2d((5, 6), rng.normal(size=(3, 2, 3, 2)), 1, (1, 0), (1, 1), 1, rng.normal(size=3)),
        nir.CubaLIF(DT / numbers(3, 5, 5), DT / numbers(3, 5, 5), 3 * numbers(3, 5, 5), -numbers(3, 5, 5) / 9,
                    numbers(3, 5, 5), -numbers(3, 5, 5) / 3, w_in=numbers(3, 5, 5)),
        nir.SumPool2d(np.array([2, 2]), np.array([1, 2]), np.array([0, 1])),
        nir.Conv2d((4, 3), rng.normal(size=(6, 1, 2, 2)), 1, "same", 1, 3, np.zeros(6)),
        nir.LIF(DT / numbers(6, 4, 3), 3 * numbers(6, 4, 3), 0 * numbers(6, 4, 3), numbers(6, 4, 3),
                metadata={"reset_mechanism": "subtract"}),
        nir.AvgPool2d(np.array([3, 3]), np.array([2, 1]), np.array([1, 1])),
        nir.Delay(np.asarray(rng.integers(0, 3, (6, 2, 3)) * DT)),
        nir.Conv1d(6, rng.normal(size=(3, 6, 3)), 1, 1, 1, 1, rng.normal(size=3)),
        nir.LI(DT / numbers(3, 6), numbers(3, 6), numbers(3, 6)),
    ]  # fmt: skip
    graph = chain((2, *first[1:]), *nodes)
    if recurrent:  # each kernel's own size is 1, so that no sum is taken in another order
        back = nir.Scale(rng.normal(size=(3, 5, 5)))
        graph.nodes["back"] = back
        graph.edges += [("n1", "back"), ("back", "n1")]
    return graph


def rates(program: Program, got: Recording) -> list[float]:
    return [float(got.spikes[name].mean()) for name in got.spikes]


@pytest.mark.lava
@pytest.mark.parametrize("recurrent", [False, True], ids=["feed-forward", "recurrent"])
def test_ordinary_floats_give_the_same_bits_everywhere(recurrent: bool) -> None:
    """Lava, compiled windows, compiled steps and the definition: sums over space have one order, hence one value."""
    from spikescr.sim.lava.backend import LavaBackend

    x = (np.random.default_rng(11).random((9, 2, 60)) < 0.5).astype(float)
    program = lower(deep(10, recurrent=recurrent), dt=DT, steps=9, input_signal=Signal.SPIKES)
    assert program.cyclic is recurrent
    with LavaBackend(program, 2, record_membranes=True) as lava:
        executed = lava.run({"input": x})
    assert all(0.05 < rate < 0.9 for rate in rates(program, executed))
    fast = FastBackend(program, 2, record_membranes=True)
    same(fast.run({"input": x}), executed)
    with StepBackend("steps", program, Options(batch=2, membranes=True), OWN) as stepwise:
        same(stepwise.run({"input": x}), executed)
    same(InterpreterBackend(program, 2).run({"input": x}), executed)


@pytest.mark.parametrize("options", [{}, {"exponential": True}], ids=["euler", "exponential"])
@pytest.mark.parametrize("recurrent", [False, True], ids=["feed-forward", "recurrent"])
def test_every_primitive_does_what_the_equations_say(recurrent: bool, options: dict[str, bool]) -> None:
    """Lowering included; membranes within rounding, the interpreter writes its coefficients another way."""
    graph = deep(12, recurrent=recurrent)
    x = (np.random.default_rng(13).random((8, 1, 60)) < 0.5).astype(float)
    integration = "exponential" if options else "euler"
    program, got = run(graph, 8, {"input": x}, integration=integration, input_signal=Signal.SPIKES)
    expected: Trace = interpret(graph, {"input": x[:, 0]}, 8, dt=DT, input_signal="spikes", **options)
    assert all(0.05 < rate < 0.9 for rate in rates(program, got))
    for name, membrane in got.membranes.items():
        np.testing.assert_allclose(membrane[:, 0], expected.membranes[name], rtol=0, atol=1e-12, err_msg=name)
    for name, spikes in got.spikes.items():
        np.testing.assert_array_equal(spikes[:, 0], expected.outputs[name], err_msg=name)
    np.testing.assert_allclose(got.outputs["output"][:, 0], expected.outputs["output"], rtol=0, atol=1e-12)
    for operation in program.of_type(Convolution):
        for kind in ("ac", "mac", "bias"):
            counted = got.counts.per_step(operation.name, kind)[:, 0]
            np.testing.assert_array_equal(counted, expected.counts[operation.name][kind], err_msg=operation.name)


def test_file_of_a_grouped_convolution_is_read(tmp_path: Any) -> None:
    """`nir.read` refuses it: its type check takes the channels of a group for all channels."""
    from spikescr.sim.lowering.graph_file import read_graph

    path = tmp_path / "grouped.nir"
    graph = chain(IMAGE, convolution(groups=2, padding="same", kernel=(3, 1)))
    graph.nodes["output"] = nir.Output(np.array([8, 7, 6]))
    nir.write(path, graph)
    with pytest.raises(ValueError, match="type mismatch"):
        nir.read(path)
    (operation,) = lower(read_graph(path, type_check=False), dt=DT, steps=2).of_type(Convolution)
    assert operation.groups == 2
    live = np.count_nonzero(operation.weight, axis=(0, 1))[:, 0]
    assert operation.fan_out.sum() == 6 * (live @ [6, 7, 6])  # six columns; the outer weights lack a row at the edge


def test_formula_charges_convolutions_channel_by_channel() -> None:
    """Real input, one of two steps valid, one entry 0: every synapse at every step of the window."""
    x = np.ones((2, 1, *IMAGE))
    x[0, 0, 0, 3, 3] = x[1] = 0
    program, got = run(chain(IMAGE, convolution()), 2, {"input": x})
    (operation,) = program.of_type(Convolution)
    row = [o.name for o in program.operations].index(operation.name)
    formula, synapses = evaluate(program, got.counts, np.array([1])), int(operation.fan_out.sum())
    missed = int(operation.fan_out.reshape(IMAGE)[0, 3, 3])
    assert missed > 0
    assert formula.mac[row, :, 0].tolist() == [synapses, synapses]
    assert formula.causes["padding"][row, 1] == -synapses
    assert formula.causes["zero_input"][row, 1] == -missed
    assert got.counts.per_step(operation.name, "mac").sum() == synapses - missed
