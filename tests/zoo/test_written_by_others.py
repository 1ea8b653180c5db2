"""Three networks as users of SpikingJelly write them, by one who had not seen the exporter: spike for spike the same.

What happened at the first try stands with each of them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, monitor, neuron
from torch import Tensor, nn
from zoo_calibration import calibrate

import spikescr

NETWORKS = Path(__file__).parent / "networks"
SAMPLES = 3
CASES: dict[str, tuple[str, Callable[[torch.Generator], Tensor]]] = {
    "residual": ("held", lambda g: torch.rand(SAMPLES, 3, 16, 16, generator=g)),
    "listener": ("steps", lambda g: torch.poisson(torch.full((9, SAMPLES, 20), 0.3), generator=g)),
    "tokens": ("steps", lambda g: torch.poisson(torch.full((4, SAMPLES, 2, 16, 16), 0.3), generator=g)),
}


def network(name: str) -> nn.Module:
    spec = importlib.util.spec_from_file_location(f"networks_{name}", NETWORKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(5)
    made: nn.Module = module.make()
    return made.eval()


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, nn.Module, Tensor]:
    """Name, network in which every layer fires, and its input."""
    time, inputs = CASES[request.param]
    net, x = network(request.param), inputs(torch.Generator().manual_seed(6))
    firing = calibrate(net, lambda: net(x))
    assert not firing.silent
    assert firing.lowest[1] > 0.02
    return time, net.double(), x.double()


@pytest.mark.parametrize("backend", ["fast", pytest.param("lava", marks=pytest.mark.lava)])
def test_no_spike_differs(case: tuple[str, nn.Module, Tensor], backend: str) -> None:
    time, net, x = case
    graph = spikescr.to_nir(net, x, time=time, dt=1e-3)
    told = spikescr.verify(net, graph, x, backend=backend)
    assert told.differing == 0
    assert all(layer.spikes for layer in told.layers)
    # the verifier aside: every layer's spikes as SpikingJelly's own monitor sees them, and what the network answers
    run = spikescr.simulate(graph, x.numpy(), backend=backend)
    watch = monitor.OutputMonitor(net, neuron.BaseNode)
    with torch.no_grad():
        answer = net(x)
    watch.disable()
    functional.reset_net(net)
    expected = {path: sum(int(spikes.sum()) for spikes in watch[path]) for path in watch.monitored_layers}
    assert {path: int(spikes.sum()) for path, spikes in run.spikes.items()} == expected
    assert run.answers is not None
    np.testing.assert_allclose(run.answers, answer.numpy(), rtol=1e-9, atol=1e-9)
