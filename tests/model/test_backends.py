"""Who else may compute the neurons: only whoever gives our spikes and gradients."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import SMALL, calibrated_model, spikes_by_layer
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from spikescr.model import LIF, backends
from spikescr.model.backends import FUSED, PLAIN, Backend, deviation, install, pick, spikingjelly_window
from spikescr.model.fused_layers import fused
from spikescr.model.layers import SpikingLayer
from spikescr.model.neuron import own_window, soften

CPU = torch.device("cpu")


def with_a_spike_more(x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    spikes, v = own_window(x, v)
    silent = (spikes == 0).nonzero()[0]
    more = torch.zeros_like(spikes)
    more[tuple(silent)] = 1.0
    return spikes + more, v


def with_another_reset(x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes are ours; gradients flow through the reset."""
    spikes = functional.lif_multi_step(x, v, 2.0, False, 1.0, 0.0, LIF().surrogate_function, False)[0]
    return spikes, own_window(x, v)[1]


def with_another_membrane(x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    spikes, v = own_window(x, v)
    return spikes, v + 1e-3


def without_its_package(x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    raise ImportError("No module named 'triton'")


def out_of_order(x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    raise RuntimeError("no kernel image is available for execution on the device")


def test_spikingjelly_gives_our_spikes_and_gradients() -> None:
    good = Backend("SpikingJelly", spikingjelly_window)
    assert deviation(good, CPU) is None
    assert pick(CPU, [good, PLAIN]) is good


@pytest.mark.parametrize(
    ("window", "fault"),
    [
        (with_a_spike_more, "1 of 4440 spikes differ"),
        (with_another_reset, r"gradients differ by \d\.\de[+-]\d\d of the largest, more than 1e-05"),
        (with_another_membrane, r"membranes differ by \d\.\de-0[34] of the largest, more than 1e-05"),
        (without_its_package, "ImportError: No module named 'triton'"),
        (out_of_order, "RuntimeError: no kernel image is available for execution on the device"),
    ],
)
def test_what_deviates_or_fails_is_not_used_and_named(
    caplog: pytest.LogCaptureFixture, window: backends.Window, fault: str
) -> None:
    good = Backend("good", spikingjelly_window)
    with caplog.at_level(logging.WARNING):
        assert pick(CPU, [Backend("bad", window)]) is PLAIN
        assert pick(CPU, [Backend("bad", window), good]) is good
    assert len(caplog.messages) == 2
    for message in caplog.messages:
        start = "bad is not used on cpu: "
        assert message.startswith(start)
        assert re.fullmatch(fault, message.removeprefix(start))


def test_a_cpu_computes_layers_in_one_go() -> None:
    assert pick(CPU) is FUSED


def layers_but(kind: type[nn.Module], wrong: Callable[..., Any]) -> Callable[[nn.Module], Callable[..., Any] | None]:
    return lambda module: wrong if type(module) is kind else fused(module)


def a_late_layer(layer: SpikingLayer, x: Tensor, valid: Tensor) -> Tensor:
    return layer.plain(x, valid).roll(1, dims=0)


def a_steep_layer(layer: SpikingLayer, x: Tensor, valid: Tensor) -> Tensor:
    spikes = layer.plain(x, valid)
    return 1.001 * spikes - 0.001 * spikes.detach()


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (a_late_layer, r"\d+ of 3840 spikes differ"),
        (a_steep_layer, r"gradients of [a-z0-9.]+ differ by \d\.\de-0[23] of the largest, more than 1e-05"),
        (without_its_package, "TypeError: without_its_package.*"),
    ],
)
def test_layers_that_deviate_or_fail_are_not_used(
    caplog: pytest.LogCaptureFixture, wrong: Callable[..., Any], fault: str
) -> None:
    with caplog.at_level(logging.WARNING):
        assert pick(CPU, [Backend("bad", layers=layers_but(SpikingLayer, wrong)), FUSED]) is FUSED
    (message,) = caplog.messages
    assert re.fullmatch("bad is not used on cpu: " + fault, message)


def test_a_device_without_compiled_kernels_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = {"implementation": "torch", "unavailable": {"cuda": "no extension", "triton": "no module"}}
    monkeypatch.setattr(functional, "neuron_implementation", lambda kind, device: about)
    with caplog.at_level(logging.WARNING):
        assert pick(torch.device("cuda:0")) is PLAIN
    (message,) = caplog.messages
    assert message == (
        "SpikingJelly has no compiled LIF for cuda:0 (cuda: no extension; triton: no module); the plain loop is used"
    )


def test_an_installed_backend_computes_every_plain_neuron() -> None:
    model, x, steps = calibrated_model(SMALL, dtype=torch.float32)
    expected, _ = spikes_by_layer(model, x, steps)
    calls = 0

    def counting(current: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        return spikingjelly_window(current, v)

    install(model, Backend("counting", counting))
    found, _ = spikes_by_layer(model, x, steps)
    assert calls == len(expected)
    assert all(torch.equal(found[name], spikes) for name, spikes in expected.items())


def test_an_installed_backend_keeps_the_sharpness_of_the_surrogates() -> None:
    model, x, steps = calibrated_model(SMALL, dtype=torch.float32)
    soften(model, 2.0)
    gradients = []
    for backend in (PLAIN, Backend("SpikingJelly", spikingjelly_window)):
        install(model.train(), backend)
        model.zero_grad()
        torch.manual_seed(0)
        model(x, steps).square().sum().backward()
        gradients.append(model.head.weight.grad.clone())  # type: ignore[union-attr]
        gradients.append(model.sem.current.synapse.weight.grad.clone())  # type: ignore[union-attr]
    for plain, other in zip(gradients[:2], gradients[2:], strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))
