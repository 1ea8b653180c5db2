"""What an audit says: memory, steps, decisions, comparison, constants; and that the file holds all of it."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from from_torch import calibrated_model, fold, to_nir

from spikescr.errors import SpikescrError, UsageError
from spikescr.model import ModelConfig
from spikescr.sim.counting import summary
from spikescr.sim.counting.account import Account, layer_of
from spikescr.sim.counting.decisions import final_steps
from spikescr.sim.counting.energy import CONSTANTS, HOROWITZ_45NM, EnergyCost, MemoryCost, read_constants
from spikescr.sim.counting.saved import Audit
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lowering.lower import lower
from spikescr.sim.recording import Ledger
from spikescr.sim.run import Batch, run_batches

CONFIG = ModelConfig(inputs=10, classes=4, layers=1, heads=2, width=16, mlp_ratio=2, kernel=5)
SAMPLES, WINDOW = 5, 18


@pytest.fixture(scope="module")
def ran() -> tuple[Audit, list[Batch]]:
    """An audit of five samples, and the batches from which it came."""
    model, x, steps = calibrated_model(CONFIG, samples=SAMPLES, window=WINDOW)
    program = lower(to_nir(fold(model), steps=WINDOW, dt=0.05, signal="values"))
    account, batches = Account(program), []
    with FastBackend(program, 2) as backend:
        for batch in run_batches(program, backend, x.transpose(0, 1).numpy(), steps.numpy()):
            account.add(batch.recording.counts, batch.valid, batch.output)
            counts = batch.recording.counts
            batches.append(Batch(batch.samples, batch.valid, batch.recording, {"output": batch.output.copy()}))
            object.__setattr__(batch.recording, "counts", Ledger(counts.operations, counts.table.copy()))
    names = [f"one/{i}.wav" for i in range(SAMPLES)]
    audit = Audit.from_account(account, names, ["a", "b", "a", "b", "a"], ["a"] * SAMPLES, {"seed": 7})
    return audit, batches


def by_sample(batches: list[Batch], kind: str) -> np.ndarray:
    """Counts (operations, steps, samples)."""
    return np.concatenate([np.stack([b.recording.counts.per_step(n, kind) for n in b.recording.counts.operations])
                           for b in batches], axis=-1)  # fmt: skip


def test_file_holds_the_whole_audit(ran: tuple[Audit, list[Batch]], tmp_path: Path) -> None:
    audit, _ = ran
    audit.save(tmp_path / "audit.npz")
    read = Audit.load(tmp_path / "audit.npz")
    arrays = ("table", "moments", "decisions", "valid")
    apart = (*arrays, "facts", "shapes", "_evaluated")
    assert {k: v for k, v in vars(read).items() if k not in apart} == {
        k: v for k, v in vars(audit).items() if k not in apart
    }
    for name in arrays:
        np.testing.assert_array_equal(getattr(read, name), getattr(audit, name), err_msg=name)
    assert read.shapes.keys() == audit.shapes.keys()
    for name in audit.conventions:
        for field, array in vars(audit.charged(name)).items():
            np.testing.assert_array_equal(getattr(read.charged(name), field), array, err_msg=f"{name} {field}")
    assert read.accuracy == 0.6


def test_damaged_and_foreign_files_are_refused(ran: tuple[Audit, list[Batch]], tmp_path: Path) -> None:
    path = tmp_path / "audit.npz"
    ran[0].save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"nothing", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(SpikescrError, match=r"audit\.npz: damaged .*simulate again"):
            Audit.load(path)
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(SpikescrError, match="damaged"):
        Audit.load(path)
    with path.open("wb") as file:
        np.savez(file, audit=np.array("[1]"), valid=np.ones(1))
    with pytest.raises(SpikescrError, match="damaged"):
        Audit.load(path)
    with path.open("wb") as file:
        np.savez(file, audit=np.array(json.dumps({"format": 0})), valid=np.ones(1))
    with pytest.raises(SpikescrError, match="another version"):
        Audit.load(path)


def test_energy_of_each_layer_and_step_with_its_spread(ran: tuple[Audit, list[Batch]]) -> None:
    audit, batches = ran
    found = summary.per_step(audit, HOROWITZ_45NM)
    energy = 0.9e-12 * by_sample(batches, "ac") + 4.6e-12 * by_sample(batches, "mac")
    for row, layer in enumerate(found["layers"]):
        members = [i for i, name in enumerate(audit.operations) if layer_of(name) == layer]
        each = energy[members].sum(axis=0)  # (steps, samples)
        np.testing.assert_allclose(found["mean_j"][row], each.mean(axis=1), rtol=1e-12, atol=0)
        np.testing.assert_allclose(found["spread_j"][row], each.std(axis=1), rtol=1e-6, atol=1e-18)


@pytest.mark.parametrize(
    ("operation", "layer"),
    [("sem.lif", "sem"), ("fc", "fc"), ("conv_fc.2", "conv_fc.2"), ("conv_fc.3.count", "conv_fc.3"), ("0", "0")],
)
def test_numbers_of_a_sequence_are_layers_of_their_own(operation: str, layer: str) -> None:
    assert layer_of(operation) == layer


def test_what_every_recording_has_in_common_has_no_spread(ran: tuple[Audit, list[Batch]]) -> None:
    """Sums of squares cancel exactly, however many recordings and products there are."""
    audit, _ = ran
    moments = np.zeros_like(audit.moments)
    recordings, ac = 20_000, np.arange(moments.shape[2]) * 37_123
    mac = ac[::-1] * 21
    moments[0] = [recordings * each for each in (ac, mac, ac * ac, mac * mac, ac * mac)]
    many = replace(audit, valid=np.ones(recordings, np.int64), moments=moments)
    found = summary.per_step(many, HOROWITZ_45NM)
    np.testing.assert_allclose(found["mean_j"][0], 0.9e-12 * ac + 4.6e-12 * mac)
    assert np.sum(found["spread_j"]) == 0


def test_decision_is_the_last_change_of_the_running_prediction(ran: tuple[Audit, list[Batch]]) -> None:
    audit, batches = ran
    outputs = np.concatenate([b.output for b in batches], axis=1)
    executed = np.cumsum((by_sample(batches, "ac").sum(axis=0), by_sample(batches, "mac").sum(axis=0)), axis=1)
    late = audit.latencies[audit.types.index("Sink")]
    assert late
    for sample, valid in enumerate(audit.valid):
        scores, answers = np.zeros(outputs.shape[-1]), []
        for step in range(valid):
            powers = np.exp(outputs[step, sample])
            scores += powers / powers.sum()
            answers.append(int(scores.argmax()))
        final = valid - 1
        while final > 0 and answers[final - 1] == answers[-1]:
            final -= 1
        assert audit.decisions[sample].tolist() == [final, *executed[:, final + late, sample]]
    found = summary.decisions(audit, HOROWITZ_45NM)
    assert found is not None
    assert found["step"] == audit.decisions[:, 0].mean()
    assert found["joules"] <= summary.conventions(audit, HOROWITZ_45NM)["executed"]["joules"]


def test_final_steps_by_hand() -> None:
    """Three samples: certain from the start; changes its mind at step 2; a later change that padding hides."""
    outputs = np.zeros((4, 3, 2))
    outputs[:, 0, 0] = 1
    outputs[:, 1] = [[1, 0], [1, 0], [0, 9], [0, 9]]  # softmax sums: 0.73, 1.46 : 0.27, 0.54, then 1.46 : 1.54
    outputs[:, 2] = [[1, 0], [1, 0], [0, 9], [0, 9]]
    assert final_steps(outputs, np.array([4, 4, 2])).tolist() == [0, 2, 0]


def test_memory_traffic_is_counted_in_words(ran: tuple[Audit, list[Batch]]) -> None:
    audit, batches = ran
    found = summary.memory(
        audit, HOROWITZ_45NM, {"m": MemoryCost(name="m", title="", pj_per_byte=2, year=1, source="")}
    )
    attention = [row for row, kind in enumerate(audit.types) if kind == "Attention"]
    ac, mac, bias, neuron = (by_sample(batches, kind).sum() for kind in ("ac", "mac", "bias", "neuron"))
    read = by_sample(batches, "ac")[attention].sum()
    expected = {"weights": ac + mac - read, "biases": bias, "membranes": 2 * neuron, "attention state": 2 * read}
    assert found["bytes"] == {part: 4 * words / SAMPLES for part, words in expected.items()}
    steps = summary.per_step(audit, HOROWITZ_45NM)["mean_bytes"]
    assert np.sum(steps) == pytest.approx(sum(found["bytes"].values()))
    head = steps[audit.layers.index("head")]
    np.testing.assert_allclose(head, 4 * by_sample(batches, "ac")[audit.rows("head")].sum(axis=(0, 2)) / SAMPLES)
    assert found["joules"]["m"] == pytest.approx(2e-12 * sum(found["bytes"].values()))
    eight = HOROWITZ_45NM.model_copy(update={"bits": 8})
    assert summary.memory(audit, eight, {})["bytes"] == {part: words / SAMPLES for part, words in expected.items()}


def test_change_between_runs_is_paired_where_recordings_are_the_same(ran: tuple[Audit, list[Batch]]) -> None:
    audit, _ = ran
    charged = audit.charged("executed")
    half = replace(charged, charges=charged.charges / 2, samples=charged.samples / 2)
    other = replace(audit, stored={"executed": half})
    found = summary.comparison(audit, other, HOROWITZ_45NM, "executed")
    assert found["paired"]
    assert [found[key] for key in ("change", "low", "high")] == pytest.approx([-0.5] * 3)
    strangers = replace(other, recordings=tuple("vwxyz"))
    found = summary.comparison(audit, strangers, HOROWITZ_45NM, "executed")
    assert not found["paired"]
    assert found["change"] == pytest.approx(-0.5)
    assert found["low"] < found["change"] < found["high"]


def test_constants_have_unit_year_and_source() -> None:
    for price in (*CONSTANTS.costs.values(), *CONSTANTS.memories.values()):
        assert price.source
        assert 2000 < price.year < 2030
    assert HOROWITZ_45NM.joules(10, 100) == pytest.approx(10 * 0.9e-12 + 100 * 4.6e-12)
    loihi = CONSTANTS.costs["loihi2018"]
    assert loihi.mac_pj is None
    assert loihi.joules(2, 1000, 3) == pytest.approx(2 * 23.6e-12 + 3 * 81e-12)


def test_own_constants_are_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    good = '[cost.mine]\ntitle = "t"\nbits = 16\nac_pj = 1\nmac_pj = 2\nyear = 2026\nsource = "s"\n'
    path.write_text(good)
    assert read_constants(path).costs == {
        "mine": EnergyCost(name="mine", title="t", bits=16, ac_pj=1, mac_pj=2, year=2026, source="s")
    }
    for text, message in {
        good.replace("ac_pj = 1", "ac_pj = -1"): r"\[cost.mine\] ac_pj: .*greater than or equal to 0",
        good.replace("ac_pj = 1", "ac = 1"): r"\[cost.mine\] ac_pj: [Ff]ield required",
        good.replace("ac_pj = 1", "ac_pj = nan"): r"\[cost.mine\] ac_pj: .*finite.*got nan",
        good.replace("2026", "2" * 5000): r"own.toml: cannot be read as TOML",  # Python reads no integer as long
        good + 'name = "x"': r"\[cost.mine\] name: is that of the table",
        good.replace("mine", '"two\\nlines"').replace("16", "-1"): r"\[cost.'two\\nlines'\] bits",
        "cost = " + "[" * 100_000: r"cannot be read as TOML",
        good.replace("[cost.mine]", "[costs.mine]"): r"costs is not known; tables are \[cost.NAME\]",
        "[cost]\nmine = 3\n": r"cost.mine must be a table, found 3",
        "ac = ": r"cannot be read as TOML",
    }.items():
        path.write_text(text)
        with pytest.raises(UsageError, match=message) as told:
            read_constants(path)
        assert str(told.value).startswith(str(path))
    path.unlink()
    os.mkfifo(path)
    for special, kind in {path: "a FIFO", Path("/dev/zero"): "a device"}.items():
        with pytest.raises(UsageError, match=f"is {kind}; expected a regular file"):
            read_constants(special)


def test_a_member_that_is_no_array_is_told(ran: tuple[Audit, list[Batch]], tmp_path: Path) -> None:
    path = tmp_path / "audit.npz"
    ran[0].save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (members | {"valid.npy": b"text"}).items():
            archive.writestr(name, data)
    with pytest.raises(SpikescrError, match=r"audit\.npz: .*valid.*, is no array"):
        Audit.load(path)
