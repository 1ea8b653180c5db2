"""Who computes a network's training on a device: one that is faster than the plain equations, once proved equal.

Candidates run beside our plain equations on small inputs, on the device itself; only one that gave the same spikes, and
gradients that differ by no more than rounding, is installed in a network. On a CPU that is whole layers in one go
(`fused_layers`). On CUDA our LIF walks through the steps in Python; SpikingJelly 2.0.0 has kernels for the whole
window, compiled ahead or by Triton (its `functional.lif_multi_step`, see there and `_ops/lif`).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from spikingjelly import configure
from spikingjelly.activation_based import functional, surrogate
from torch import Tensor, nn

from spikescr.model.config import ModelConfig
from spikescr.model.fused_layers import fused
from spikescr.model.layers import Replaceable
from spikescr.model.network import SpikeSCR, readout
from spikescr.model.neuron import ALPHA, LIF, TAU, THRESHOLD, Window, own_window

TOLERANCE = 1e-5
"""Largest difference of gradients that is taken for rounding, over the largest gradient."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backend:
    """Who computes a network's training.

    window: the multi-step LIF in float32, of every plain LIF, in eval mode too. layers: what computes a layer's
    training, None where that is its plain equations.
    """

    name: str
    window: Window = own_window
    layers: Callable[[nn.Module], Callable[..., Any] | None] = lambda module: None


PLAIN = Backend("spikescr")
FUSED = Backend("spikescr, layers in one go", layers=fused)


def spikingjelly_window(x: Tensor, v: Tensor, alpha: float = ALPHA) -> tuple[Tensor, Tensor]:
    """Spikes and last membrane by SpikingJelly, whose kernels follow from the device; arguments as in `Window`.

    Arrays are contiguous both ways: kernels are compiled anew for every other layout, too.
    """
    atan = surrogate.ATan(alpha=alpha)
    spikes, v, _ = functional.lif_multi_step(x.contiguous(), v, TAU, False, THRESHOLD, 0.0, atan, True)
    if spikes.requires_grad:
        spikes.register_hook(lambda gradient: gradient.contiguous())
    return spikes, v.detach()


def pick(device: torch.device, candidates: Sequence[Backend] | None = None) -> Backend:
    """The first candidate that agrees with `PLAIN` on a device, `PLAIN` where none does; a warning names each other.

    Args:
        device: where it is to run.
        candidates: fastest first; None: those known for the device.
    """
    for backend in _known(device) if candidates is None else candidates:
        fault = deviation(backend, device)
        if fault is None:
            logger.debug("training on %s: %s", device, backend.name)
            return backend
        logger.warning("%s is not used on %s: %s", backend.name, device, fault)
    return PLAIN


def install(model: nn.Module, backend: Backend) -> None:
    """Lets a backend compute a network's training, in place of whichever did."""
    for module in model.modules():
        if type(module) is LIF:
            sharp = module.alpha == ALPHA
            module.window = backend.window if sharp else partial(backend.window, alpha=module.alpha)
        if isinstance(module, Replaceable):
            module.trained_by = backend.layers(module)


@cache
def deviation(backend: Backend, device: torch.device) -> str | None:
    """How a backend differs from `PLAIN` on small inputs, None where spikes are equal and gradients agree.

    Tried once per process.

    What it raises (of what missing packages, compilers and drivers lead to) counts as differing.
    """
    trials: list[_Window | _Network] = [_Window(device)] if backend.window is not own_window else []
    if backend.layers is not PLAIN.layers:
        variants: tuple[dict[str, str], ...] = ({}, {"attention": "causal"}, {"neuron": "adaptive"})
        trials += [_Network(device, variant) for variant in variants]
    for trial in trials:
        try:
            expected, actual = trial.run(PLAIN), trial.run(backend)
        except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        fault = _difference(expected, actual)
        if fault is not None:
            return fault
    return None


