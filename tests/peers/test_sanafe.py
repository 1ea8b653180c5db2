"""SANA-FE on the same spikes: no spike differs, events and messages are equal, energy and time are close."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import nir
import numpy as np
import pytest
from helpers import calibrated_model
from sanafe_peer import Compared, compare

from spikescr.errors import ExportError
from spikescr.export.fold import fold
from spikescr.export.to_nir import to_nir
from spikescr.sim.chip.clocked import with_clocked_biases
from spikescr.sim.chip.limits import chip_named
from spikescr.sim.chip.mapper import place
from spikescr.sim.chip.sanafe import write_sanafe
from spikescr.sim.lowering.lower import lower

DT = 1e-3
T = 12


def lif(width: int, tau: float = 2.0, v_leak: float = 0.0) -> nir.LIF:
    one = np.ones(width)
    return nir.LIF(tau=tau * DT * one, r=tau * one, v_leak=v_leak * one, v_threshold=one, v_reset=0 * one)


def graph(nodes: dict[str, nir.NIRNode], edges: list[tuple[str, str]] | None = None) -> nir.NIRGraph:
    return nir.NIRGraph(nodes, edges or list(itertools.pairwise(nodes)), metadata={"spikescr.dt": DT})


def entry(*shape: int) -> nir.Input:
    return nir.Input(np.array(shape), metadata={"spikescr.signal": "spikes"})


def dense() -> nir.NIRGraph:
    rng = np.random.default_rng(0)
    return graph(
        {
            "input": entry(30),
            "a": nir.Affine(weight=rng.normal(0, 0.4, (50, 30)), bias=rng.normal(0, 0.2, 50)), "a.lif": lif(50),
            "b": nir.Linear(weight=rng.normal(0, 0.3, (40, 50)) * (rng.random((40, 50)) < 0.2)),
            "b.lif": lif(40, 3.7, 0.25),
            "c": nir.Linear(weight=rng.normal(0, 0.3, (10, 40))), "output": nir.Output(np.array([10])),
        }
    )  # fmt: skip


def recurrent() -> nir.NIRGraph:
    rng = np.random.default_rng(1)
    nodes = {
        "input": entry(20), "w": nir.Linear(weight=rng.normal(0, 0.5, (60, 20))), "lif": lif(60),
        "late": nir.Delay(DT * np.ones(60)), "back": nir.Linear(weight=rng.normal(0, 0.2, (60, 60))),
        "output": nir.Output(np.array([60])),
    }  # fmt: skip
    edges = [("input", "w"), ("w", "lif"), ("lif", "late"), ("late", "back"), ("back", "lif"), ("lif", "output")]
    return graph(nodes, edges)


def convolutions() -> nir.NIRGraph:
    rng = np.random.default_rng(2)
    one = np.ones((6, 4, 4))
    return graph(
        {
            "input": entry(2, 9, 9),
            "a": nir.Conv2d(
                input_shape=(9, 9), weight=rng.normal(0, 0.4, (4, 2, 3, 3)), stride=1, padding=1, dilation=1, groups=1,
                bias=rng.normal(0, 0.1, 4),
            ),
            "a.if": nir.IF(r=np.ones((4, 9, 9)) / DT, v_threshold=np.ones((4, 9, 9)), v_reset=np.zeros((4, 9, 9))),
            "b": nir.Conv2d(
                input_shape=(9, 9), weight=rng.normal(0, 0.4, (6, 4, 3, 3)), stride=2, padding=0, dilation=1, groups=1,
                bias=np.zeros(6),
            ),
            "b.lif": nir.LIF(tau=2 * DT * one, r=2 * one, v_leak=0 * one, v_threshold=0.7 * one, v_reset=0 * one),
            "flat": nir.Flatten({"input": np.array([6, 4, 4])}, start_dim=0, end_dim=-1),
            "c": nir.Linear(weight=rng.normal(0, 0.3, (5, 96))), "c.lif": lif(5), "output": nir.Output(np.array([5])),
        }
    )  # fmt: skip


@pytest.mark.parametrize("make", [dense, recurrent, convolutions])
def test_the_same_spikes_events_messages_and_energy(make: Callable[[], nir.NIRGraph]) -> None:
    pytest.importorskip("sanafe", reason="no wheel of SANA-FE for this Python; it is in the test extra of 3.11")
    net = make()
    width = int(np.prod(net.nodes["input"].input_type["input"]))
    found: Compared = compare(net, np.random.default_rng(3).random((T, width)) < 0.3)
    assert found.differing == 0
    assert found.spikes > 100
    assert found.events[0] == found.events[1] > 1000
    assert found.messages[0] == found.messages[1] > 100
    for part, (ours, theirs) in found.energy.items():
        assert ours == pytest.approx(theirs, rel=1e-9), part
    assert all(0.75 < found.seconds["estimate"] / found.seconds[timing] < 1.25 for timing in ("simple", "detailed"))


def written(net: nir.NIRGraph, folder: Path, steps: int = T) -> None:
    program = with_clocked_biases(lower(net, steps=None if "spikescr.steps" in net.metadata else steps))
    width = int(np.prod(net.nodes["input"].input_type["input"]))
    write_sanafe(
        folder, program, place(program, "loihi1", chip_named("loihi1"), {}), {"input": np.ones((steps, width), bool)}
    )


def skipping() -> nir.NIRGraph:
    nodes = {
        "input": entry(4), "a": nir.Linear(np.eye(4)), "a.lif": lif(4), "b": nir.Linear(np.eye(4)), "b.lif": lif(4),
        "past": nir.Linear(np.eye(4)), "c": nir.Linear(np.eye(4)), "c.lif": lif(4), "output": nir.Output(np.array([4])),
    }  # fmt: skip
    edges = [("input", "a"), ("a", "a.lif"), ("a.lif", "b"), ("b", "b.lif"), ("b.lif", "c"), ("c", "c.lif")]
    return graph(nodes, [*edges, ("a.lif", "past"), ("past", "c.lif"), ("c.lif", "output")])


def delayed() -> nir.NIRGraph:
    nodes = {
        "input": entry(4), "a": nir.Linear(np.eye(4)), "a.lif": lif(4), "late": nir.Delay(3 * DT * np.ones(4)),
        "b": nir.Linear(np.eye(4)), "b.lif": lif(4), "output": nir.Output(np.array([4])),
    }  # fmt: skip
    return graph(nodes)


def of_sums() -> nir.NIRGraph:
    nodes = {
        "input": entry(4), "a": nir.Linear(np.eye(4)), "b": nir.Linear(np.eye(4)), "b.lif": lif(4),
        "output": nir.Output(np.array([4])),
    }  # fmt: skip
    return graph(nodes)


def leaky() -> nir.NIRGraph:
    one = np.ones(4)
    nodes = {
        "input": entry(4), "a": nir.Linear(np.eye(4)), "a.li": nir.LI(tau=2 * DT * one, r=one, v_leak=0 * one),
        "output": nir.Output(np.array([4])),
    }  # fmt: skip
    return graph(nodes)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (skipping, "c.lif: hears a.lif 2 steps later, by a delay or past layers"),
        (delayed, "b.lif: hears a.lif 3 steps later"),
        (of_sums, "a: sends sums to other layers"),
        (leaky, "a.li: Integrator is nothing that SANA-FE's Loihi does"),
    ],
)
def test_what_it_cannot_say_is_named(make: Callable[[], nir.NIRGraph], words: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=words):
        written(make(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_attention_rotary_and_gates_are_refused_by_name(tmp_path: Path) -> None:
    model, _, _ = calibrated_model()
    with pytest.raises(ExportError, match="is nothing that SANA-FE's Loihi does"):
        written(to_nir(fold(model), steps=24, dt=DT), tmp_path, 24)


def test_more_neurons_than_its_cores_hold_are_refused(tmp_path: Path) -> None:
    net = graph(
        {
            "input": entry(2),
            "w": nir.Linear(np.ones((1500, 2))),
            "lif": lif(1500),
            "output": nir.Output(np.array([1500])),
        }
    )
    program = with_clocked_biases(lower(net, steps=T))
    placement = place(program, "loihi2", chip_named("loihi2"), {})
    with pytest.raises(ExportError, match=r"1,500 neurons on a core; .* place it on loihi1"):
        write_sanafe(tmp_path, program, placement, {"input": np.ones((T, 2), bool)})
