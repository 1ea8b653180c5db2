"""The energy formula of a whole SpikeSCR, from PyTorch's spikes in plain loops: every operation, step and cause."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from audits import audit_of, samples, total
from from_torch import calibrated_model, fold, to_nir, trace

from spikescr.export.builder import GraphBuilder
from spikescr.model import ModelConfig
from spikescr.sim.compare import compare
from spikescr.sim.counting.account import COLUMNS, Account
from spikescr.sim.counting.formula import CAUSES
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Synapse
from spikescr.sim.run import run_batches

if TYPE_CHECKING:
    from spikescr.export.reference import Trace

CONFIG = ModelConfig(inputs=7, classes=3, layers=2, heads=2, width=8, mlp_ratio=3, kernel=5)
WINDOW, SAMPLES, BATCH = 15, 5, 3
PERIOD = WINDOW + (3 - 1) + CONFIG.layers * (WINDOW + CONFIG.kernel - 1)  # until the oldest tap is quiet
AC, MAC = 0, 1


@dataclass(frozen=True)
class Layer:
    """A linear or convolution layer: LIF layers whose spikes it adds up, FLOPs of one spike, latency of its output."""

    inputs: tuple[str, ...]
    flops: int
    latency: int


@dataclass(frozen=True)
class Case:
    account: Account
    reference: Trace
    values: np.ndarray  # (B, T, C)
    valid: np.ndarray


def spiking_layers() -> dict[str, Layer]:
    """Every layer that spikes reach, from the network's equations: what it sees, how far a spike reaches, how late."""
    width, hidden = CONFIG.width, CONFIG.width * CONFIG.mlp_ratio
    found: dict[str, Layer] = {}
    residual: tuple[str, ...] = ("sem.lif",)
    for number in range(CONFIG.layers):
        b = f"blocks.{number}"
        read = attention_latency(number)
        arrives, local = read - WINDOW, read + CONFIG.kernel // 2
        attended = (*residual, f"{b}.ssa.out.lif")
        mixed = (*attended, f"{b}.mlp1.contract.lif")
        gated = (*mixed, f"{b}.sgc.gated.lif")
        found |= {f"{b}.ssa.{name}.synapse": Layer(residual, width, arrives) for name in "qkv"}
        found |= {
            f"{b}.ssa.out.synapse": Layer((f"{b}.ssa.attention.lif",), width, read),
            f"{b}.mlp1.expand.synapse": Layer(attended, hidden, read),
            f"{b}.mlp1.contract.synapse": Layer((f"{b}.mlp1.expand.lif",), width, read),
            f"{b}.sgc.pointwise.synapse": Layer(mixed, width, read),
            f"{b}.sgc.depthwise.synapse": Layer((f"{b}.sgc.pointwise.lif",), CONFIG.kernel, local),
            f"{b}.sgc.value.synapse": Layer((f"{b}.sgc.depthwise.lif",), width, local),
            f"{b}.sgc.gate_in.synapse": Layer((f"{b}.sgc.depthwise.lif",), width, local),
            f"{b}.sgc.gate.synapse": Layer((f"{b}.sgc.gate_in.lif",), width, local),
            f"{b}.mlp2.expand.synapse": Layer(gated, hidden, local),
            f"{b}.mlp2.contract.synapse": Layer((f"{b}.mlp2.expand.lif",), width, local),
        }
        residual = (*gated, f"{b}.mlp2.contract.lif")
    found["head.synapse"] = Layer(residual, CONFIG.classes, local)
    return found


