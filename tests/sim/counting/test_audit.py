"""What an audit keeps, and what becomes of conventions that it cannot tell, or that are newer than it is."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audits import NAMES, audit_of, write_first_format
from from_torch import calibrated_model, fold, to_nir
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from spikescr.errors import SpikescrError, UsageError
from spikescr.export.builder import GraphBuilder
from spikescr.model import ModelConfig
from spikescr.sim.counting import conventions, results, saved, summary
from spikescr.sim.counting.account import Account
from spikescr.sim.counting.energy import HOROWITZ_45NM
from spikescr.sim.counting.facts import FACTS, SampleFacts
from spikescr.sim.counting.saved import Audit
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lowering.lower import lower
from spikescr.sim.run import run_batches

CONFIG = ModelConfig(inputs=10, classes=4, layers=1, heads=2, width=16, mlp_ratio=2, kernel=5)


@pytest.fixture(scope="module")
def audit() -> Audit:
    """Five samples of a small SpikeSCR in which every layer fires."""
    model, x, steps = calibrated_model(CONFIG, samples=5, window=18)
    program = lower(to_nir(fold(model), steps=18, dt=0.05, signal="values"))
    account = Account(program)
    with FastBackend(program, 2) as backend:
        for batch in run_batches(program, backend, x.transpose(0, 1).numpy(), steps.numpy()):
            account.add(batch.recording.counts, batch.valid, batch.output)
    return audit_of(account)


def newer(monkeypatch: pytest.MonkeyPatch, name: str, **rules: str) -> None:
    """Adds a convention that no audit has met: as `executed` but for some rules."""
    executed = conventions.CONVENTIONS["executed"]
    known = {**conventions.CONVENTIONS, name: replace(executed, name=name, rules={**executed.rules, **rules})}
    for module in (conventions, saved, summary):
        monkeypatch.setattr(module, "CONVENTIONS", known)


def test_a_newer_convention_needs_no_new_simulation(
    audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit.save(tmp_path / "audit.npz")
    newer(monkeypatch, "bench", synapse="effective", rotary="none", attention="none")
    read = Audit.load(tmp_path / "audit.npz")
    assert read.refused == {}
    np.testing.assert_array_equal(read.energy("bench"), audit.energy("neurobench"))
    assert read.unexplained() == 0
    assert "bench" in summary.conventions(read, HOROWITZ_45NM)


def test_first_format_is_read_with_all_that_it_holds(audit: Audit, tmp_path: Path) -> None:
    write_first_format(audit, tmp_path / "audit.npz")
    read = Audit.load(tmp_path / "audit.npz")
    for found, wanted in (
        (summary.conventions(read, HOROWITZ_45NM), summary.conventions(audit, HOROWITZ_45NM)),
        (summary.layers(read, HOROWITZ_45NM), summary.layers(audit, HOROWITZ_45NM)),
        (summary.decisions(read, HOROWITZ_45NM), summary.decisions(audit, HOROWITZ_45NM)),
        (summary.per_step(read, HOROWITZ_45NM), summary.per_step(audit, HOROWITZ_45NM)),
        (results.energy(read, HOROWITZ_45NM), results.energy(audit, HOROWITZ_45NM)),
        (read.accuracy, audit.accuracy),
    ):
        assert found == wanted
    np.testing.assert_array_equal(read.energy("paper"), audit.energy("paper"))
    for call in (lambda: read.why("paper", "executed"), lambda: read.sample_counts("ac")):
        with pytest.raises(SpikescrError, match=r"format 1 keeps .* simulate again"):
            call()
    with pytest.raises(SpikescrError, match="format 1 cannot be written"):
        read.save(tmp_path / "again.npz")


def test_newer_conventions_on_the_first_format_as_far_as_sums_go(
    audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written when only two conventions were known: linear rules are evaluated on its sums, the others say why not."""
    write_first_format(audit, tmp_path / "audit.npz", ("executed", "paper"))
    newer(monkeypatch, "updates", neuron="one")
    read = Audit.load(tmp_path / "audit.npz")
    assert set(read.conventions) == {"executed", "paper", "quadratic", "graded", "updates"}
    for name in ("quadratic", "graded", "updates"):
        np.testing.assert_array_equal(read.charge(name), audit.charge(name))
        np.testing.assert_array_equal(read.difference("paper", name), audit.difference("paper", name))
    assert read.refused["neurobench"] == (
        "synapse by the rule 'effective' takes the counts of each sample, of which sums were kept"
    )
    assert summary.conventions(read, HOROWITZ_45NM)["updates"]["spread_j"] is None
    with pytest.raises(SpikescrError, match="neurobench cannot be evaluated on this run: synapse by the rule"):
        read.energy("neurobench")
    with pytest.raises(SpikescrError, match="graded: an audit of format 1 keeps it in sums only"):
        read.energy("graded")


