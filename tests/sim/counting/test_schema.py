"""What the file of an audit may hold: everything else is refused at the door, naming file, field and value."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from spikescr.errors import SpikescrError
from spikescr.sim.counting.saved import Audit
from spikescr.sizes import memory_limited
from spikescr.workflows.simulate import simulate


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The audit of two samples through a layer of two neurons."""
    lif = nir.LIF(tau=np.full(2, 2e-3), r=np.full(2, 2.0), v_leak=np.zeros(2), v_threshold=np.ones(2))
    nodes = {
        "input": nir.Input(np.array([3])),
        "fc": nir.Linear(np.ones((2, 3))),
        "lif": lif,
        "output": nir.Output(np.array([2])),
    }
    graph = nir.NIRGraph(nodes, [("input", "fc"), ("fc", "lif"), ("lif", "output")])
    path = tmp_path_factory.mktemp("audit") / "audit.npz"
    simulate(graph, np.ones((4, 2, 3)), dt=1e-3, input_signal="spikes").save(path)
    return path


def rewritten(saved: Path, path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Path:
    """The file with its JSON and its arrays changed."""
    with np.load(saved) as archive:
        arrays: dict[str, Any] = {name: archive[name] for name in archive.files}
    text = arrays["audit"]
    names = json.loads(str(text))
    change(names, arrays)
    if arrays.get("audit") is text:
        arrays["audit"] = np.array(json.dumps(names))
    np.savez(path, **arrays)
    return path


def test_what_was_written_is_read(saved: Path, tmp_path: Path) -> None:
    audit = Audit.load(rewritten(saved, tmp_path / "audit.npz", lambda names, arrays: None))
    assert audit.energy("executed").tolist() == Audit.load(saved).energy("executed").tolist()
    assert audit.counts["ac"].sum() == 4 * 2 * 3 * 2  # steps, samples, spikes, synapses each


@pytest.mark.parametrize("name", ["audit", "table", "moments", "decisions", "valid", "facts", "fact_of"])
@pytest.mark.parametrize("how", ["missing", "text", "empty", "NaN", "complex", "another shape"])
def test_every_part_is_needed_and_as_it_must_be(saved: Path, tmp_path: Path, name: str, how: str) -> None:
    if name == "decisions" and how == "empty":
        pytest.skip("a graph of others decides nothing")

    def change(_: dict[str, Any], arrays: dict[str, Any]) -> None:
        whole = arrays.pop(name)
        shape = whole.shape if whole.size else (2, 3)
        made = {
            "text": np.full(shape, "?"),
            "empty": np.zeros(0),
            "NaN": np.full(shape, np.nan),
            "complex": np.full(shape, 1j),
            "another shape": np.zeros((*shape, 1), int),
        }
        if how in made:
            arrays[name] = made[how]

    path = rewritten(saved, tmp_path / "audit.npz", change)
    with pytest.raises(SpikescrError, match=rf"^{re.escape(str(path))}: .*{name}.*; simulate again$") as found:
        Audit.load(path)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names, arrays: names.pop("operations"), "operations: Field required"),
        (lambda names, arrays: names.update(operations=[]), "operations: .*at least 1 item"),
        (lambda names, arrays: names.update(operations=[1, 2, 3]), r"operations\.0: .*valid string \(got 1\)"),
        (lambda names, arrays: names["types"].pop(), r"types must have (\d) entries, has"),
        (lambda names, arrays: names.update(latencies=[-1, 0, 0]), r"latencies\.0: .*greater than or equal to 0"),
        (lambda names, arrays: names.update(dt=0), "dt: .*greater than 0"),
        (lambda names, arrays: names.update(dt=float("nan")), "dt: .*finite number"),
        (lambda names, arrays: names.update(dt="1"), r"dt: .*valid number \(got '1'\)"),
        (lambda names, arrays: names.update(steps=10**30), "steps must be at most period, "),
        (lambda names, arrays: names.update(period=5), r"table must have the shape"),
        (lambda names, arrays: names.update(steps=0), "steps: .*greater than or equal to 1"),
        (lambda names, arrays: names.update(steps=0, period=0), "period: .*greater than or equal to 1"),
        (lambda names, arrays: names.update(recordings=[], labels=[], predicted=[]), "recordings: .*at least 1 item"),
        (lambda names, arrays: names["recordings"].pop(), r"must have the shape \(samples = 1\), has \(2,\)"),
        (lambda names, arrays: names.update(labels=["a"]), "labels must have 2 entries, has 1"),
        (lambda names, arrays: names["columns"].remove("ac"), "columns lack ac"),
        (lambda names, arrays: names.update(about=[]), "about: Input should be an object"),
        (lambda names, arrays: names["about"].update(files={"model.nir": 3}), r"files\.model\.nir|about"),
        (lambda names, arrays: names.update(nonsense=1), "nonsense: Extra inputs"),
        (lambda names, arrays: arrays.update(table=-arrays["table"].astype(int)), "table must be 0 or more, holds -"),
        (lambda names, arrays: arrays.update(valid=np.array([4, 5])), "valid must be 4 or less, holds 5"),
        (lambda names, arrays: arrays.update(valid=np.array([-1, 4])), "valid must be 0 or more, holds -1"),
        (
            lambda names, arrays: arrays.update(moments=~arrays["moments"].astype(int)),
            "moments must be 0 or more, holds -",
        ),
        (lambda names, arrays: names.update(format=3), "was written by another version of spikescr"),
        (lambda names, arrays: names.update(predicted=["a"]), "predicted must have 0 entries, has 1"),
        (
            lambda names, arrays: names.update(labels=["a", "b"], predicted=["a", "b"]),
            r"decisions must have the shape \(samples = 2, 3\), has \(0, 3\)",
        ),
        (lambda names, arrays: arrays["fact_of"].__setitem__((0, 2), 99), "fact_of names row 99, which is not there"),
    ],
)
def test_what_is_wrong_is_named(
    saved: Path, tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object], message: str
) -> None:
    path = rewritten(saved, tmp_path / "audit.npz", change)
    with pytest.raises(SpikescrError, match=rf"^{re.escape(str(path))}: .*({message}).*; simulate again$") as found:
        Audit.load(path)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(("content", "kind"), [("[]", "list"), ("3", "int"), ('"format"', "str")])
