"""NIR files from anyone: described as far as they can be read, refused with file, node and what is wrong."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from spikescr.errors import GraphError
from spikescr.export.builder import GraphBuilder
from spikescr.sim.inspection.drawing import draw
from spikescr.sim.inspection.inspection import inspect
from spikescr.sim.lowering.graph_file import describe_graph, read_graph
from spikescr.sim.lowering.lower import lower
from spikescr.sim.lowering.primitives import PRIMITIVES

DT = 0.01


def lif(n: int) -> nir.LIF:
    one = np.ones(n)
    return nir.LIF(2 * DT * one, 2 * one, 0 * one, one, 0 * one)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    nir.write(tmp_path / "a.nir", nir.NIRGraph.from_list(nir.Linear(np.ones((3, 2))), lif(3)))
    return tmp_path / "a.nir"


def put(path: Path, **values: Any) -> None:
    """Replaces what a file holds under names with dots for slashes; None: takes it away."""
    with h5py.File(path, "r+") as file:
        for name, value in values.items():
            key = name.replace("__", "/")
            if key in file:
                del file[key]
            if value is not None:
                file[key] = value


def refused(path: Path) -> str:
    with pytest.raises(GraphError) as told:
        read_graph(path, type_check=False)
    assert str(told.value).startswith(f"{path}: ")
    return str(told.value).removeprefix(f"{path}: ")


NODES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown type": ({"type": "AdLIF"}, "type AdLIF is not one of nir 1.0.8"),
    "a field more": ({"neuron_count": 3}, "has neuron_count, which no LIF of nir 1.0.8 has"),
    "a field less": ({"tau": None}, "lacks tau, which a LIF of nir 1.0.8 has"),
    "no type": ({"type": None}, "is no node: it has no type"),
    "type of numbers": ({"type": 3}, "is no node: it has no type"),
    "types": ({"type": np.ones(3)}, "is no node: it has no type"),
    "metadata": ({"metadata": 1}, "metadata is no group of entries"),
    "complex": ({"tau": np.ones(3) * 1j}, "tau must be real numbers, it holds complex numbers"),
    "text": ({"tau": "long"}, "tau must be real numbers, it holds text"),
    "texts": ({"tau": np.array([b"a", b"b"])}, "tau must be real numbers, it holds text"),
    "compound": ({"tau": np.zeros(3, [("a", float)])}, "tau must be real numbers, it holds compounds"),
    "references": ({"tau": h5py.Empty("f8")}, "tau must be real numbers, it holds objects"),
    "other shape": ({"tau": np.ones(5)}, "no LIF can be made of it (AssertionError: All parameters must have the same"),
}


@pytest.mark.parametrize(("values", "message"), NODES.values(), ids=NODES.keys())
def test_nodes_that_cannot_be_read_are_named_with_the_files_version(
    file: Path, values: dict[str, Any], message: str
) -> None:
    put(file, version="9.9.9", **{f"node__nodes__lif__{key}": value for key, value in values.items()})
    told = refused(file)
    assert told.startswith(f"lif: {message}")
    assert told.endswith("; the file was written by nir 9.9.9")
    graph, problems = describe_graph(file)
    assert problems == (f"{file}: {told}",)
    report = inspect(graph)
    assert [node.name for node in report.nodes] == ["input", "linear", "lif", "output"]
    assert f"spikescr simulate cannot run it: lif: {message}" in " | ".join(report.warnings)
    assert "lif" in draw(report, "a")


def packed() -> nir.NIRGraph:
    build = GraphBuilder(DT)
    x = build.input("input", 4, "spikes")
    tables = {"cos": np.ones((5, 1)), "sin": np.zeros((5, 1))}
    operands = {"x": x, "clock": build.clock(0)}
    rotated = build.operation("rotary", "rotary", 4, operands, {"heads": 2, **tables})
    parameters = {"heads": 2, "scale": 0.5, "steps": 5}
    q, k, v = (build.lif(f"{name}.lif", build.linear(name, rotated, np.ones((4, 4)), None)) for name in "qkv")
    operands = {"q": q, "k": k, "v": v, "clock": build.clock(q.latency)}
    y = build.operation("attention", "attention", 4, operands, parameters, duration=5)
    build.output("output", build.gate("gate", y, build.clock(y.latency)))
    return build.graph({"spikescr.dt": DT, "spikescr.steps": 5, "spikescr.format": 1})


GRAPH = {
    "spikescr.format": np.array([1, 2]), "spikescr.dt": "fast", "spikescr.steps": -1, "spikescr.classes": "[1, 2]",
    "spikescr.data": "[]", "spikescr.model": "{", "spikescr.versions": 3, "spikescr.readout": np.ones(2),
    "spikescr.checkpoint": 0, "spikescr.precision": np.ones(3), "reset_mechanism": np.zeros(0),
}  # fmt: skip
PACKED: dict[str, tuple[str, Any]] = {
    "latency of text": ("q.lif", {"spikescr.latency": "abc"}),
    "latency below 0": ("q.lif", {"spikescr.latency": -1}),
    "latency, many": ("q.lif", {"spikescr.latency": np.ones(3)}),
    "signal": ("input", {"spikescr.signal": 1}),
    "signals": ("input", {"spikescr.signal": np.zeros(0)}),
    "no heads": ("rotary", {"heads": 0}),
    "heads of text": ("attention", {"heads": "two"}),
    "half a head": ("attention", {"heads": 2.5}),
    "flat table": ("rotary", {"cos": np.ones(5)}),
    "table of NaN": ("rotary", {"sin": np.full((5, 1), np.nan)}),
    "empty table": ("rotary", {"sin": np.ones((0, 1))}),
    "scale": ("attention", {"scale": np.inf}),
    "no steps": ("attention", {"steps": 0}),
    "steps": ("attention", {"steps": 10**12}),
    "spike width": ("gate", {"spike_width": -1}),
    "op": ("gate", {"spikescr.op": np.ones(2)}),
    "bits": ("q.synapse", {"spikescr.bits": 0}),
    "reset": ("q.lif", {"reset_mechanism": 1.5}),
}


@pytest.mark.parametrize("key", GRAPH)
def test_graph_metadata_of_another_kind(tmp_path: Path, key: str) -> None:
    nir.write(tmp_path / "a.nir", packed())
    put(tmp_path / "a.nir", **{f"node__metadata__{key}": GRAPH[key]})
    told = refused(tmp_path / "a.nir")
    assert told.startswith(f"the graph's metadata {key} must be ")
    graph, _ = describe_graph(tmp_path / "a.nir")
    assert told in " | ".join(inspect(graph).warnings)


def test_json_nested_without_end_is_no_list_of_names(tmp_path: Path) -> None:
    nir.write(tmp_path / "a.nir", packed())
    put(tmp_path / "a.nir", **{"node__metadata__spikescr.classes": "[" * 10_000 + "]" * 10_000})
    assert refused(tmp_path / "a.nir").startswith("the graph's metadata spikescr.classes must be text, a JSON list of")
    put(tmp_path / "a.nir", **{"node__metadata__spikescr.classes": json.dumps(["yes", "no"])})
    read_graph(tmp_path / "a.nir", type_check=False)


@pytest.mark.parametrize(("name", "values"), PACKED.values(), ids=PACKED.keys())
def test_node_metadata_of_another_kind(tmp_path: Path, name: str, values: dict[str, Any]) -> None:
    nir.write(tmp_path / "a.nir", packed())
    lower(read_graph(tmp_path / "a.nir"))
    put(tmp_path / "a.nir", **{f"node__nodes__{name}__metadata__{key}": value for key, value in values.items()})
    graph, problems = describe_graph(tmp_path / "a.nir")
    assert not problems
    with pytest.raises(GraphError, match=rf"^{name}: .*{next(iter(values))}"):
        lower(graph)
    warnings = inspect(graph).warnings
    assert f"spikescr simulate cannot run it: {name}: " in " | ".join(warnings)


def ends(*edges: tuple[str, str], width: int = 2, **nodes: nir.NIRNode) -> nir.NIRGraph:
    named = {"a": nir.Input(np.array([width])), "b": nir.Output(None), **nodes}
    return nir.NIRGraph(named, list(edges), type_check=False)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (nir.NIRGraph({"a": nir.Input(np.array([2]))}, [], type_check=False), "the graph has no Output"),
        (nir.NIRGraph({}, [], type_check=False), "the graph has no Output"),
        (
            ends(("a", "c"), ("c", "a"), ("c", "b"), c=nir.Scale(np.ones(2))),
            "c -> a: an edge leads into an Input of the graph",
        ),
        (ends(("a", "b"), ("b", "c"), c=nir.Output(None)), "b -> c: an edge leads out of an Output of the graph"),
        (ends(("a", "b"), width=0), r"a \(Input\): its shape must be whole numbers above 0, found array\(\[0\]\)"),
        (
            ends(("a", "c"), ("c", "b"), width=10**12, c=lif(1)),
            r"the state of the graph's nodes, of which a with 1,000,000,000,000 channels is the widest takes 192 TB",
        ),
    ],
    ids=["only an input", "nothing", "into an input", "out of an output", "no channels", "too wide"],
)
def test_nonsense_is_refused(graph: nir.NIRGraph, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        lower(graph, dt=DT, steps=2)
    report = inspect(graph)
    assert "spikescr simulate cannot run it: " in " | ".join(report.warnings)
    assert draw(report, "a").endswith("</svg>\n")


@pytest.mark.parametrize("key", ["spikescr.dt", "dt"])
@pytest.mark.parametrize("dt", [1e30, 1e-30])
def test_steps_that_are_no_time(key: str, dt: float) -> None:
    graph = nir.NIRGraph.from_list(nir.Linear(np.ones((3, 2))), lif(3))
    graph.metadata = {key: dt}
    with pytest.raises(GraphError, match=f"the graph's metadata {key}: a step must have from 1e-12 to 1e.06 s, not"):
        lower(graph, steps=2)
    with pytest.raises(GraphError, match="dt: a step must have from"):
        lower(graph, dt=dt, steps=2)


def test_flatten_of_some_axes_keeps_the_others() -> None:
    nodes = {
        "input": nir.Input(np.array([2, 3, 4])),
        "flat": nir.Flatten({"input": np.array([2, 3, 4])}, 1, -1),
        "conv": nir.Conv1d(None, np.ones((5, 2, 3)), 1, 0, 1, 1, np.zeros(5)),
        "output": nir.Output(None),
    }
    names = list(nodes)
    graph = nir.NIRGraph(nodes, list(itertools.pairwise(names)), type_check=False)
    shapes = {node.name: node.output_shape for node in inspect(graph).nodes}
    assert shapes == {"input": (2, 3, 4), "flat": (2, 12), "conv": (5, 10), "output": (5, 10)}
    assert lower(graph, dt=DT, steps=1)["conv"].width == 50


def links(kind: str, folder: Path) -> Callable[[h5py.File], None]:
    other = folder / "other"
    if "fifo" in kind:
        os.mkfifo(other)
    else:
        other.write_bytes(bytes(100))

    def change(file: h5py.File) -> None:
        group = file["node/nodes/lif"]
        del group["tau"]
        if kind == "soft link":
            group["tau"] = h5py.SoftLink("/node/nodes/lif/r")
        elif "external link" in kind:
            group["tau"] = h5py.ExternalLink(str(other), "/x")
        elif "virtual" in kind:
            layout = h5py.VirtualLayout((3,), float)
            layout[:] = h5py.VirtualSource(str(other), "x", (3,))
            group.create_virtual_dataset("tau", layout)
        elif kind == "circle":
            group["tau"] = file["node"]
        else:
            group.create_dataset("tau", (3,), float, external=[(str(other), 0, 24)])

    return change


ELSEWHERE = ("soft link", "external link", "external link to a fifo", "storage", "storage in a fifo", "virtual",
             "virtual fifo", "circle")  # fmt: skip
READ_ALL = """
import sys
from pathlib import Path
from spikescr.errors import GraphError
from spikescr.sim.lowering.graph_file import read_graph
for path in sys.argv[1:]:
    try:
        read_graph(Path(path))
    except GraphError as error:
        print(error)