def attention_latency(block: int) -> int:
    """Latency of what a block's attention puts out: half of the embedding's taps, the blocks before, the window."""
    return 1 + block * (WINDOW + CONFIG.kernel // 2) + WINDOW


@pytest.fixture(scope="module")
def case() -> Case:
    """A small SpikeSCR of two blocks that fires in every layer, executed in two batches, the second one not full."""
    model, x, steps = calibrated_model(CONFIG, seed=2, samples=SAMPLES, window=WINDOW)
    x[1, :, 2] = 0.0  # real-valued input that happens to be 0, on valid steps
    x[4, 1, :3] = 0.0
    folded = fold(model)
    values, valid = x.transpose(0, 1).numpy(), steps.numpy()
    program = lower(to_nir(folded, steps=WINDOW, dt=0.025))
    reference = trace(folded, values, valid)
    account = Account(program)
    with FastBackend(program, BATCH) as backend:
        for batch in run_batches(program, backend, values, valid):
            spikes = {name: s[:, batch.samples] for name, s in reference.spikes.items()}
            layers, divergence = compare(program, batch.recording, spikes, batch.valid)
            assert divergence is None
            assert not any(layer.silent for layer in layers)
            account.add(batch.recording.counts, batch.valid)
    assert len(set(valid.tolist())) > 1
    assert valid.max() < WINDOW
    return Case(account, reference, values, valid)


def spikes_at(reference: Trace, layers: tuple[str, ...], step: int, sample: int) -> int:
    return sum(int(spike) for layer in layers for spike in reference.spikes[layer][step, sample])


def expected_formula(reference: Trace) -> dict[str, np.ndarray]:
    """rate x FLOPs of every operation that the formula charges: (AC and MAC, executed steps, samples)."""
    found: dict[str, np.ndarray] = {}

    def table(name: str) -> np.ndarray:
        return found.setdefault(name, np.zeros((2, PERIOD, SAMPLES), np.int64))

    for sample, t in itertools.product(range(SAMPLES), range(WINDOW)):
        table("sem.synapse")[MAC, 1 + t, sample] = CONFIG.inputs * 3 * CONFIG.width
        for name, layer in spiking_layers().items():
            spikes = spikes_at(reference, layer.inputs, t, sample)
            table(name)[AC, layer.latency + t, sample] = spikes * layer.flops
        for number in range(CONFIG.layers):
            ssa = f"blocks.{number}.ssa"
            v = sum(spikes_at(reference, (f"{ssa}.v.lif",), s, sample) for s in range(WINDOW))
            q = spikes_at(reference, (f"{ssa}.q_rotated.lif",), t, sample)
            table(f"{ssa}.attention.product")[AC, attention_latency(number) + t, sample] = WINDOW * q + v
    return found


def attention_causes(reference: Trace, ssa: str, sample: int, valid: int) -> dict[str, int]:
    """What one attention executes less or more than charged, for one sample, spike by spike."""
    q, k, v = (reference.spikes[f"{ssa}.{n}.lif"][:, sample] for n in ("q_rotated", "k_rotated", "v"))
    heads = [range(h, h + CONFIG.width // CONFIG.heads) for h in range(0, CONFIG.width, CONFIG.width // CONFIG.heads)]
    uncharged = missed = coincidences = read_v = outer = read_q = 0
    for t in range(WINDOW):
        # the padded positions that the formula lets every spike of q and of v meet
        uncharged += sum(int(q[t, c]) + int(v[t, c]) for c in range(CONFIG.width)) * len(range(valid, WINDOW))
    for t, channels in itertools.product(range(valid), heads):
        outer += sum(int(k[t, i] and v[t, j]) for i in channels for j in channels)
        read_q += sum(int(q[t, i]) for i in channels for _ in channels)
        for s, c in itertools.product(range(valid), channels):
            coincidences += int(q[t, c] and k[s, c])
            missed += int(q[t, c] and not k[s, c])
            read_v += int(v[s, c])
    return {
        "padding": -uncharged,
        "attention_correlation": -missed,
        "attention_order": (outer + read_q) - (coincidences + read_v),
    }


def expected_causes(case: Case) -> dict[tuple[str, str], list[int]]:
    """Operation and cause -> AC and MAC, summed over the samples; what is not here is 0."""
    found: dict[tuple[str, str], list[int]] = {}

    def add(name: str, cause: str, kind: int, count: int) -> None:
        found.setdefault((name, cause), [0, 0])[kind] += count

    embedding = 3 * CONFIG.width  # of one channel at one step
    for sample, valid in enumerate(case.valid.tolist()):
        for t, c in itertools.product(range(WINDOW), range(CONFIG.inputs)):
            if t >= valid:
                add("sem.synapse", "padding", MAC, -embedding)
            elif case.values[sample, t, c] == 0.0:
                add("sem.synapse", "zero_input", MAC, -embedding)
        for number in range(CONFIG.layers):
            ssa = f"blocks.{number}.ssa"
            for cause, count in attention_causes(case.reference, ssa, sample, valid).items():
                add(f"{ssa}.attention.product", cause, AC, count)
            for name, t in itertools.product("qk", range(WINDOW)):
                turned = spikes_at(case.reference, (f"{ssa}.{name}.lif",), t, sample)
                add(f"{ssa}.{name}_rotated.rotary", "rotary", AC, 2 * turned)
    return found


def test_formula_of_every_operation_at_every_executed_step(case: Case) -> None:
    expected, program = expected_formula(case.reference), case.account.program
    attentions = {f"blocks.{n}.ssa.attention.product" for n in range(CONFIG.layers)}
    assert expected.keys() == {o.name for o in program.of_type(Synapse)} | attentions
    for row, operation in enumerate(program.operations):
        for kind, column in enumerate(("formula_ac", "formula_mac")):
            wanted = np.zeros(PERIOD, np.int64)
            if operation.name in expected:
                wanted = expected[operation.name][kind].sum(axis=-1)
            got = case.account.table[row, COLUMNS.index(column)]
            np.testing.assert_array_equal(got, wanted, err_msg=f"{operation.name} {column}")
    assert all(counts.any() for counts in expected.values())


def test_formula_totals_of_the_run_and_of_every_sample(case: Case) -> None:
    expected = sum(expected_formula(case.reference).values())
    assert total(case.account, "formula_ac") == expected[AC].sum()
    assert total(case.account, "formula_mac") == expected[MAC].sum() == SAMPLES * WINDOW * 7 * 3 * 8
    by_sample = [tuple(counts) for counts in expected.sum(axis=1).T.tolist()]
    assert [sample[2:] for sample in samples(case.account)] == by_sample


def test_causes_of_every_operation(case: Case) -> None:
    expected = expected_causes(case)
    found = {
        (operation.name, cause): audit_of(case.account).formula_causes()[row, column].tolist()
        for row, operation in enumerate(case.account.program.operations)
        for column, cause in enumerate(CAUSES)
    }
    assert {key: counts for key, counts in found.items() if any(counts)} == expected
    assert {cause for _, cause in expected} == set(CAUSES) - {"cut_off"}  # nothing here fires until the run ends


def test_attention_whose_operands_are_late_is_charged_when_it_reads() -> None:
    """Two channels, q and v straight from their neurons and then 2 steps late; window 3, all of it valid."""
    build = GraphBuilder(0.025)
    x = build.input("input", 6, "spikes")
    q, k, v = (
        build.delayed(build.lif(f"{name}.lif", build.linear(name, x, np.eye(6)[2 * i : 2 * i + 2], None)), 2)
        for i, name in enumerate("qkv")
    )
    operands = {"q": q, "k": k, "v": v, "clock": build.clock(2)}
    parameters = {"heads": 1, "scale": 0.5, "steps": 3}
    build.output("output", build.operation("attention", "attention", 2, operands, parameters, duration=3))
    program = lower(build.graph({"spikescr.dt": 0.025, "spikescr.steps": 3}))
    spikes = np.array([[1, 0, 1, 1, 0, 1], [1, 1, 0, 1, 0, 0], [0, 0, 1, 0, 1, 1]], float)[:, None]
    account = Account(program)
    with FastBackend(program, 1) as backend:
        account.add(backend.run({"input": spikes, "clock": np.ones((3, 1, 1))}).counts, np.array([3]))
    attention = [o.name for o in program.operations].index("attention")
    # q fires 1, 2, 0 times, each for 3 positions; the 3 spikes of v for every position; latency 2 + 3
    assert [total(account, "formula_ac", attention, s) for s in range(8)] == [0, 0, 0, 0, 0, 3 + 3, 6 + 3, 0 + 3]
