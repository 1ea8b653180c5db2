"""Multi-step LIFs of others that may be faster on a device; one is used once it gave our spikes and gradients there.

On a CPU ours is compiled (`kernels`). On CUDA ours walks through the steps in Python; SpikingJelly 2.0.0 has kernels
for the whole window, compiled ahead or by Triton (its `functional.lif_multi_step`, see there and `_ops/lif`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from spikingjelly import configure
from spikingjelly.activation_based import functional, surrogate
from torch import Tensor

from spikescr.model.neuron import ALPHA, LIF, TAU, THRESHOLD, Window, own_window

TOLERANCE = 1e-5
"""Largest difference of gradients that is taken for rounding, over the largest gradient."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backend:
    """A multi-step LIF and who computes it."""

    name: str
    window: Window


OWN = Backend("spikescr", own_window)


def spikingjelly_window(x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes and last membrane by SpikingJelly, whose kernels follow from the device; arguments as in `Window`.

    Arrays are contiguous both ways: kernels are compiled anew for every other layout, too.
    """
    atan = surrogate.ATan(alpha=ALPHA)
    spikes, v, _ = functional.lif_multi_step(x.contiguous(), v, TAU, False, THRESHOLD, 0.0, atan, True)
    if spikes.requires_grad:
        spikes.register_hook(lambda gradient: gradient.contiguous())
    return spikes, v.detach()


def pick(device: torch.device, candidates: Sequence[Backend] | None = None) -> Backend:
    """The first candidate that agrees with ours on a device, ours where none does; a warning names each that does not.

    Args:
        device: where it is to run.
        candidates: fastest first; None: those known for the device.
    """
    for backend in _known(device) if candidates is None else candidates:
        fault = deviation(backend.window, device)
        if fault is None:
            logger.debug("LIF on %s: %s", device, backend.name)
            return backend
        logger.warning("the LIF of %s is not used on %s: %s", backend.name, device, fault)
    return OWN


def install(model: torch.nn.Module, backend: Backend) -> None:
    """Lets every plain LIF of a network compute so, float32 windows at least."""
    for module in model.modules():
        if type(module) is LIF:
            module.window = backend.window


def deviation(window: Window, device: torch.device) -> str | None:
    """How a multi-step LIF differs from ours on a small random input, None where spikes are equal and gradients agree.

    What it raises (of what missing packages, compilers and drivers lead to) counts as differing.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, 37, generator=generator)
    v, upstream = torch.rand(x.shape[1:], generator=generator), torch.randn(x.shape, generator=generator)
    found = []
    for computed in (own_window, window):
        given = x.to(device, copy=True).requires_grad_()
        try:
            spikes, last = computed(given, v.to(device))
            (spikes * upstream.to(device)).sum().backward()
        except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        assert given.grad is not None
        found.append((spikes.detach(), last.detach(), given.grad))
    (spikes, last, gradient), (other_spikes, other_last, other_gradient) = found
    different = int((spikes != other_spikes).sum())
    if different:
        return f"{different} of {spikes.numel()} spikes differ"
    for what, values, others in (("membranes", last, other_last), ("gradients", gradient, other_gradient)):
        largest = float((values - others).abs().max() / values.abs().max())
        if not largest <= TOLERANCE:
            return f"{what} differ by {largest:.1e} of the largest, more than {TOLERANCE:g}"
    return None


def _known(device: torch.device) -> list[Backend]:
    """What may be faster than ours on a device."""
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