"""


def test_nothing_is_followed_out_of_a_file(file: Path, tmp_path: Path) -> None:
    """In a process of its own: a FIFO that is opened hangs for good."""
    files = []
    for kind in ELSEWHERE:
        folder = tmp_path / kind
        folder.mkdir()
        files.append(folder / "a.nir")
        files[-1].write_bytes(file.read_bytes())
        with h5py.File(files[-1], "r+") as opened:
            links(kind, folder)(opened)
    run = subprocess.run(
        [sys.executable, "-c", READ_ALL, *files], capture_output=True, text=True, timeout=120, check=True
    )
    told = run.stdout.splitlines()
    assert len(told) == len(files)
    for path, line in zip(files, told, strict=True):
        assert line.startswith(f"{path}: ")
        assert line.endswith("; a file must hold all of its content itself")


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.nir"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    kinds = {"fifo": "FIFO"}
    assert refused(path) == f"is a {kinds.get(kind, kind)}; expected a regular file"


def test_a_header_that_promises_terabytes(file: Path) -> None:
    with h5py.File(file, "r+") as opened:
        del opened["node/nodes/lif/tau"]
        opened.create_dataset("node/nodes/lif/tau", (10**9, 10**4), float, chunks=(1000, 1000))
    assert refused(file).startswith("what it holds up to /node/nodes/lif/tau takes 80 TB of")


def test_first_versions_of_nir_numbered_their_nodes(tmp_path: Path) -> None:
    """Edges as numbers, Inputs and Outputs of `shape`, no version: what can be read of it is."""
    with h5py.File(tmp_path / "old.nir", "w") as file:
        file["node/type"] = "NIRGraph"
        file["node/edges"] = np.array([[0, 1], [1, 2]])
        for name, fields in {
            "0": {"type": "Input", "shape": np.array([2])},
            "1": {"type": "Linear", "weights": np.ones((3, 2)), "bias": np.ones(3)},
            "2": {"type": "Output", "shape": np.array([3])},
        }.items():
            for key, value in fields.items():
                file[f"node/nodes/{name}/{key}"] = value
    told = refused(tmp_path / "old.nir")
    assert told.startswith(
        "1: lacks weight, which a Linear of nir 1.0.8 has; has bias, weights, which no Linear of nir"
    )
    assert told.endswith("; the file does not say which nir wrote it")
    assert inspect(describe_graph(tmp_path / "old.nir")[0]).edges == (("0", "1"), ("1", "2"))


def test_convolutions_of_the_first_versions_are_told_their_shape_by_what_arrives(tmp_path: Path) -> None:
    kernel = nir.Conv2d((5, 6), np.ones((3, 2, 2, 2)), 1, 0, 1, 1, np.ones(3))
    ends = {"input": nir.Input(np.array([2, 5, 6])), "conv": kernel, "output": nir.Output(np.array([3, 4, 5]))}
    graph = nir.NIRGraph(ends, [("input", "conv"), ("conv", "output")], metadata={"spikescr.dt": DT})
    nir.write(tmp_path / "a.nir", graph)
    put(tmp_path / "a.nir", node__nodes__conv__input_shape=None)
    read = read_graph(tmp_path / "a.nir", type_check=False)
    assert lower(read, steps=1)["conv"].width == 60


def test_groups_without_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.nir", "w") as file:
        group = file.create_group("node")
        for _ in range(150):
            group = group.create_group("a")
    assert "is nested deeper than 100 groups" in refused(tmp_path / "a.nir")


def test_a_single_node_is_no_graph(file: Path) -> None:
    for kind, told in (("LIF", "LIF"), (np.ones(3), "node"), (None, "node")):
        put(file, node__type=kind)
        assert refused(file) == f"holds a single {told}, not a graph"


def test_the_table_has_every_primitive_of_this_nir_and_each_of_its_numbers() -> None:
    kinds = {k for k in vars(nir).values() if isinstance(k, type) and issubclass(k, nir.NIRNode)}
    assert set(PRIMITIVES) == kinds - {nir.NIRNode, nir.NIRGraph}
    types = {"input_type", "output_type", "metadata"}
    for kind, entry in PRIMITIVES.items():
        fields = {f.name for f in dataclasses.fields(kind)} - types
        if kind is nir.Flatten:
            fields |= {"input_type"}
        elif kind in (nir.Input, nir.Output):
            fields = {"shape"}
        assert set(entry.numbers) | set(entry.whole) == fields, kind


def spatial() -> nir.NIRGraph:
    two = np.array([2, 2])
    nodes = {
        "input": nir.Input(np.array([1, 6, 6])),
        "conv": nir.Conv2d((6, 6), np.ones((2, 1, 3, 3)), 1, 1, 1, 1, np.zeros(2)),
        "pool": nir.SumPool2d(two, two, 0 * two),
        "flat": nir.Flatten({"input": np.array([2, 3, 3])}, 0, -1),
        "output": nir.Output(np.array([18])),
    }
    return nir.NIRGraph(nodes, [*itertools.pairwise(nodes)])


WHOLE = {
    ("input", "shape"): "1 to 32 whole numbers, 1 or more", ("output", "shape"): "1 to 32 whole numbers, 1 or more",
    ("conv", "input_shape"): "1 to 2 whole numbers, 1 or more", ("conv", "stride"): "1 to 2 whole numbers, 1 or more",
    ("conv", "padding"): "1 to 2 whole numbers, 0 or more", ("conv", "dilation"): "1 to 2 whole numbers, 1 or more",
    ("conv", "groups"): "a whole number, 1 or more", ("pool", "kernel_size"): "1 to 2 whole numbers, 1 or more",
    ("pool", "stride"): "1 to 2 whole numbers, 1 or more", ("pool", "padding"): "1 to 2 whole numbers, 0 or more",
    ("flat", "start_dim"): "a whole number", ("flat", "end_dim"): "a whole number",
    ("flat", "input_type"): "1 to 32 whole numbers, 1 or more",
}  # fmt: skip


@pytest.mark.parametrize(("node", "field"), WHOLE)
def test_sizes_and_strides_that_are_no_whole_numbers(tmp_path: Path, node: str, field: str) -> None:
    nir.write(tmp_path / "a.nir", spatial())
    read_graph(tmp_path / "a.nir", type_check=False)
    key, told = f"node__nodes__{node}__{field}", f"{node}: {field} must be {WHOLE[node, field]}"
    least = 0 if field == "padding" else 1
    for value in (
        np.nan,
        0.5,
        1e30,
        b"abc",
        1j,
        np.zeros(0),
        np.ones(33, int),
        *(() if "dim" in field else (least - 1,)),
    ):
        if (node, field, value if isinstance(value, bytes) else 0) == ("conv", "padding", b"abc"):
            continue  # a word, which nir knows or not
        put(tmp_path / "a.nir", **{key: value})
        assert refused(tmp_path / "a.nir").startswith(told), value
    with h5py.File(tmp_path / "a.nir", "r+") as file:
        del file[key.replace("__", "/")]
        file.create_group(key.replace("__", "/"))
    assert refused(tmp_path / "a.nir").startswith(told)
    if node in ("pool", "input", "output") or field == "groups":
        put(tmp_path / "a.nir", **{key: np.array(1.0)})  # as some tools write it
        read_graph(tmp_path / "a.nir", type_check=False)


def test_a_delay_of_more_steps_than_memory_has_room_for() -> None:
    held, long = (
        "c: what it delays of one sample takes 80 TB of memory",
        "c: delay of 1e.09 s is more than 1,000,000,000",
    )
    for seconds, told in ((1e5, held), (1e9, long)):
        graph = ends(("a", "c"), ("c", "b"), width=10**6, c=nir.Delay(np.array(seconds)))
        with pytest.raises(GraphError, match=told):
            lower(graph, dt=DT, steps=2)


def test_a_packed_operation_without_its_input(tmp_path: Path) -> None:
    nir.write(tmp_path / "a.nir", packed())
    put(tmp_path / "a.nir", node__nodes__gate__nodes__input=None)
    assert refused(tmp_path / "a.nir").startswith("gate: the edge input -> body names a node input that the graph does")
    graph, _ = describe_graph(tmp_path / "a.nir")
    with pytest.raises(GraphError, match=r"^gate: a packed operation must have an Input with its shape$"):
        lower(graph)
    assert "gate: a packed operation must have an Input with its shape" in " | ".join(inspect(graph).warnings)
