"""The zoo: nothing that SpikingJelly ships is left out, and every layer of what is compared fires."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
import zoo_networks
from spikingjelly.activation_based import functional, monitor, neuron
from zoo_calibration import calibrated, run_over
from zoo_networks import LOOP, NETWORKS, VARIANTS, chosen

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
