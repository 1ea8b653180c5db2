"""The conventions of other tools, against those tools: every count of every sample is the same.

What each tool cannot see, or counts against its own rule, is asserted here too, with the version in which it was seen.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import io
import sys
import types
from collections.abc import Iterator

import nir
import numpy as np
import pytest
import torch
from audits import audit_of, total
from chains import Chain, Layer, draw
from helpers import calibrated_model
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.neuron.base_node import BaseNode
from spikingjelly.activation_based.op_counter import ACCounter, DispatchCounterMode, MACCounter
from torch import Tensor, nn

from spikescr.export.fold import fold
from spikescr.export.to_nir import to_nir
from spikescr.model import LIF, ModelConfig, SpikeSCR
from spikescr.sim.counting.account import Account
from spikescr.sim.counting.conventions import CAUSES
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Program, Signal
from spikescr.sim.run import run_batches

STEPS, SAMPLES, CHANNELS = 14, 4, 20
# Layers are wide and have biases where there are neurons: see the test of what SpikingJelly does not see.
CHAINS = {
    "linear": [Layer("linear", 24), Layer("linear", 18), Layer("linear", 3)],
    "head without bias": [Layer("linear", 24), Layer("linear", 3, bias=False)],
    "pruned": [Layer("linear", 24, pruned=True), Layer("linear", 18, pruned=True), Layer("linear", 3, pruned=True)],
    "normalised": [Layer("linear", 24, norm=True), Layer("linear", 18, bias=False, norm=True), Layer("linear", 3)],
    "convolution": [Layer("conv", 24, 3), Layer("conv", 18, 5, bias=False, norm=True), Layer("linear", 3)],
    "separable": [
        Layer("conv", 20, 3, norm=True),
        Layer("depthwise", 20, 5, bias=False, norm=True),
        Layer("linear", 3),
    ],
    "depthwise first": [Layer("depthwise", 20, 7), Layer("linear", 30, norm=True), Layer("linear", 3, bias=False)],
}
INPUTS = ("binary", "integer", "graded", "real")
CASES = pytest.mark.parametrize(("chain", "kind"), [(chain, kind) for chain in CHAINS for kind in INPUTS])


def account_of(program: Program, values: np.ndarray, valid: np.ndarray) -> Account:
    """The account of some samples in which neurons fire."""
    account = Account(program)
    with FastBackend(program, 3) as backend:
        for batch in run_batches(program, backend, values, valid):
            account.add(batch.recording.counts, batch.valid)
    assert 0.02 < total(account, "fired") / total(account, "neuron") < 0.9, "neurons that do not fire prove nothing"
    return account


def charged(program: Program, values: np.ndarray, valid: np.ndarray, convention: str) -> np.ndarray:
    """AC and MAC of each sample by a convention (samples, 2)."""
    return audit_of(account_of(program, values, valid)).charged(convention).samples


def shared(chain: str, kind: str, convention: str) -> tuple[Chain, np.ndarray, list[Tensor]]:
    """A network, what we charge for each sample, and the samples alone, without padding (1, T, C)."""
    network = Chain(CHANNELS, CHAINS[chain], seed=len(chain))
    values, valid, signal = draw(kind, STEPS, SAMPLES, CHANNELS, seed=len(kind))
    found = charged(network.lowered(CHANNELS, STEPS, signal), values, valid, convention)
    return network, found, [torch.from_numpy(x[:n])[None] for x, n in zip(values, valid, strict=True)]


def spikingjelly_counts(run: nn.Module, *inputs: Tensor, ignore: list[type[nn.Module]] | None = None) -> list[int]:
    ac, mac = ACCounter(extra_ignore_modules=ignore), MACCounter(extra_ignore_modules=ignore)
    with torch.no_grad(), DispatchCounterMode([ac, mac]):
        run(*inputs)
    return [ac.get_total(), mac.get_total()]


@CASES
def test_spikingjelly_counts_the_same(chain: str, kind: str) -> None:
    network, found, samples = shared(chain, kind, "spikingjelly")
    assert found.tolist() == [spikingjelly_counts(network, x) for x in samples]


class StockSpikeSCR(nn.Module):
    """SpikeSCR as trained, with SpikingJelly's own LIFNode; logits without the readout."""

    def __init__(self, model: SpikeSCR) -> None:
        super().__init__()
        self.model = model
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, LIF):
                    stock = neuron.LIFNode(tau=2.0, decay_input=False, v_reset=0.0, step_mode="m",
                                           surrogate_function=surrogate.ATan(alpha=5.0))  # fmt: skip
                    setattr(module, name, stock.eval())

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        return self.model(x, steps)


