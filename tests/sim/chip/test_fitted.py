"""Messages on the mesh and the estimate by fitted costs, with the arithmetic."""

from __future__ import annotations

import itertools

import nir
import numpy as np
import pytest

from spikescr.sim.chip.costs import FITTED, ChipCost, chip_costs
from spikescr.sim.chip.fitted import estimate_fitted
from spikescr.sim.chip.limits import Limit, chip_named
from spikescr.sim.chip.mapper import Placement, place
from spikescr.sim.chip.mesh import HOST, on_mesh
from spikescr.sim.chip.traffic import Activity, channel_rates
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Program

DT = 0.01
COST = chip_costs()[FITTED]


def two_layers() -> Program:
    """4 inputs, 6 neurons, 20 neurons, all connected."""

    def lif(width: int) -> nir.LIF:
        one = np.ones(width)
        return nir.LIF(tau=2 * DT * one, r=2 * one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)

    nodes = {
        "input": nir.Input(np.array([4]), metadata={"spikescr.signal": "spikes"}),
        "a.w": nir.Linear(np.ones((6, 4))), "a.lif": lif(6), "b.w": nir.Linear(np.ones((20, 6))), "b.lif": lif(20),
        "output": nir.Output(np.array([20])),
    }  # fmt: skip
    graph = nir.NIRGraph(nodes, list(itertools.pairwise(nodes)), metadata={"spikescr.dt": DT, "spikescr.steps": 8})
    return lower(graph)


def placed(program: Program, neurons: int) -> Placement:
    chip = chip_named("loihi2").model_copy(update={"neurons": Limit(value=neurons, unit="", assumed="test")})
    return place(program, "loihi2", chip, {})


def test_every_term_has_a_source_and_the_error_that_it_states() -> None:
    # arch/loihi.yaml of SANA-FE 2.2.9, as the issue that asked for them lists them
    listed = {
        "synapse_dense": (35.5, 3.8), "synapse_sparse": (33.6, 4.7), "synapse_convolution": (24.0, 3.1),
        "neuron_access": (51.2, 6.0), "neuron_update": (21.6, 3.7), "spike_out": (69.3, 30.0),
        "message_out": (111.0, 5.1), "message_in": (0.0, 16.0), "hop_east_west": (3.0, 4.1),
        "hop_north_south": (4.2, 6.5),
    }  # fmt: skip
    assert {name: (term.pj, term.ns) for name, term in COST.terms.items()} == listed
    assert COST.states == "energy within 12 % and latency within 25 % of silicon, for three applications"
    assert (COST.year, COST.url) == (2025, "https://doi.org/10.1109/TCAD.2025.3537971")
    assert [COST.barrier(tiles) for tiles in (0, 1, 2, 3, 4, 28, 29, 32)] == pytest.approx(
        [6e-7, 6e-7, 1e-6, 1e-6, 1.4e-6, 1.4e-6, 1.8e-6, 1.8e-6]
    )


def test_a_table_without_one_tile_is_refused() -> None:
    fields = COST.model_dump() | {"barrier_ns": {2: 1.0}}
    with pytest.raises(ValueError, match="begins with 1 tile"):
        ChipCost.model_validate(fields)