def test_a_fact_that_was_not_kept_is_named(audit: Audit) -> None:
    without = replace(audit, shapes={name: column for name, column in audit.shapes.items() if name != "batch_norm"})
    assert without.refused.keys() == {"spikingjelly", "syops"}
    assert "normalisation by the rule 'twice': this audit does not keep batch_norm" in without.refused["syops"]


def test_energy_and_why_of_every_sample(audit: Audit) -> None:
    for start in NAMES:
        for end in ("executed", "spikingjelly"):
            difference = audit.energy(end) - audit.energy(start)
            told = sum(audit.why(start, end).values(), start=np.zeros(5))
            np.testing.assert_allclose(told, difference, rtol=0, atol=1e-18)
    ac, mac = (audit.sample_counts(column) for column in ("ac", "mac"))
    assert audit.energy().tolist() == [HOROWITZ_45NM.joules(int(a), int(m)) for a, m in zip(ac, mac, strict=True)]
    assert audit.energy("executed", "horowitz2014-45nm-int8").sum() < audit.energy().sum() / 10
    with pytest.raises(UsageError, match="gold: no such constants; known: horowitz2014"):
        audit.energy("executed", "gold")
    with pytest.raises(UsageError, match="me: no such convention; known: executed"):
        audit.energy("me")


def test_attention_whose_spikes_cannot_be_told_refuses_the_formula_alone() -> None:
    """q, k and v come through a gate: which of its spikes went on is not counted."""
    build = GraphBuilder(0.025)
    x = build.input("input", 6, "spikes")
    gate = build.lif("gate.lif", build.linear("open", x, np.ones((1, 6)), None))

    def gated(name: str, start: int) -> Any:
        fires = build.lif(f"{name}.lif", build.linear(name, x, np.eye(6)[start : start + 2], None))
        operands = {"value": fires, "spike": gate}
        return build.operation(f"{name}.gate", "gate", 2, operands, {"width": 2, "spike_width": 1})

    q, k, v = (gated(name, 2 * i) for i, name in enumerate("qkv"))
    operands = {"q": q, "k": k, "v": v, "clock": build.clock(0)}
    parameters = {"heads": 1, "scale": 0.5, "steps": 3}
    build.output("output", build.operation("attention", "attention", 2, operands, parameters, duration=3))
    program = lower(build.graph({"spikescr.dt": 0.025, "spikescr.steps": 3}))
    account = Account(program)
    with FastBackend(program, 1) as backend:
        account.add(backend.run({"input": np.ones((3, 1, 6)), "clock": np.ones((3, 1, 1))}).counts, np.array([3]))
    audit = audit_of(account)
    assert set(audit.refused) == {"paper"}
    assert "the formula needs attention's spikes to come from neurons or delays" in audit.refused["paper"]
    found = results.energy(audit, HOROWITZ_45NM)
    assert "formula_j" not in found
    assert found["formula"].startswith("cannot be evaluated: ")
    assert audit.charge("quadratic").sum() > audit.charge("neurobench").sum() > 0


TABLES = arrays.arrays(
    np.int64, st.tuples(st.just(3), st.just(len(FACTS)), st.integers(1, 4)), elements=st.integers(0, 12)
)


@settings(max_examples=50)
@given(tables=st.lists(TABLES, min_size=1, max_size=3), scale=st.sampled_from([1, 7, 2**40]))
def test_facts_come_back_as_they_were(tables: list[np.ndarray], scale: int) -> None:
    """However they were cut into batches and chunks; rows that are multiples of others are kept once."""
    whole = np.concatenate(tables, axis=-1) * scale
    chunks: list[dict[str, Any]] = []
    for table in tables:
        facts = SampleFacts()
        facts.add(table * scale)
        chunks.append(facts.arrays())
    merged = SampleFacts()
    functools.reduce(lambda _, chunk: merged.merge(chunk), chunks, None)
    assert merged.samples == whole.shape[-1]
    for fact, name in enumerate(FACTS):
        np.testing.assert_array_equal(merged.table(range(3), name), whole[:, fact])
        np.testing.assert_array_equal(merged.total(name), whole[:, fact].sum(axis=0))
    rows = merged.arrays()["facts"]
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert (np.gcd.reduce(rows, axis=1) == 1).all()