@pytest.mark.parametrize("counts", [False, True], ids=["values", "spikes"])
def test_spikingjelly_counts_the_same_on_the_whole_of_spikescr(counts: bool) -> None:
    """Attention, rotary positions, gates and residual sums included; neurons apart, for the reason of the next test."""
    config = ModelConfig(inputs=10, classes=4, layers=2, heads=2, width=16, mlp_ratio=2, kernel=5)
    model, x, steps = calibrated_model(config, samples=3, window=18, counts=counts)
    program = lower(to_nir(fold(model), steps=18, dt=0.05, signal="spikes" if counts else "values"))
    stock = StockSpikeSCR(model).eval()
    updates = CAUSES.index("neuron_updates")
    for sample, n in enumerate(steps.tolist()):
        account = account_of(program, x[:, [sample]].transpose(0, 1).numpy(), steps[[sample]].numpy())
        ours = audit_of(account).charged("spikingjelly")
        neurons = ours.causes[:, updates].sum(axis=0)
        alone = x[:n, [sample]], steps[[sample]]
        assert (ours.samples[0] - neurons).tolist() == spikingjelly_counts(stock, *alone, ignore=[BaseNode])
        assert (ours.samples[0] >= spikingjelly_counts(stock, *alone)).all()


def test_spikingjelly_does_not_see_a_step_in_which_current_and_membrane_are_binary() -> None:
    """SpikingJelly 2.0.0: membranes that are all 0 are a "spike tensor" without spikes, and adding to them is free."""
    lif = neuron.LIFNode(tau=2.0, decay_input=False, v_reset=0.0, step_mode="m").eval()
    assert importlib.metadata.version("spikingjelly") == "2.0.0"
    assert spikingjelly_counts(lif, torch.rand(5, 1, 7) + 0.01) == [6 * 35 - 7, 0]
    functional.reset_net(lif)
    silent, _ = spikingjelly_counts(lif, torch.zeros(5, 1, 7))
    assert silent < 6 * 35 - 7


neurobench = pytest.importorskip("neurobench.metrics.workload", reason="NeuroBench is a test extra")


def neurobench_counts(network: nn.Module, x: Tensor, samples: int = 1) -> tuple[float, float]:
    """`samples`: what it divides by, the first axis of x."""
    from neurobench.models import TorchModel

    model = TorchModel(network)
    model.register_hooks()
    with torch.no_grad():
        predictions = model(x)
    found = neurobench.SynapticOperations()(model, predictions, (x, torch.zeros(1)))
    model.cleanup_hooks()
    return round(samples * found["Effective_ACs"], 6), round(samples * found["Effective_MACs"], 6)


@CASES
def test_neurobench_counts_the_same(chain: str, kind: str) -> None:
    network, found, samples = shared(chain, kind, "neurobench")
    assert found.tolist() == [list(neurobench_counts(network, x)) for x in samples]


def over_space(kind: str, convention: str) -> tuple[nn.Conv2d, np.ndarray, list[Tensor]]:
    """A convolution over space at every step: the layer, what we charge for each sample, the samples (T, C, H, W)."""
    torch.manual_seed(3)
    convolution = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2).double()
    values, _, signal = draw(kind, STEPS, SAMPLES, 4 * 7 * 5, seed=len(kind))
    valid = np.full(SAMPLES, STEPS)
    node = nir.Conv2d(
        input_shape=(7, 5), weight=convolution.weight.detach().numpy(), stride=(2, 2), padding=(1, 1), dilation=(1, 1),
        groups=2, bias=convolution.bias.detach().numpy(),
    )  # fmt: skip
    ends = {"input": nir.Input(np.array([4, 7, 5])), "output": nir.Output(np.array([6, 4, 3]))}
    edges = [("input", "conv"), ("conv", "output")]
    graph = nir.NIRGraph({**ends, "conv": node}, edges, type_check=False)
    program = lower(graph, dt=0.01, steps=STEPS, input_signal=Signal(signal))
    account = Account(program)
    with FastBackend(program, SAMPLES) as backend:
        account.add(backend.run({"input": values.transpose(1, 0, 2)}).counts, valid)
    found = audit_of(account).charged(convention).samples
    return convolution, found, [torch.from_numpy(x).view(STEPS, 4, 7, 5) for x in values]