def test_names_are_an_object(tmp_path: Path, content: str, kind: str) -> None:
    path = tmp_path / "audit.npz"
    np.savez(path, audit=np.array(content))
    with pytest.raises(SpikescrError) as found:
        Audit.load(path)
    assert str(found.value) == f"{path}: damaged (audit must be a JSON object, is {kind}); simulate again"


def test_a_bomb_is_not_unpacked(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "audit.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("table.npy", bytes(50_000_000))
    with memory_limited(10_000_000), pytest.raises(SpikescrError, match="unpacked, takes 50"):
        Audit.load(path)


def test_nested_nonsense_is_one_line(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "audit.npz"
    np.savez(path, audit=np.array('{"about":' * 100_000))
    with pytest.raises(SpikescrError, match="damaged") as found:
        Audit.load(path)
    assert len(str(found.value)) < 1000


@pytest.mark.parametrize(("name", "value", "least"), [("width_in", 0, 1), ("width_out", 0, 1), ("dense", -1, 0)])
def test_shapes_that_nothing_has_are_refused(saved: Path, tmp_path: Path, name: str, value: int, least: int) -> None:
    """A width of 0 gave nan in a convention that divides by it."""

    def change(_: dict[str, Any], arrays: dict[str, Any]) -> None:
        arrays[f"shape.{name}"] = np.full(arrays[f"shape.{name}"].shape, value)

    path = rewritten(saved, tmp_path / "audit.npz", change)
    with pytest.raises(SpikescrError, match=rf"shape\.{name} must be {least} or more, holds {value}; simulate again$"):
        Audit.load(path)
