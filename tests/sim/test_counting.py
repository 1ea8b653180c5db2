"""Counts, formula and energy: small networks by hand, whole ones against the NIR interpreter of the tests."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from audits import audit_of, samples, total
from from_torch import SMALL, assert_every_layer_fires, calibrated_model, firing_rates, fold, to_nir, trace
from oracles.nir_interpreter import interpret

from spikescr.export.builder import GraphBuilder
from spikescr.sim.compare import compare
from spikescr.sim.counting.account import Account
from spikescr.sim.counting.energy import HOROWITZ_45NM
from spikescr.sim.counting.formula import CAUSES
from spikescr.sim.counting.results import energy, layers
from spikescr.sim.lava.backend import LavaBackend
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Neuron, Program, Synapse
from spikescr.sim.run import run_batches

pytestmark = pytest.mark.lava
DT = 0.025


def run(program: Program, inputs: dict[str, np.ndarray], valid: np.ndarray) -> Account:
    """Executes one batch in Lava and accounts for it."""
    account = Account(program)
    with LavaBackend(program, len(valid)) as backend:
        account.add(backend.run(inputs).counts, valid)
    return account


def row(account: Account, name: str) -> int:
    return [o.name for o in account.program.operations].index(name)


def test_convolution_network_by_hand() -> None:
    """Two channels of counts, a 3-tap convolution to two neurons, a head of three; window 3, two valid steps."""
    build = GraphBuilder(DT)
    x = build.input("input", 2, "spikes")
    kernel = np.stack([np.full((2, 3), 1.0), np.full((2, 3), 0.1)])  # the second neuron hardly feels an event
    lif = build.lif("conv.lif", build.convolution("conv", x, kernel, np.array([0.5, 0.5])))
    build.output("output", build.linear("head", lif, np.ones((3, 2)), None))
    program = lower(build.graph({"spikescr.dt": DT, "spikescr.steps": 3}))
    counts = np.array([[1.0, 2.0], [0.0, 1.0], [0.0, 0.0]])[:, None]
    clock = np.array([1.0, 1.0, 0.0])[:, None, None]
    account = run(program, {"input": counts, "clock": clock}, np.array([2]))

    conv, neuron, head = (row(account, name) for name in ("conv.synapse", "conv.lif", "head.synapse"))
    assert [total(account, "spikes", conv, s) for s in range(5)] == [3, 1, 0, 0, 0]
    # an event reaches 2 neurons by each tap: 3 events now; 1 now and 3 one step old; 1 and 3 older; 1 oldest
    assert [total(account, "ac", conv, s) for s in range(5)] == [3 * 2, (1 + 3) * 2, (1 + 3) * 2, 1 * 2, 0]
    # the two valid positions pass at steps 1 and 2; what was accumulated before and after is gated away
    assert [total(account, "discarded", conv, s) for s in range(5)] == [6, 0, 0, 2, 0]
    assert [total(account, "bias", conv, s) for s in range(5)] == [0, 2, 2, 0, 0]
    assert [total(account, "neuron", neuron, s) for s in range(5)] == [0, 2, 2, 0, 0]
    assert [total(account, "fired", neuron, s) for s in range(5)] == [0, 1, 2, 0, 0]  # currents 4.5, 4.5; 0.9, 0.9
    assert [total(account, "ac", head, s) for s in range(5)] == [0, 1 * 3, 2 * 3, 0, 0]
    # the formula: rate x FLOPs of the step's own input, 3 and 1 events x 2 outputs x 3 taps, at the output's steps
    assert [total(account, "formula_ac", conv, s) for s in range(5)] == [0, 3 * 6, 1 * 6, 0, 0]
    assert audit_of(account).counts.totals() == {
        "spikes": 4 + 3,
        "fired": 3,
        "ac": 24 + 9,
        "ac_quadratic": 0,
        "discarded": 8,
        "mac": 0,
        "bias": 4,
        "neuron": 4,
        "entries": 3 + 3,  # channel 0 once, channel 1 twice; three spikes of the neurons
        "graded": 1,  # the 2 of channel 1
        "synops": 3 * 6 + 9,
        "synops_graded": 6,
        "synops_discarded": 2 * 2 + 2,  # two entries arrive before the first position, one after the last
        "saturated": 0,  # in floating point nothing is
        "formula_ac": 24 + 9,
        "formula_mac": 0,
    }
    found = energy(audit_of(account), HOROWITZ_45NM)
    assert found["events_j"] == pytest.approx(33 * 0.9e-12, rel=1e-12)
    assert found["formula_j"] == pytest.approx(33 * 0.9e-12, rel=1e-12)
    assert found["apart"] == {"bias": 4, "neuron": 4}
    by_layer = {entry["layer"]: entry for entry in layers(audit_of(account), HOROWITZ_45NM)}
    assert by_layer["conv"]["ac"] == 24
    assert by_layer["conv"]["spikes"] == 4  # events that arrive, more than the layer's own spikes
    assert by_layer["conv"]["firing_rate"] == 0.75  # 3 spikes of 2 neurons in 2 steps
    assert by_layer["head"]["firing_rate"] is None
    assert by_layer["head"]["events_j"] == pytest.approx(9 * 0.9e-12, rel=1e-12)


def test_real_input_multiplies_and_padding_is_the_cause_of_the_formulas_surplus() -> None:
    build = GraphBuilder(DT)
    x = build.input("input", 4, "values")
    build.output("output", build.linear("fc", x, np.ones((3, 4)), None))
    program = lower(build.graph({"spikescr.dt": DT, "spikescr.steps": 5}))
    values = np.zeros((5, 1, 4))
    values[:2, 0] = [[0.5, -1.0, 2.0, 0.1], [0.3, 0.0, 1.0, -0.2]]  # one entry is exactly zero: no event
    clock = np.array([1.0, 1, 0, 0, 0])[:, None, None]
    account = run(program, {"input": values, "clock": clock}, np.array([2]))

    assert total(account, "mac") == 7 * 3
    assert total(account, "ac") == 0
    assert total(account, "formula_mac") == 5 * 4 * 3  # every channel at every step of the window
    found = energy(audit_of(account), HOROWITZ_45NM)
    assert found["causes"]["padding"]["mac"] == -3 * 4 * 3
    assert found["causes"]["zero_input"]["mac"] == -1 * 3
    assert found["events_j"] == pytest.approx(21 * 4.6e-12, rel=1e-12)
    assert found["difference_j"] == pytest.approx((21 - 60) * 4.6e-12, rel=1e-12)


def test_attention_by_hand() -> None:
    """One head of two channels, two valid steps in a window of four; neurons repeat what they are fed."""
    build = GraphBuilder(DT)
    x = build.input("input", 6, "spikes")
    q, k, v = (
        build.lif(f"{name}.lif", build.linear(name, x, np.eye(6)[2 * i : 2 * i + 2], None))
        for i, name in enumerate("qkv")
    )
    operands = {"q": q, "k": k, "v": v, "clock": build.clock(0)}
    parameters = {"heads": 1, "scale": 0.5, "steps": 4}
    build.output("output", build.operation("attention", "attention", 2, operands, parameters, duration=4))
    program = lower(build.graph({"spikescr.dt": DT, "spikescr.steps": 4}))
    spikes = np.zeros((4, 1, 6))
    spikes[0, 0] = [1, 0, 1, 1, 1, 0]
    spikes[1, 0] = [1, 1, 0, 1, 1, 1]
    clock = np.array([1.0, 1, 0, 0])[:, None, None]
    account = run(program, {"input": spikes, "clock": clock}, np.array([2]))

    attention = row(account, "attention")
    written, read = [2 * 1, 1 * 2], [1 * 2, 2 * 2]  # nnz(k) nnz(v); nnz(q) D
    assert [total(account, "ac", attention, s) for s in range(8)] == [*written, 0, 0, *read, 0, 0]
    # q[0] meets k[0] in one channel, k[1] in none; q[1] meets them in 2 and 1; each reads the 3 spikes of v
    assert [total(account, "ac_quadratic", attention, s) for s in range(8)] == [0, 0, 0, 0, 1 + 3, 3 + 3, 0, 0]
    # 3 spikes of q and 3 of v, each for all 4 positions of the window
    assert total(account, "formula_ac", attention) == 3 * 4 + 3 * 4
    causes = {c: audit_of(account).formula_causes()[attention, CAUSES.index(c), 0] for c in CAUSES}
    assert causes == {
        "padding": -2 * 6,
        "zero_input": 0,
        "attention_correlation": 10 - 2 * 6,
        "attention_order": 10 - 10,
        "rotary": 0,
        "cut_off": 0,
    }
    assert total(account, "ac", attention) - total(account, "formula_ac", attention) == sum(causes.values())


def test_causal_attention_by_hand() -> None:
    """As above, with a third spike of v after the two valid steps: neither written nor read, but charged by rate."""
    build = GraphBuilder(DT)
    x = build.input("input", 6, "spikes")
    q, k, v = (
        build.lif(f"{name}.lif", build.linear(name, x, np.eye(6)[2 * i : 2 * i + 2], None))
        for i, name in enumerate("qkv")
    )
    operands = {"q": q, "k": k, "v": v, "clock": build.clock(0)}
    build.output("output", build.operation("it", "causal_attention", 2, operands, {"heads": 1, "scale": 0.5}))
    program = lower(build.graph({"spikescr.dt": DT, "spikescr.steps": 4}))
    spikes = np.zeros((4, 1, 6))
    spikes[0, 0] = [1, 0, 1, 1, 1, 0]
    spikes[1, 0] = [1, 1, 0, 1, 1, 1]
    spikes[2, 0] = [0, 0, 0, 0, 0, 1]
    clock = np.array([1.0, 1, 0, 0])[:, None, None]
    account = run(program, {"input": spikes, "clock": clock}, np.array([2]))

    assert program.period == 4  # nothing waits
    it = row(account, "it")
    # nnz(k) nnz(v) + nnz(q) D
    assert [total(account, "ac", it, s) for s in range(4)] == [2 * 1 + 1 * 2, 1 * 2 + 2 * 2, 0, 0]
    # q[0] meets k[0] in one channel and reads 1 spike of v; q[1] meets k[0] in 2 and k[1] in 1, and reads 3
    assert [total(account, "ac_quadratic", it, s) for s in range(4)] == [1 + 1, 3 + 3, 0, 0]
    # q: 1 spike x 1 position, 2 x 2; v until then: 1, 3, 4, 4
    assert [total(account, "formula_ac", it, s) for s in range(4)] == [1 + 1, 4 + 3, 4, 4]
    causes = {c: audit_of(account).formula_causes()[it, CAUSES.index(c), 0] for c in CAUSES}
    assert causes == {
        "padding": -(4 + 4),
        "zero_input": 0,
        "attention_correlation": 8 - 9,
        "attention_order": 10 - 8,
        "rotary": 0,
        "cut_off": 0,
    }
    assert total(account, "ac", it) - total(account, "formula_ac", it) == sum(causes.values())


@pytest.fixture(scope="module")
def executed() -> Iterator[tuple]:
    """A small SpikeSCR that fires in every layer, executed in Lava, with its graph, reference and account."""
    model, x, steps = calibrated_model(SMALL, seed=1, samples=5, window=20)
    assert_every_layer_fires(firing_rates(model, x, steps))
    folded = fold(model)
    graph = to_nir(folded, steps=20, dt=DT)
    program = lower(graph)
    values, valid = x.transpose(0, 1).numpy(), steps.numpy()
    account = Account(program)
    with LavaBackend(program, 3) as backend:  # two batches, the second one not full
        batches = list(run_batches(program, backend, values, valid))
    for batch in batches:
        account.add(batch.recording.counts, batch.valid)
    return graph, program, values, valid, trace(folded, values, valid), batches, account


def test_lava_fires_every_spike_of_pytorch(executed: tuple) -> None:
    _, program, values, _, reference, batches, _ = executed
    compared = 0
    for batch in batches:
        expected = {name: spikes[:, batch.samples] for name, spikes in reference.spikes.items()}
        found, divergence = compare(program, batch.recording, expected, batch.valid)
        assert divergence is None
        assert [layer.differing for layer in found] == [0] * 17
        assert not any(layer.silent for layer in found)
        np.testing.assert_allclose(batch.output, reference.logits[:, batch.samples], rtol=0, atol=1e-12)
        compared += batch.output.shape[1]
    assert compared == len(values)


def test_counts_of_lava_are_those_of_the_interpreter_at_every_step(executed: tuple) -> None:
    graph, program, values, valid, _, batches, _ = executed
    nodes = {
        o.name: [n for n in graph.nodes if n == o.name or n.startswith(f"{o.name}.tap")] for o in program.operations
    }
    checked = set()
    for batch in batches:
        for position, sample in enumerate(range(batch.samples.start, batch.samples.stop)):
            clock = (np.arange(program.steps) < valid[sample]).astype(float)[:, None]
            oracle = interpret(graph, {"input": values[sample], "clock": clock}, program.period)
            for operation in program.operations:
                own = nodes[operation.name]
                if isinstance(operation, Synapse) and operation.bias is not None:
                    own = [*own, f"{operation.name.removesuffix('.synapse')}.bias"]
                for kind in ("ac", "mac", "bias", "ac_quadratic", "fired"):
                    expected = sum(
                        (oracle.counts[n][kind] for n in own if kind in oracle.counts[n]),
                        start=np.zeros(program.period, np.int64),
                    )
                    got = batch.recording.counts.per_step(operation.name, kind)[:, position]
                    np.testing.assert_array_equal(got, expected, err_msg=f"{operation.name} {kind}")
                    checked.add(kind) if expected.any() else None
    assert checked == {"ac", "mac", "bias", "ac_quadratic", "fired"}


def test_neuron_updates_are_width_times_valid_steps(executed: tuple) -> None:
    _, program, _, valid, _, _, account = executed
    for operation in program.of_type(Neuron):
        assert total(account, "neuron", row(account, operation.name)) == operation.width * valid.sum()


def test_causes_add_up_to_the_difference_for_every_operation(executed: tuple) -> None:
    _, program, _, _, _, _, account = executed
    for index, operation in enumerate(program.operations):
        for column, kind in enumerate(("ac", "mac")):
            difference = total(account, kind, index) - total(account, f"formula_{kind}", index)
            assert difference == audit_of(account).formula_causes()[index, :, column].sum(), f"{operation.name} {kind}"
    assert audit_of(account).formula_causes()[:, CAUSES.index("attention_order")].any()
    found = energy(audit_of(account), HOROWITZ_45NM)
    explained = sum(cause["joules"] for cause in found["causes"].values())
    assert found["difference_j"] == pytest.approx(explained, rel=1e-9)


def test_totals_are_the_sums_of_the_rows_and_of_the_samples(executed: tuple) -> None:
    *_, account = executed
    rows = list(audit_of(account).counts.rows())
    for column, name in enumerate(audit_of(account).counts.totals()):
        assert sum(r[4 + column] for r in rows) == audit_of(account).counts.totals()[name], name
    for column, name in enumerate(("ac", "mac", "formula_ac", "formula_mac")):
        assert sum(sample[column] for sample in samples(account)) == audit_of(account).counts.totals()[name], name
    assert (
        sum(entry["ac"] for entry in layers(audit_of(account), HOROWITZ_45NM))
        == audit_of(account).counts.totals()["ac"]
    )


def test_counts_of_a_sample_do_not_depend_on_its_batch(executed: tuple) -> None:
    _, program, values, valid, _, _, account = executed
    alone = Account(program)
    with LavaBackend(program, 1) as backend:
        for batch in run_batches(program, backend, values[3:4], valid[3:4]):
            alone.add(batch.recording.counts, batch.valid)
    assert samples(alone) == samples(account)[3:4]