@pytest.mark.parametrize("kind", INPUTS)
def test_tools_count_the_same_over_space(kind: str) -> None:
    """Stride, padding and groups: entries at the edge meet fewer weights."""
    convolution, found, samples = over_space(kind, "spikingjelly")
    assert found.tolist() == [spikingjelly_counts(convolution, x) for x in samples]
    convolution, found, samples = over_space(kind, "neurobench")
    assert found.tolist() == [list(neurobench_counts(nn.Sequential(convolution), x, STEPS)) for x in samples]


@pytest.fixture
def syops(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """syops with the neuron classes that it looks for: it does not import beside SpikingJelly 2 as it is."""
    pytest.importorskip("progress", reason="syops is a test extra")
    stand_in = types.ModuleType("spikingjelly.clock_driven")
    neurons = types.ModuleType("spikingjelly.clock_driven.neuron")
    for name in ("MultiStepIFNode", "MultiStepLIFNode", "MultiStepParametricLIFNode"):
        setattr(neurons, name, type(name, (nn.Module,), {}))
    for name in ("IFNode", "LIFNode", "ParametricLIFNode"):
        setattr(neurons, name, getattr(neuron, name))
    stand_in.neuron, stand_in.surrogate, stand_in.functional = neurons, surrogate, functional  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spikingjelly.clock_driven", stand_in)
    monkeypatch.setitem(sys.modules, "spikingjelly.clock_driven.neuron", neurons)
    module = importlib.import_module("syops")
    yield module
    for name in [name for name in sys.modules if name == "syops" or name.startswith("syops.")]:
        del sys.modules[name]


def syops_counts(syops: types.ModuleType, network: nn.Module, x: Tensor) -> tuple[float, float]:
    argument = "x" if isinstance(network, Chain) else "input"
    counts, _ = syops.get_model_complexity_info(
        network, (1,), input_constructor=lambda _: {argument: x}, as_strings=False, print_per_layer_stat=False,
        ost=io.StringIO(),
    )  # fmt: skip
    return counts[1], counts[2]


@pytest.mark.parametrize("kind", INPUTS)
def test_syops_counts_the_same_over_space(syops: types.ModuleType, kind: str) -> None:
    convolution, found, samples = over_space(kind, "syops")
    expected = [syops_counts(syops, nn.Sequential(convolution), x) for x in samples]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-9)


@CASES
def test_syops_counts_the_same(syops: types.ModuleType, chain: str, kind: str) -> None:
    network, found, samples = shared(chain, kind, "syops")
    expected = [syops_counts(syops, network, x) for x in samples]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)  # rates are fractions; it rounds where we do not


def test_syops_does_not_import_beside_spikingjelly_2() -> None:
    assert importlib.metadata.version("syops") == "0.0.5"
    with pytest.raises(ImportError, match="MultiStepIFNode"):
        importlib.import_module("syops")


def test_syops_does_not_see_the_layers_of_spikingjelly(syops: types.ModuleType) -> None:
    x = (torch.rand(1, 5, 6) < 0.5).double()
    plain, theirs = nn.Linear(6, 4).double(), layer.Linear(6, 4).double()
    assert syops_counts(syops, nn.Sequential(plain), x)[0] > 0
    assert syops_counts(syops, nn.Sequential(theirs), x) == (0, 0)


def test_syops_takes_two_real_values_for_spikes(syops: types.ModuleType) -> None:
    """0 and 0.5 are a "spike train" of half the rate to it; the convention here goes by whether all are 0 or 1."""
    x = 0.5 * (torch.rand(1, 50, 6) < 0.5).double()
    ac, mac = syops_counts(syops, nn.Sequential(nn.Linear(6, 4, bias=False).double()), x)
    assert mac == 0
    assert ac == pytest.approx(float(x.sum()) * 4)
