"""Backends by name: what the registry builds, and that another one is an entry and no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import nir
import numpy as np
import pytest

from spikescr.errors import UsageError
from spikescr.sim import backends
from spikescr.sim.backends import CrossCheck, Options, build, compared
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Program
from spikescr.sim.recording import Recording


@pytest.fixture
def program() -> Program:
    """Two neurons that double what arrives; steps of 1 ms."""
    one = np.ones(2)
    nodes = {
        "input": nir.Input(np.array([2])),
        "fc": nir.Linear(2 * np.eye(2)),
        "lif": nir.LIF(2e-3 * one, 2 * one, 0 * one, one, 0 * one),
        "output": nir.Output(np.array([2])),
    }
    return lower(nir.NIRGraph(nodes, [("input", "fc"), ("fc", "lif"), ("lif", "output")]), dt=1e-3, steps=3)


class Miscounting:
    """The fast backend, but for one count and one spike."""

    def __init__(self, program: Program, options: Options) -> None:
        self.inner: Any = build("fast", program, options)
        self.batch, self.build_seconds, self.closed = options.batch, 0.25, False

    def run(self, inputs: dict[str, np.ndarray]) -> Recording:
        found = self.inner.run(inputs)
        found.counts.table[1, 0, 0, 0] += 1
        spikes = {name: fired.copy() for name, fired in found.spikes.items()}
        spikes["lif"][0, 0, 0] ^= True
        return replace(found, spikes=spikes)

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Miscounting:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


X = {"input": np.array([[1.0, 0], [0, 1], [1, 1]])[:, None]}


def test_another_backend_is_one_entry(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "REGISTRY", {**backends.REGISTRY, "third": Miscounting})
    with build("third", program, Options(2)) as third:
        assert third.batch == 2
        assert third.run(X).spikes["lif"][:, 0].tolist() == [[False, False], [False, True], [True, True]]
    assert third.closed  # type: ignore[attr-defined]
    with build("fast", program, Options(2)) as fast:
        assert [int(n) for pair in compared(fast) for n in pair] == [0, 0, 0, 0]


def test_unknown_names_are_refused_with_those_that_are_known(program: Program) -> None:
    with pytest.raises(UsageError, match=r"no backend 'slow'; these are: fast, lava, both"):
        build("slow", program, Options(2))


def test_two_backends_as_one_find_what_differs(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Miscounting] = []

    def lava(program: Program, options: Options) -> Miscounting:
        made.append(Miscounting(program, options))
        return made[-1]

    monkeypatch.setattr(backends, "REGISTRY", {**backends.REGISTRY, "lava": lava})
    with build("both", program, Options(2, spikes=False)) as both:
        assert isinstance(both, CrossCheck)
        assert both.batch == 2
        assert both.build_seconds > 0.25
        both.run(X)
        (spikes, counts), differing = compared(both)
        assert (spikes, differing.tolist()) == (3 * 2, [1, 1])
        assert counts > 0
        assert compared(both)[0].tolist() == [0, 0]  # since the last time
    assert made[0].closed


def test_first_backend_is_closed_where_the_second_does_not_build(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Miscounting] = []

    def lava(program: Program, options: Options) -> Miscounting:
        made.append(Miscounting(program, replace(options, dtype="float64")))
        return made[-1]

    monkeypatch.setattr(backends, "REGISTRY", {**backends.REGISTRY, "lava": lava})
    with pytest.raises(ValueError, match="dtype must be float64 or float32"):
        build("both", program, Options(2, dtype="int32"))
    assert made[0].closed
