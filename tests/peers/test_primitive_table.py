"""Every primitive of NIR 1.0.8: interpreter of NIR, Lava, compiled backend; the table of docs/nir.md.

The interpreter (`oracles.nir_interpreter`) is written from the definition and shares nothing with the project.
"""

from __future__ import annotations

import importlib.util
import inspect
import itertools
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import nir
import numpy as np
import pytest
from frameworks.comparison import BackendName, execute
from oracles.nir_interpreter import interpret
from random_graphs import RandomGraph

ROOT = Path(__file__).parents[2]
DT, STEPS = 1e-3, 12
COLUMNS = ("interpreter", "Lava", "fast")
RNG = np.random.default_rng(0)
PRIMITIVES = {
    kind.__name__: kind
    for kind in vars(nir).values()
    if inspect.isclass(kind) and issubclass(kind, nir.NIRNode) and kind is not nir.NIRNode
}


def chain(shape: tuple[int, ...], *nodes: nir.NIRNode, out: np.ndarray | None = None) -> nir.NIRGraph:
    named = {"input": nir.Input(np.array(shape)), **{f"n{i}": node for i, node in enumerate(nodes)}}
    named["output"] = nir.Output(out)
    return nir.NIRGraph(named, list(itertools.pairwise(named)), type_check=False)


def some(*shape: int, low: float = 0.2, high: float = 1.0) -> np.ndarray:
    return RNG.uniform(low, high, shape)


def tau(n: int) -> np.ndarray:
    return DT / some(n, low=0.1, high=0.6)


def plain_lif(n: int) -> nir.LIF:
    return nir.LIF(tau(n), 3 * some(n), 0 * some(n), some(n), 0 * some(n))


def pool(kind: type[nir.NIRNode]) -> nir.NIRNode:
    return kind(np.array([2, 2]), np.array([1, 2]), np.array([1, 0]))


IMAGE = (2, 4, 6)
# A graph for each; "n0" is the primitive where it is not an end of the graph.
GRAPHS: dict[str, Callable[[], nir.NIRGraph]] = {
    "Affine": lambda: chain((4,), nir.Affine(some(5, 4, low=-1), some(5, low=-1))),
    "AvgPool2d": lambda: chain(IMAGE, pool(nir.AvgPool2d)),
    "Conv1d": lambda: chain((2, 9), nir.Conv1d(9, some(3, 2, 3, low=-1), 2, 1, 2, 1, some(3))),
    "Conv2d": lambda: chain(IMAGE, nir.Conv2d((4, 6), some(4, 1, 2, 3, low=-1), (1, 2), (1, 0), 1, 2, some(4))),
    "CubaLI": lambda: chain((4,), nir.CubaLI(tau(4), tau(4), some(4), some(4), w_in=some(4))),
    "CubaLIF": lambda: chain((4,), nir.CubaLIF(tau(4), tau(4), 5 * some(4), 0.1 * some(4), some(4), -some(4), some(4))),
    "Delay": lambda: chain((4,), nir.Delay(DT * np.arange(4.0))),
    "Flatten": lambda: chain(IMAGE, nir.Flatten({"input": np.array(IMAGE)}, 0)),
    "I": lambda: chain((4,), nir.I(300 * some(4))),
    "IF": lambda: chain((4,), nir.IF(900 * some(4), some(4), -some(4))),
    "Input": lambda: chain((4,), nir.Scale(some(4))),
    "LI": lambda: chain((4,), nir.LI(tau(4), some(4), some(4))),
    "LIF": lambda: chain((4,), nir.LIF(tau(4), 5 * some(4), 0.1 * some(4), some(4), -some(4))),
    "Linear": lambda: chain((4,), nir.Linear(some(5, 4, low=-1))),
    "NIRGraph": lambda: chain((4,), chain((4,), nir.Linear(some(4, 4)), plain_lif(4), out=np.array([4]))),
    "Output": lambda: chain((4,), nir.Scale(some(4))),
    "Scale": lambda: chain((4,), nir.Scale(some(4, low=-1))),
    "SumPool2d": lambda: chain(IMAGE, pool(nir.SumPool2d)),
    "Threshold": lambda: chain((4,), nir.Scale(some(4)), nir.Threshold(some(4))),
}


def kinds(graph: nir.NIRGraph) -> set[str]:
    """Types of all nodes, those of nested graphs too; packed operations of the dialect are not NIR's."""
    found: set[str] = set()
    for node in graph.nodes.values():
        if isinstance(node, nir.NIRGraph) and "spikescr.op" not in node.metadata:
            found |= kinds(node)
        if "spikescr.op" not in node.metadata:
            found.add(type(node).__name__)
    return found


@pytest.mark.parametrize("backend", ["fast", pytest.param("lava", marks=pytest.mark.lava)])
@pytest.mark.parametrize("name", PRIMITIVES)
def test_primitive_alone_does_what_nir_says(name: str, backend: BackendName) -> None:
    graph = GRAPHS[name]()
    assert name in kinds(graph)
    shape = tuple(graph.nodes["input"].input_type["input"])
    x = (np.random.default_rng(1).random((STEPS, 2, *shape)) < 0.6).astype(float)
    program, got = execute(graph, x, DT, backend)
    for b in range(2):
        flat = x[:, b].reshape(STEPS, -1)
        expected = interpret(graph, {"input": flat}, STEPS, dt=DT, input_signal="spikes")
        assert np.abs(expected.outputs["output"]).max() > 0
        np.testing.assert_allclose(got.outputs["output"][:, b], expected.outputs["output"], rtol=0, atol=1e-13)
        for neuron, spikes in got.spikes.items():
            np.testing.assert_array_equal(spikes[:, b], expected.outputs[neuron])
            assert 0.01 < spikes.mean() < 0.99
            np.testing.assert_allclose(got.membranes[neuron][:, b], expected.membranes[neuron], rtol=0, atol=1e-13)
    assert program.steps == STEPS


def _deep() -> nir.NIRGraph:
    path = ROOT / "tests" / "sim" / "test_primitives.py"
    spec = importlib.util.spec_from_file_location("primitives_of_the_simulator", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    graph: nir.NIRGraph = module.deep(10, recurrent=True)
    return graph


def table() -> str:
    """The rows of docs/nir.md: which bodies of tests have the primitive.

    alone: here. floats: tests/sim/test_primitives.py, one graph of ordinary floats. random: tests/sim/test_backends.py,
    a few hundred graphs; in Lava so few that what they hold is left to chance, and they are not counted there.
    """
    drawn: set[str] = set()
    for seed in range(80):
        drawn |= kinds(RandomGraph(seed, steps=4, samples=1, layers=8, cycles=True).case.graph)
    alone = {name for name in GRAPHS if name in kinds(GRAPHS[name]())}
    bodies = {"alone": alone, "floats": kinds(_deep()), "random": drawn}
    rows = [f"| NIR {version('nir')} | {' | '.join(COLUMNS)} |", f"|---|{'---|' * len(COLUMNS)}"]
    for name in sorted(PRIMITIVES):
        having = [body for body, members in bodies.items() if name in members]
        cells = [", ".join(body for body in having if (column, body) != ("Lava", "random")) for column in COLUMNS]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def test_no_primitive_of_this_nir_is_without_a_test_and_the_page_says_which() -> None:
    assert GRAPHS.keys() == PRIMITIVES.keys()
    rows = table()
    for row in rows.splitlines()[2:]:
        assert row.count("alone") == len(COLUMNS)
        assert row.count("random") == 2
    assert rows in (ROOT / "docs" / "nir.md").read_text(), f"docs/nir.md should have this table:\n{rows}"
