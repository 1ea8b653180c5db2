"""A third backend starts with two operations of its own; all others fall back to the steps that backends share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from from_torch import SMALL, calibrated_model, fold, to_nir
from hypothesis import given, settings
from oracles.program_interpreter import InterpreterBackend
from random_graphs import Case, cases
from recordings import same

from spikescr.errors import BackendError
from spikescr.sim.backends import REGISTRY, CrossCheck, Options, build, compared
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import DelayLine, Gate, Neuron, Operation, Program
from spikescr.sim.run import run_batches
from spikescr.sim.steps import make
from spikescr.sim.steps.backend import StepBackend
from spikescr.sim.steps.base import Step

REPEATABLE = settings(derandomize=True, database=None)
calls: dict[str, int] = {}


class Queue(Step):
    """A delay line as a list of what is under way."""

    operation: DelayLine

    def reset(self) -> None:
        self.waiting = [np.zeros((self.samples, self.operation.width)) for _ in range(self.operation.delay)]

    def put_out(self, n: int) -> np.ndarray:
        return self.waiting[0]

    def __call__(self, n: int, *arriving: np.ndarray) -> np.ndarray:
        calls["DelayLine"] = calls.get("DelayLine", 0) + 1
        self.waiting.append(arriving[0].copy())
        return self.waiting.pop(0)


class Firing(Step):
    """A neuron, sample after sample and channel after channel."""

    operation: Neuron

    def reset(self) -> None:
        self.v = np.zeros((self.samples, self.operation.width))

    def __call__(self, n: int, *arriving: np.ndarray) -> np.ndarray:
        calls["Neuron"] = calls.get("Neuron", 0) + 1
        it, out, self.membrane = self.operation, np.zeros_like(self.v), np.zeros_like(self.v)
        for b, i in np.ndindex(self.v.shape):
            v = self.v[b, i] * it.decay[i] + it.gain[i] * arriving[0][b, i] + it.drive[i]
            self.membrane[b, i], self.v[b, i] = v, v
            if v > it.threshold[i]:
                out[b, i] = 1
                self.v[b, i] = v - it.threshold[i] if it.soft else it.v_reset[i]
        self.counts = {"fired": out.sum(axis=1).astype(int), "neuron": self.updates(n)}
        return out


OWN: dict[type[Operation], type[Step]] = {DelayLine: Queue, Neuron: Firing}


def tiny(program: Program, options: Options) -> StepBackend:
    return StepBackend("tiny", program, options, own=OWN)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry in the registry is all that a backend takes."""
    monkeypatch.setitem(REGISTRY, "tiny", tiny)
    calls.clear()


def test_a_network_runs_on_two_operations_of_its_own_and_the_shared_rest() -> None:
    model, x, steps = calibrated_model(SMALL, seed=6, samples=3, window=12)
    program = lower(to_nir(fold(model), steps=12, dt=0.01))
    options = Options(batch=2)
    with CrossCheck(build("tiny", program, options), build("fast", program, options)) as both:
        fired = sum(
            batch.recording.counts.total("fired")
            for batch in run_batches(program, both, x.transpose(0, 1).numpy(), steps.numpy())
        )
        (spikes, counts), differing = compared(both)
    assert fired > 100
    assert (spikes > 1000, counts > 10000) == (True, True)
    assert differing.tolist() == [0, 0]
    assert calls.keys() == {"DelayLine", "Neuron"}
    assert {type(o) for o in program.operations} > OWN.keys()


@settings(REPEATABLE, max_examples=50)
@given(cases(cycles=True))
def test_shared_steps_are_the_interpreters(case: Case) -> None:
    """Spikes, membranes, outputs and counts of every type of operation, cycles included."""
    program = lower(case.graph)
    got = StepBackend("steps", program, Options(batch=4, membranes=True)).run(case.inputs)
    same(got, InterpreterBackend(program, 4).run(case.inputs))


def test_a_step_that_fails_and_a_type_without_one_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, _ = calibrated_model(SMALL, seed=6, samples=2, window=12)
    program = lower(to_nir(fold(model), steps=12, dt=0.01))
    inputs: dict[str, Any] = {o: np.ones((12, 2, 1)) for o in ("clock",)} | {"input": x.numpy().astype(float)}
    inputs["input"][3] = np.nan
    with pytest.raises(BackendError, match=r"^tiny: [\w.]+ at step \d+: membrane of channel 0, sample 0 is nan"):
        StepBackend("tiny", program, Options(batch=2)).run(inputs)
    monkeypatch.setattr(make, "STEPS", {kind: step for kind, step in make.STEPS.items() if kind is not Gate})
    with pytest.raises(BackendError, match=r"^tiny: [\w.]+: no step for operations of type Gate$"):
        StepBackend("tiny", program, Options(batch=2)).run(inputs)
