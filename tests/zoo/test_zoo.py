"""The zoo: nothing that SpikingJelly ships is left out, and every layer of what is compared fires."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
import zoo_measure
import zoo_networks
from spikingjelly.activation_based import functional, layer, monitor, neuron
from torch import nn
from zoo_calibration import calibrated, run_over
from zoo_measure import measure
from zoo_networks import LOOP, NETWORKS, VARIANTS, chosen
from zoo_papers import evaluate

import spikescr
from spikescr.sim.lowering.lower import lower

QUICK = ("CSNN", "rsnn StatefulSynapseNet", "sew_resnet18", "spikformer_cifar10", "ottt_spiking_vggws")


def test_every_file_of_spikingjellys_models_is_in_the_zoo() -> None:
    spec = importlib.util.find_spec("spikingjelly")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    models = Path(spec.submodule_search_locations[0], "activation_based", "model")
    shipped = {f"model.{path.stem}" for path in models.glob("*.py") if path.stem != "__init__"}
    origins = [entry.origin for entry in NETWORKS]
    assert {origin for origin in origins if origin.startswith("model.")} == shipped
    assert (len(origins), sum(origin.startswith("model.") for origin in origins)) == (29, 24)
    assert len({entry.name for entry in (*NETWORKS, *VARIANTS)}) == 29 + len(VARIANTS)


def test_names_are_chosen() -> None:
    assert [entry.name for entry in chosen(["CSNN", "sew_resnet18 IAND"])] == ["CSNN", "sew_resnet18 IAND"]
    with pytest.raises(KeyError):
        chosen(["none"])


@pytest.mark.parametrize("name", QUICK)
def test_every_layer_fires(name: str) -> None:
    (entry,) = chosen([name])
    zoo = calibrated(entry, samples=4)
    watch = monitor.OutputMonitor(zoo.net, neuron.BaseNode)
    with torch.no_grad():
        run_over(zoo.net, zoo.x, entry.time == LOOP)()
    watch.disable()
    functional.reset_net(zoo.net)
    rates = {path: torch.stack(watch[path]).mean().item() for path in zoo.firing.rates}
    assert rates == pytest.approx(zoo.firing.rates, rel=1e-5)
    assert set(watch.monitored_layers) == set(rates)
    assert 0.02 < min(rates.values()) <= max(rates.values()) < 0.9
    assert not zoo.firing.silent


def test_a_seed_gives_the_same_network() -> None:
    (entry,) = chosen(["rsnn PlainNet"])
    first, again, other = (calibrated(entry, samples=2, seed=seed) for seed in (3, 3, 4))
    for name, value in first.net.state_dict().items():
        assert torch.equal(value, again.net.state_dict()[name])
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.x, other.x)


def test_a_stand_in_is_empty_and_is_told() -> None:
    for name in zoo_networks.stand_ins():
        assert name in zoo_networks.STAND_INS
    assert zoo_networks.stand_ins() == zoo_networks.stand_ins()


@pytest.mark.parametrize("name", ["rsnn StatefulSynapseNet", "CSNN"])
def test_a_network_of_the_zoo_is_the_same_as_a_graph(name: str) -> None:
    (entry,) = chosen([name])
    row = measure(entry, 2, lava=False, speed=False)
    assert row.passed, row
    assert row.spikes > 100
    assert {"executed", "spikingjelly", "neurobench", "syops"} <= set(row.charged)
    executed, estimated = row.charged["executed"], row.charged["spikingjelly"]
    assert 0 < executed["mac"] <= estimated["mac"]  # the first layer hears real values
    assert executed["ac"] <= estimated["ac"]


@pytest.mark.slow
def test_a_network_that_looks_ahead_is_timed_on_the_steps_that_its_graph_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo_measure, "BATCHES", (1,))
    monkeypatch.setattr(zoo_measure, "AT_LEAST", 0.0)
    (entry,) = chosen(["speech_commands Net"])
    zoo = calibrated(entry, samples=1)
    graph = spikescr.to_nir(zoo.net.double(), zoo.x.double(), time=entry.time, dt=zoo_measure.DT)
    assert lower(graph).steps > len(zoo.x)
    told = zoo_measure.speeds(zoo, graph)
    assert min(told.values()) > 0


def test_what_no_graph_can_say_is_refused_by_name() -> None:
    (entry,) = chosen(["masnn_dvs128_gesture"])
    row = measure(entry, 2, lava=False, speed=False)
    assert (row.passed, row.exported) == (True, False)
    assert "conv_blocks.0.attn" in row.refused
    assert "adaptive_avg_pool3d" in row.refused


def test_the_papers_formula_is_rate_times_steps_times_flops() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(1, 2, 3, padding=1, bias=False), neuron.IFNode(v_threshold=0.3), layer.Conv2d(2, 3, 3, stride=2),
        layer.SeqToANNContainer(nn.Flatten()), layer.Linear(12, 5),
    )  # fmt: skip
    functional.set_step_mode(net, "m")
    x = torch.rand(4, 2, 1, 6, 6)  # T 4, B 2
    formula = evaluate(net, lambda: net(x), samples=2)
    with torch.no_grad():
        spikes = net[1](net[0](x))
    functional.reset_net(net)
    second, dense = 2 * 9 * 3 * 2 * 2, 12 * 5
    assert formula.mac == 9 * 2 * 36  # of one step: a static image is convolved once
    assert formula.sop == pytest.approx(spikes.mean().item() * 4 * second + 4 * dense, rel=1e-6)
    assert formula.joules == pytest.approx(4.6e-12 * formula.mac + 0.9e-12 * formula.sop)
