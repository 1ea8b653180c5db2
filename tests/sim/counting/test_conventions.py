"""Conventions on one run: counted by hand on a small network, and every difference explained on any network."""

from __future__ import annotations

import numpy as np
import pytest
from audits import NAMES, audit_of, charges, total, unexplained
from from_torch import calibrated_model, fold, to_nir
from hypothesis import assume, given, settings
from random_graphs import Case, cases

from spikescr.export.builder import GraphBuilder
from spikescr.model import ModelConfig
from spikescr.sim.counting import summary
from spikescr.sim.counting.account import Account
from spikescr.sim.counting.conventions import CAUSES, CONVENTIONS, PARTS, RULES
from spikescr.sim.counting.energy import HOROWITZ_45NM
from spikescr.sim.counting.rules import RULES as IMPLEMENTED
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lowering.lower import lower
from spikescr.sim.run import run_batches

DT = 0.025


def by_hand() -> Account:
    """The network of docs/energy.md: two channels of counts, 3 taps to two neurons, a head of three; 2 valid steps.

    Step 0 brings (1, 2), step 1 (0, 1). The first neuron fires at both steps, the second at step 1.
    """
    build = GraphBuilder(DT)
    x = build.input("input", 2, "spikes")
    kernel = np.stack([np.full((2, 3), 1.0), np.full((2, 3), 0.1)])
    conv = build.convolution("conv", x, kernel, np.array([0.5, 0.5]), ("bias", "batch_norm"))
    build.output("output", build.linear("head", build.lif("conv.lif", conv), np.ones((3, 2)), None))
    program = lower(build.graph({"spikescr.dt": DT, "spikescr.steps": 3}))
    values, valid = np.array([[[1.0, 2.0], [0.0, 1.0], [0.0, 0.0]]]), np.array([2])
    account = Account(program)
    with FastBackend(program, 1) as backend:
        for batch in run_batches(program, backend, values, valid):
            account.add(batch.recording.counts, batch.valid)
    return account


# conv: 4 events, 3 entries of which one is a 2; 6 synapses each over 3 taps, of which within the sample: every entry
# reaches the taps of both valid steps, so 2 of 3, 4 synapses. Dense: 2 channels x 2 neurons x 3 taps x 2 steps.
# head: 3 spikes x 3 synapses. Normalisation: 2 channels x 2 steps. Updates: 2 neurons x 2 steps.
HAND = {
    "executed": (4 * 6 + 9, 0),
    "quadratic": (4 * 6 + 9, 0),
    "graded": (2 * 6 + 9, 1 * 6),
    "paper": (4 * 6 + 9, 0),
    "spikingjelly": (9 + (2 + 4) + (6 * 4 - 2), 2 * 2 * 3 * 2 + 4),
    "neurobench": (9, 3 * 4),
    "syops": (9 + 4, 2 * 2 * 3 * 2 + 2 * 2 + 2 * 4),
}


@pytest.mark.parametrize("convention", NAMES)
def test_small_network_by_hand(convention: str) -> None:
    account = by_hand()
    charged = charges(account)[:, NAMES.index(convention)].sum(axis=0)
    assert tuple(charged) == HAND[convention]
    assert audit_of(account).unexplained() == 0


def test_every_convention_has_a_rule_for_every_part() -> None:
    assert {name: tuple(rules) for name, rules in IMPLEMENTED.items()} == {n: tuple(r) for n, r in RULES.items()}
    for convention in CONVENTIONS.values():
        assert sorted(convention.rules) == sorted(PARTS)
        assert all(rule in RULES[part] for part, rule in convention.rules.items())
        assert convention.source
    assert CONVENTIONS["executed"].rules["attention"] == "linear"


@settings(max_examples=40)
@given(case=cases(spatial=False))
def test_causes_add_up_to_every_difference_on_random_graphs(case: Case) -> None:
    program = lower(case.graph)
    clocks = case.inputs["clock"]
    with FastBackend(program, clocks.shape[1]) as backend:
        recording = backend.run(case.inputs)
    account, valid = Account(program), np.count_nonzero(clocks[..., 0], axis=0)
    account.add(recording.counts, valid)
    assume(account.refused is None)  # the formula needs attention's spikes to come from neurons
    np.testing.assert_allclose(unexplained(account), 0, atol=1e-9)
    executed = charges(account)[:, NAMES.index("executed")]
    for kind, way in (("ac", 0), ("mac", 1)):
        np.testing.assert_array_equal(executed[:, way], [total(account, kind, r) for r in range(len(executed))])


@pytest.fixture(scope="module")
def spikescr() -> Account:
    config = ModelConfig(inputs=10, classes=4, layers=2, heads=2, width=16, mlp_ratio=2, kernel=5)
    model, x, steps = calibrated_model(config, samples=5, window=18)
    program = lower(to_nir(fold(model), steps=18, dt=DT, signal="values"))
    account = Account(program)
    with FastBackend(program, 2) as backend:
        for batch in run_batches(program, backend, x.transpose(0, 1).numpy(), steps.numpy()):
            account.add(batch.recording.counts, batch.valid, batch.output)
    return account


@pytest.mark.parametrize("start", NAMES)
@pytest.mark.parametrize("end", NAMES)
def test_way_from_any_convention_to_any_other_adds_up(spikescr: Account, start: str, end: str) -> None:
    audit = audit_of(spikescr)
    assert audit.unexplained() == 0
    way = summary.reconciliation(audit, HOROWITZ_45NM, start, end)
    for where, found in {None: way["causes"], **way["layers"]}.items():
        rows = range(len(audit.operations)) if where is None else audit.rows(where)
        for kind, column in (("ac", 0), ("mac", 1)):
            difference = audit.charge(end)[rows, column].sum() - audit.charge(start)[rows, column].sum()
            explained = sum(cause[kind] for cause in found.values()) * audit.samples
            assert explained == pytest.approx(difference, abs=1e-6), f"{where} {kind}"
    assert set(way["causes"]) <= set(CAUSES)


def test_known_causes_are_there_and_no_others(spikescr: Account) -> None:
    audit = audit_of(spikescr)
    paper = summary.reconciliation(audit, HOROWITZ_45NM, "paper", "executed")["causes"]
    assert set(paper) == {"padding", "attention_order", "attention_correlation", "rotary"}
    bench = summary.reconciliation(audit, HOROWITZ_45NM, "executed", "neurobench")["causes"]
    assert set(bench) == {"integer_inputs", "kernel_ends", "rotary", "uncounted"}
    everything = summary.reconciliation(audit, HOROWITZ_45NM, "executed", "spikingjelly")["causes"]
    assert {"normalisation", "neuron_updates", "residual_sums", "zero_input"} <= set(everything)


def test_sums_over_samples_and_over_batches_agree(spikescr: Account) -> None:
    audit = audit_of(spikescr)
    for name in NAMES:
        charged = audit.charged(name)
        np.testing.assert_allclose(charged.samples.sum(axis=0), charged.charges.sum(axis=0), atol=1e-9)
        np.testing.assert_allclose(charged.sample_causes.sum(axis=0), charged.causes.sum(axis=0), atol=1e-9)