@dataclass(frozen=True)
class _Result:
    """What must be the same to the bit, and what to within rounding."""

    spikes: Tensor
    rounded: dict[str, Tensor]


def _difference(expected: _Result, actual: _Result) -> str | None:
    different = int((expected.spikes != actual.spikes).sum())
    if different:
        return f"{different} of {expected.spikes.numel()} spikes differ"
    for what, values in expected.rounded.items():
        largest = float((values - actual.rounded[what]).abs().max() / values.abs().max())
        if not largest <= TOLERANCE:
            return f"{what} differ by {largest:.1e} of the largest, more than {TOLERANCE:g}"
    return None


class _Window:
    """One LIF over 40 steps of random currents."""

    def __init__(self, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(40, 3, 37, generator=generator)
        v, upstream = torch.rand(x.shape[1:], generator=generator), torch.randn(x.shape, generator=generator)
        self.x, self.v, self.upstream = (values.to(device) for values in (x, v, upstream))

    def run(self, backend: Backend) -> _Result:
        given = self.x.clone().requires_grad_()
        spikes, last = backend.window(given, self.v)
        (spikes * self.upstream).sum().backward()
        assert given.grad is not None
        return _Result(spikes.detach(), {"membranes": last.detach(), "gradients": given.grad})


class _Network:
    """A step of training of a small SpikeSCR, samples of unequal lengths, dropout.

    Inputs are counts, weights multiples of 1/64: sums are exact in whatever order they are taken, and so the same
    spikes can be asked for. Its blocks' sums of spikes are what is compared.
    """

    def __init__(self, device: torch.device, variant: dict[str, str]) -> None:
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            small = {"inputs": 6, "classes": 3, "heads": 2, "width": 32, "kernel": 5, "mlp_ratio": 2, "dropout": 0.5}
            self.model = SpikeSCR(ModelConfig.model_validate(small | variant))
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.copy_((parameter * 64).round() / 64)
            for name, parameter in self.model.named_parameters():
                if name.endswith("norm.bias"):
                    parameter.fill_(3.0 if variant.get("neuron") else 0.5)  # for every layer to fire
        self.model.to(device).train()
        self.x = torch.randint(0, 3, (20, 6, 6), generator=generator).float().to(device)
        self.steps = torch.tensor([20, 13, 17, 9, 20, 11], device=device)

    def run(self, backend: Backend) -> _Result:
        model = copy.deepcopy(self.model)
        install(model, backend)
        sums: list[Tensor] = []
        model.head.register_forward_hook(lambda _module, inputs, _output: sums.append(inputs[0].detach()))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            readout(model(self.x, self.steps), self.steps).square().sum().backward()
        rounded = {name: buffer for name, buffer in model.named_buffers() if buffer.is_floating_point()}
        for name, parameter in model.named_parameters():
            if not name.endswith("synapse.bias"):  # zero: a batch normalisation follows
                assert parameter.grad is not None
                rounded[f"gradients of {name}"] = parameter.grad
        return _Result(sums[0], rounded)


def _known(device: torch.device) -> list[Backend]:
    """What may be faster than the plain equations on a device."""
    if device.type == "cpu":
        return [FUSED]
    if device.type != "cuda":
        return []
    # Loops of up to 64 steps would be unrolled whole, which Triton may compile for tens of seconds.
    configure.triton_neuron_kernel_static_range_max_T = 1
    try:
        about = functional.neuron_implementation("lif", device)
    except (RuntimeError, ValueError) as error:
        logger.warning("SpikingJelly has no LIF for %s (%s); the plain loop is used", device, error)
        return []
    if about["implementation"] == "torch":
        why = "; ".join(f"{name}: {reason}" for name, reason in about["unavailable"].items())
        logger.warning("SpikingJelly has no compiled LIF for %s (%s); the plain loop is used", device, why)
        return []
    return [Backend(f"SpikingJelly ({about['implementation']})", spikingjelly_window)]