def test_messages_go_along_the_row_and_then_along_the_column() -> None:
    program = two_layers()
    placement = placed(program, neurons=1)  # core 0 to 5 a, 6 to 25 b: tiles 0 to 6 of 4 cores, columns of 4 tiles
    assert placement.cores == 26
    rates = channel_rates(program, Activity({"a.lif": 0.6, "b.lif": 2.0}, {}, 10, {"input": 0.5}))
    mesh = on_mesh(placement, rates, COST)
    # each of 6 neurons of a sends 0.1 to 20 cores; of 4 inputs each sends 0.5 to 6 cores; b has no reader
    assert mesh.sent().sum(axis=1).tolist() == pytest.approx([2.0] * 6 + [0.0] * 20)
    assert mesh.received().sum(axis=1).tolist() == pytest.approx([2.0] * 6 + [0.6] * 20)
    assert mesh.from_host().sum() == pytest.approx(12)
    assert mesh.tiles == 7
    place_of = [divmod(core // 4, 4) for core in range(26)]
    east = north = south = 0.0
    links: dict[tuple[int, int, str], float] = {}
    pairs = [((0, 0), place_of[target], 2.0) for target in range(6)]
    pairs += [(place_of[source], place_of[target], 0.1) for source in range(6) for target in range(6, 26)]
    for (x, y), (to_x, to_y), messages in pairs:
        east += (to_x - x) * messages
        north += max(to_y - y, 0) * messages
        south += max(y - to_y, 0) * messages
        passed = [(at, y, "east") for at in range(x, to_x)]
        passed += [(to_x, at, "north") for at in range(y, to_y)] + [
            (to_x, at, "south") for at in range(to_y + 1, y + 1)
        ]
        for link in passed:
            links[link] = links.get(link, 0.0) + messages
    assert mesh.hops == pytest.approx({"east": east, "west": 0, "north": north, "south": south})
    assert mesh.heaviest is not None
    assert mesh.heaviest.messages == pytest.approx(max(links.values()))
    assert links[mesh.heaviest.x, mesh.heaviest.y, mesh.heaviest.direction] == pytest.approx(max(links.values()))


def test_what_returns_goes_west() -> None:
    one = np.ones(2)
    lif = nir.LIF(tau=2 * DT * one, r=2 * one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)
    nodes = {
        "input": nir.Input(np.array([2]), metadata={"spikescr.signal": "spikes"}), "w": nir.Linear(np.eye(2)),
        "lif": lif, "late": nir.Delay(DT * one), "back": nir.Linear(np.array([[0.0, 1.0], [0.0, 0.0]])),
        "output": nir.Output(np.array([2])),
    }  # fmt: skip
    edges = [("input", "w"), ("w", "lif"), ("lif", "late"), ("late", "back"), ("back", "lif"), ("lif", "output")]
    program = lower(nir.NIRGraph(nodes, edges, metadata={"spikescr.dt": DT, "spikescr.steps": 8}))
    placement = placed(program, neurons=1)
    assert placement.cores == 2
    single = COST.model_copy(update={"tile_cores": 1, "tiles_high": 1})
    rates = channel_rates(program, Activity({"lif": np.array([0.25, 0.5])}, {}, 1, {"input": np.array([1.0, 0.125])}))
    mesh = on_mesh(placement, rates, single)
    # neuron 1, on tile (1, 0), is heard by neuron 0 alone; input 1 goes a tile to the east
    assert mesh.hops == pytest.approx({"east": 0.125, "west": 0.5, "north": 0, "south": 0})
    assert {(s, t): m for s, t, m in zip(mesh.sources, mesh.targets, mesh.messages, strict=True)} == pytest.approx(
        {(1, 0): 0.5, (HOST, 0): 1.0, (HOST, 1): 0.125}
    )


def test_the_estimate_is_a_sum_of_terms_and_its_time_a_maximum() -> None:
    program = two_layers()
    placement = placed(program, neurons=6)  # core 0: a; cores 1 to 4: 5 neurons or 6, 6, 6, 2 of b
    assert [core.neurons for layer in placement.layers for core in layer.cores] == [6, 6, 6, 6, 2]
    activity = Activity({"a.lif": 1.2, "b.lif": 2.0}, {"a.w": 12.0, "b.w": 24.0}, 10, {"input": 0.5})
    found = estimate_fitted(placement, program, activity)
    counts = {name: amount.count for name, amount in found.terms.items()}
    # 10 executed steps and one for each of two layers: 12 of the chip
    assert counts == pytest.approx(
        {
            "synapse_dense": 360, "synapse_sparse": 0, "synapse_convolution": 0, "neuron_access": 312,
            "neuron_update": 312, "spike_out": 32, "message_out": 10 * (2 + 1.2 * 4), "message_in": 10 * (2 + 1.2 * 4),
            "hop_east_west": 0, "hop_north_south": 10 * 1.2,
        }
    )  # fmt: skip
    most = 1e-12 * (360 * 35.5 + 312 * 72.8 + 32 * 69.3 + 68 * 111 + 12 * 4.2)
    assert found.joules == pytest.approx((most - 1e-12 * 312 * 21.6, most))
    assert sum(amount.joules for amount in found.terms.values()) == pytest.approx(most)
    times = {name: np.zeros(12) for name in ("neurons", "synapses", "link", "input")}
    work = np.zeros(5)
    for step in range(12):
        # the input comes in the first 10 steps, a fires from the next on, b another step later
        fed, first, second = step < 10, 1 <= step <= 10, step >= 2
        sizes = (6, 6, 6, 2)  # b's cores
        neurons = [6 * 9.7 + first * (1.2 * 30 + 1.2 * 4 * 5.1), *(n * 9.7 + second * 0.1 * n * 30 for n in sizes)]
        synapses = [fed * (12 * 3.8 + 2 * 16), *(first * (24 * n / 20 * 3.8 + 1.2 * 16) for n in sizes)]
        work += np.array(neurons) + synapses
        times["neurons"][step], times["synapses"][step] = max(neurons), max(synapses)
        times["link"][step], times["input"][step] = first * 1.2 * 6.5, fed * 2 * 5.1
    assert found.times == pytest.approx({name: 1e-9 * t.mean() for name, t in times.items()} | {"barrier": 1e-6})
    assert found.deciding == "barrier"
    each = 1e-9 * np.max(list(times.values()), axis=0) + 1e-6
    assert found.seconds == pytest.approx(each.sum())
    assert found.step_seconds == pytest.approx(each.mean())
    assert (found.steps, found.tiles) == (12, 2)
    assert found.imbalance == pytest.approx(work.max() / work.mean())


def test_a_step_is_as_long_as_its_own_load() -> None:
    program = two_layers()
    placement = placed(program, neurons=6)
    burst = np.array([10.0, *[0.0] * 9])  # all in one step, ten times the mean
    even = Activity({"a.lif": 1.2, "b.lif": 2.0}, {"a.w": 12.0, "b.w": 2400.0}, 10, {"input": 0.5})
    at_once = Activity(even.fired, even.synaptic, 10, even.entered, dict.fromkeys(("a.lif", "a.w", "b.w"), burst))
    # synapses of b decide at every step, or at one: the same work, but then the neurons of the other steps come on top
    busy = 1e-9 * (2400 * 6 / 20 * 3.8 + 1.2 * 16)
    assert estimate_fitted(placement, program, even).times["synapses"] == pytest.approx(busy * 10 / 12, rel=1e-2)
    found = estimate_fitted(placement, program, at_once)
    assert found.deciding == "synapses of b"
    assert found.seconds == pytest.approx(10 * busy + 12e-6, rel=0.1)
    assert found.joules == pytest.approx(estimate_fitted(placement, program, even).joules)


def test_the_term_that_decides_is_named_with_its_layer() -> None:
    program = two_layers()
    placement = placed(program, neurons=6)
    busy = Activity({"a.lif": 1.2, "b.lif": 2.0}, {"a.w": 12.0, "b.w": 24000.0}, 10, {"input": 0.5})
    assert estimate_fitted(placement, program, busy).deciding == "synapses of b"
    loud = Activity({"a.lif": 1.2, "b.lif": 2.0}, {"a.w": 12.0, "b.w": 24.0}, 10, {"input": 500.0})
    assert estimate_fitted(placement, program, loud).deciding in ("input", "synapses of a")
