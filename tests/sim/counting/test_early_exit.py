"""Early exit: rules by hand, and counts that are those of a recording alone which ends when its answer is settled."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from from_torch import SMALL, calibrated_model, fold, to_nir
from oracles.program_interpreter import InterpreterBackend

from spikescr.sim.counting.early_exit import ExitRule, Progress, fit, front, leave, measure, rules
from spikescr.sim.counting.energy import HOROWITZ_45NM as COST
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lava.backend import LavaBackend
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Program, Sink
from spikescr.sim.recording import KINDS
from spikescr.sim.run import run_batches

WINDOW, SAMPLES = 16, 4


def made(predicted: list[list[int]], lead: list[list[float]], valid: list[int]) -> Progress:
    """Progress in which step t has cost 10 (t + 1) AC and t + 1 MAC, a whole run 1000 and 100."""
    cost = np.arange(1, len(predicted[0]) + 1) * np.ones((len(predicted), 1), np.int64)
    whole = np.array([[1000, 100]] * len(predicted))
    return Progress(
        np.array(predicted), np.array(lead), (10 * cost).astype(int), cost.astype(int), whole, np.array(valid)
    )


THREE = made(
    [[0, 1, 1, 1, 2], [0, 0, 0, 0, 0], [2, 2, 1, 1, 1]],
    [[0.9, 0.2, 0.6, 0.7, 0.8], [0.1, 0.2, 0.1, 0.9, 0.9], [0.5, 0.6, 0.7, 0.8, 0.9]],
    [5, 3, 4],
)


@pytest.mark.parametrize(
    ("rule", "step", "predicted"),
    [
        (ExitRule(0.5, 1), [0, 3, 0], [0, 0, 2]),  # the second one never leads by enough within its 3 steps
        (ExitRule(0.5, 2), [3, 3, 1], [1, 0, 2]),  # the first one at its third lead of class 1, the second of 0.5
        (ExitRule(0.55, 2), [3, 3, 3], [1, 0, 1]),  # a change of class begins anew
        (ExitRule(0.0, 3), [3, 2, 4], [1, 0, 1]),  # the third one has class 1 for two valid steps only
        (ExitRule(0.0, 6), [5, 3, 4], [2, 0, 1]),  # longer than the window: to the end
    ],
)
def test_an_answer_is_settled_when_a_class_has_led_long_enough(
    rule: ExitRule, step: list[int], predicted: list[int]
) -> None:
    exits = leave(THREE, rule)
    assert (exits.step.tolist(), exits.predicted.tolist()) == (step, predicted)
    ended = exits.step < THREE.valid
    assert exits.ac.tolist() == [10 * (s + 1) if e else 1000 for s, e in zip(step, ended, strict=True)]
    assert exits.mac.tolist() == [s + 1 if e else 100 for s, e in zip(step, ended, strict=True)]


def test_lead_is_that_of_the_running_softmax() -> None:
    """exp(lead) times as probable as the next class, by softmax of the sums of softmax until that step."""
    found = followed()
    program, values, valid = network()
    (batch,) = run_batches(program, FastBackend(program, SAMPLES), values, valid)
    for sample in range(SAMPLES):
        y = np.zeros(SMALL.classes)
        for t in range(int(valid[sample])):
            logits = batch.output[t, sample]
            y += np.exp(logits) / np.exp(logits).sum()
            first, second = np.sort(np.exp(y) / np.exp(y).sum())[::-1][:2]
            assert found.lead[sample, t] == pytest.approx(np.log(first / second), abs=1e-9)
            assert found.predicted[sample, t] == y.argmax()


@cache
def network() -> tuple[Program, np.ndarray, np.ndarray]:
    """Causal attention, so that outputs come early; values (B, T, C), valid steps (B,)."""
    config = SMALL.model_copy(update={"attention": "causal", "kernel": 3})
    model, x, steps = calibrated_model(config, seed=6, samples=SAMPLES, window=WINDOW)
    program = lower(to_nir(fold(model), steps=WINDOW, dt=1 / 16))
    return program, x.transpose(0, 1).numpy(), steps.numpy()


@cache
def followed() -> Progress:
    program, values, valid = network()
    with FastBackend(program, 3) as backend:  # two batches
        parts = [
            Progress.of(program, b.recording.counts, b.output, b.valid)
            for b in run_batches(program, backend, values, valid)
        ]
    return Progress.joined(parts)


@pytest.mark.parametrize("alone", [FastBackend, InterpreterBackend, pytest.param(LavaBackend, marks=pytest.mark.lava)])
def test_counts_are_those_of_a_recording_alone_that_ends_there(alone: type) -> None:
    program, values, valid = network()
    progress = followed()
    rule = ExitRule(float(np.median(progress.lead[:, 4])), 2)
    exits = leave(progress, rule)
    assert len(set(exits.step.tolist())) > 2, "recordings that all end alike prove nothing"
    assert (exits.step < valid).any()
    latency = program.of_type(Sink)[0].latency
    chosen = range(SAMPLES) if alone is not LavaBackend else [int(exits.step.argmin())]
    for sample in chosen:
        settled = exits.step[sample] < valid[sample]
        period = int(exits.step[sample]) + latency + 1 if settled else program.period
        steps = min(WINDOW, period)
        short = replace(program, period=period, steps=steps)  # nothing of the recording is fed after that
        inputs = {
            "input": values[[sample]][:, :steps].transpose(1, 0, 2).astype(float),
            "clock": (np.arange(steps) < valid[sample]).astype(float)[:, None, None],
        }
        with alone(short, 1) as backend:
            counts = backend.run(inputs).counts
        executed = [int(counts.table[:, KINDS.index(kind)].sum()) for kind in ("ac", "mac")]
        assert executed == [exits.ac[sample], exits.mac[sample]]
        if settled:
            assert exits.ac[sample] < progress.whole[sample, 0]


def test_the_rule_that_executes_least_without_losing_more_is_chosen() -> None:
    """Four recordings of class 0: one is right from the start, two only later, one never."""
    predicted = [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    lead = [[0.5, 0.6, 0.7, 0.8], [0.4, 0.3, 0.5, 0.9], [0.2, 0.3, 0.45, 0.9], [0.8, 0.9, 0.9, 0.9]]
    progress, labels = made(predicted, lead, [4] * 4), np.zeros(4, int)
    no_loss, quarter, all_lost = fit(progress, labels, COST, (0.0, 0.25, 1.0))
    assert no_loss.accuracy == 0.75
    assert no_loss.joules == min(
        m.joules for rule in rules(progress) if (m := measure(progress, labels, rule, COST)).accuracy >= 0.75
    )
    assert no_loss.rule == ExitRule(0.5, 1)  # steps 0, 2, 3 and 0
    assert quarter.accuracy == 0.5
    assert quarter.joules < no_loss.joules
    assert all_lost.joules == COST.joules(10.0, 1.0)  # everything ends at its first step
    whole = measure(progress, labels, ExitRule(np.inf, 1), COST)
    assert (whole.joules, whole.agreement, whole.settled) == (COST.joules(1000.0, 100.0), 1.0, 0.0)


def test_a_rule_is_always_found_and_the_curve_never_turns_back() -> None:
    """Where every earlier answer is wrong the recordings run to the end."""
    progress = made([[1, 1, 1, 0]] * 3, [[0.5, 0.6, 0.7, 0.1]] * 3, [4] * 3)
    (chosen,) = fit(progress, np.zeros(3, int), COST, (0.0,))
    assert (chosen.accuracy, chosen.settled) == (1.0, 0.0)
    curve = front([measure(progress, np.zeros(3, int), rule, COST) for rule in rules(progress)])
    assert [each.accuracy for each in curve] == sorted({each.accuracy for each in curve})
    assert [each.joules for each in curve] == sorted(each.joules for each in curve)
