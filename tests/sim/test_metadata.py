"""What metadata may hold, key by key: values that fit and values next to them that do not; no key is left out."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest

from spikescr.dialect import PACKED_OPERATIONS
from spikescr.sim.lowering.metadata import GRAPH, NODE, PACKED, graph_faults, node_faults

TEXT: tuple[list[Any], list[Any]] = (["", "abc"], [1, b"abc", ["abc"], None, np.array(["abc"])])
OBJECT: tuple[list[Any], list[Any]] = (["{}", '{"a": [1]}'], ["[]", "1", "{", "", {}, "[" * 10_000, None])
POSITIVE: tuple[list[Any], list[Any]] = ([1e-3, 1, np.float32(2)], [0, -1.0, np.inf, np.nan, "1", True, None])
TABLE: tuple[list[Any], list[Any]] = (
    [np.ones((2, 3)), np.zeros((1, 1), int)],
    [np.ones(3), np.ones((1, 2, 3)), np.ones((0, 3)), np.full((2, 2), np.nan), np.ones((2, 2), complex), [[1.0]], "1"],
)


def whole(low: int, high: int | None = None) -> tuple[list[Any], list[Any]]:
    """From low to high, both included."""
    most = 10**9 if high is None else high
    beyond = [] if high is None else [high + 1, np.inf]
    return [low, most, np.int64(low), float(low)], [low - 1, low + 0.5, -np.inf, np.nan, "1", True, None, *beyond]


STAGE = '{"name": "a", "rule": "b", "additions": 1, "multiplications": 2, "each": "frame"}'
FRONT_END = (
    ['{"title": "a"}', f'{{"title": "a", "frames_per_step": 2, "stages": [{STAGE}], "not_counted": "c"}}'],
    [
        "{}",
        '{"title": 1}',
        f'{{"title": "a", "stages": [{STAGE.replace("1", "-1")}]}}',
        '{"title": "a", "b": 1}',
        "[",
        None,
    ],
)
OF_GRAPH = {
    "spikescr.format": whole(1),
    "spikescr.precision": TEXT,
    "spikescr.dt": POSITIVE,
    "spikescr.tail": whole(0, 10**9),
    "spikescr.steps": whole(1, 10**9),
    "spikescr.readout": TEXT,
    "spikescr.classes": (["[]", '["a", "b"]'], ['[1, "a"]', "{}", '"a"', "[", ["a"], None]),
    "spikescr.data": OBJECT,
    "spikescr.front_end": FRONT_END,
    "spikescr.model": OBJECT,
    "spikescr.checkpoint": TEXT,
    "spikescr.versions": OBJECT,
    "reset_mechanism": TEXT,
}
OF_NODE = {
    "spikescr.op": TEXT,
    "spikescr.latency": whole(0, 10**9),
    "spikescr.signal": (["values", "spikes"], ["clock", "", 1, np.array("spikes"), None]),
    "spikescr.origin": TEXT,
    "spikescr.held": whole(0, 1),
    "spikescr.exponent": whole(0, 7),
    "spikescr.bits": whole(1, 64),
    "spikescr.sign_mode": TEXT,
    "spikescr.scale": POSITIVE,
    "spikescr.dv": whole(0, 4095),
    "spikescr.vth": whole(0, 131071),
    "spikescr.du": whole(0, 4095),
    "spikescr.bias_mant": whole(-4096, 4095),
    "spikescr.bias_exp": whole(0, 7),
    "reset_mechanism": TEXT,
}
OF_PACKED = {
    "heads": whole(1),
    "cos": TABLE,
    "sin": TABLE,
    "table": TABLE,
    "scale": ([0.5, -1, 0], [np.inf, np.nan, "1", None, True]),
    "steps": whole(1, 10**9),
    "width": whole(1),
    "spike_width": whole(1),
    "tokens": whole(1),
    "depth": whole(1),
    "fan": whole(1),
    "source_width": whole(1),
    "index": (
        [np.arange(3), np.array([-1], np.int8)],
        [np.ones(3), np.ones((1, 2), int), np.zeros(0, int), np.array([True]), [1], 1],
    ),
}


def test_every_key_is_here() -> None:
    assert (OF_GRAPH.keys(), OF_NODE.keys(), OF_PACKED.keys()) == (GRAPH.keys(), NODE.keys(), PACKED.keys())
    assert {key for op in PACKED_OPERATIONS.values() for key in op.parameters} == OF_PACKED.keys()


@pytest.mark.parametrize("key", OF_GRAPH)
def test_of_a_graph(key: str) -> None:
    fit, not_fit = OF_GRAPH[key]
    assert [graph_faults({key: value}) for value in fit] == [[]] * len(fit)
    for value in not_fit:
        (fault,) = graph_faults({key: value})
        assert fault.startswith(f"metadata {key} must be "), value
    assert graph_faults({"others": object()}) == []


@pytest.mark.parametrize("key", OF_NODE)
def test_of_a_node(key: str) -> None:
    fit, not_fit = OF_NODE[key]
    for value in fit:
        assert node_faults(nir.Scale(np.ones(1), metadata={key: value})) == []
    for value in not_fit:
        (fault,) = node_faults(nir.Scale(np.ones(1), metadata={key: value}))
        assert fault.startswith(f"metadata {key} must be "), value


@pytest.mark.parametrize(("op", "key"), [(op, key) for op, of in PACKED_OPERATIONS.items() for key in of.parameters])
def test_of_a_packed_operation(op: str, key: str) -> None:
    good = {name: OF_PACKED[name][0][0] for name in PACKED_OPERATIONS[op].parameters}
    good |= {"source_width": 3} if op == "select" else {}

    def faults(**changed: Any) -> list[str]:
        metadata = {"spikescr.op": op, **good, **changed}
        return node_faults(nir.NIRGraph({}, [], metadata=metadata, type_check=False))

    assert faults() == []
    for value in OF_PACKED[key][1]:
        (fault,) = faults(**{key: value})
        assert fault.startswith(f"metadata {key} of {op} must be "), value
    del good[key]
    assert faults() == [f"metadata of {op} lacks {key}"]


def test_what_must_fit_together() -> None:
    tables = {"spikescr.op": "rotary", "heads": 1, "cos": np.ones((2, 3)), "sin": np.ones((2, 2))}
    rotary = nir.NIRGraph({}, [], metadata=tables, type_check=False)
    assert node_faults(rotary) == ["metadata cos and sin of rotary must have one shape, they have (2, 3) and (2, 2)"]
    for index in (-2, 3):
        chosen = {"spikescr.op": "select", "index": np.array([0, index]), "source_width": 3}
        select = nir.NIRGraph({}, [], metadata=chosen, type_check=False)
        assert node_faults(select) == [f"metadata index of select must be from -1 to 2, it holds {index}"]
    other = nir.NIRGraph({}, [], metadata={"spikescr.op": "unknown"}, type_check=False)
    assert node_faults(other)[0].startswith("a nested NIRGraph with spikescr.op 'unknown' cannot be run, only ")
