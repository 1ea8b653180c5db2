"""A step of training with learnable delays, ours beside what the equation says: PyTorch's convolution of all taps."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from einops import rearrange
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from spikescr.model import DelaysConfig, build, readout
from spikescr.model.backends import Backend, install
from spikescr.model.delays import DelayedLinear

CONFIGS = {
    "DCLS 2L-256, 11 taps": DelaysConfig(),
    "DCLS 2L-256, 25 taps": DelaysConfig(taps=25),
    "axonal 2L-256, 11 taps": DelaysConfig(delays="axonal"),
}


class StockDelays(DelayedLinear):
    """Gaussians as a softmax over the taps, then PyTorch's convolution; autograd does the rest."""

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, in) to (T, B, out)."""
        tap = torch.arange(self.taps, dtype=x.dtype, device=x.device)
        centre = self.taps // 2 * (1 + self.position)
        share = torch.softmax(-0.5 * ((tap - centre[..., None]) / self.sigma) ** 2, dim=-1)
        kernel = (self.weight[..., None] * share).flip(-1)
        y = functional.conv1d(rearrange(x, "t b n -> b n t"), kernel, padding=self.taps // 2)
        return rearrange(y, "b n t -> t b n")


def compare(
    batch: int, rounds: int, backend: Backend, device: torch.device, seed: int
) -> tuple[Table, dict[str, dict[str, Any]]]:
    """A table and the figures of `measure` for every network, 40 steps."""
    table = Table(title=f"Learnable delays, T = 40, batch {batch}: medians")
    for column in ("network", "all taps ms", "ours ms", "speed-up", "gradients: float32 layer / float64 network"):
        table.add_column(column, justify="right")
    figures = {}
    for name, config in CONFIGS.items():
        found = figures[name] = measure(config, 40, batch, rounds, backend, device, seed)
        differences = found["layer_difference"], found["gradient_difference"]
        shown = "" if None in differences else " / ".join(f"{difference:.1e}" for difference in differences)
        times = (f"{1e3 * found[who]:.0f}" for who in ("stock_s", "ours_s"))
        table.add_row(name, *times, f"{found['speedup']:.2f}", shown)
    return table, figures


def measure(
    config: DelaysConfig, steps: int, batch: int, rounds: int, backend: Backend, device: torch.device, seed: int
) -> dict[str, Any]:
    """Medians of both, in turns, in seconds; the axonal network beside the stock one with a delay for each synapse.

    `gradient_difference` is in float64, the whole network's, each parameter's over its largest; `layer_difference` in
    float32, of one layer's weights and delays on spikes. None where the equations differ (axonal).
    """
    torch.manual_seed(seed)
    ours = build(config).train()
    plain = build(config.model_copy(update={"delays": "synaptic"})).train()
    if config.delays == "synaptic":
        plain.load_state_dict(ours.state_dict())
    for module in plain.modules():
        if isinstance(module, DelayedLinear):
            module.__class__ = StockDelays
    x = torch.randn(steps, batch, config.inputs, device=device)
    valid = torch.full((batch,), steps, device=device)
    labels = torch.randint(0, config.classes, (batch,), device=device)
    networks = {"stock": plain, "ours": ours}
    for network in networks.values():
        install(network.to(device), backend)

    def step(who: str, x: Tensor) -> float:
        torch.manual_seed(seed)
        network = networks[who]
        network.zero_grad()
        begin = time.perf_counter()
        functional.cross_entropy(readout(network(x, valid), valid), labels).backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - begin

    for who in [*networks] * 2:
        step(who, x)
    times = [{who: step(who, x) for who in networks} for _ in range(rounds)]
    medians = {f"{who}_s": statistics.median(time_[who] for time_ in times) for who in networks}
    result: dict[str, Any] = {"steps": steps, "batch": batch, **medians}
    result["speedup"] = statistics.median(time_["stock"] / time_["ours"] for time_ in times)
    result["gradient_difference"] = result["layer_difference"] = None
    if config.delays == "synaptic":
        result["layer_difference"] = _one_layer(config, steps, batch, device, seed)
        for who, network in networks.items():
            network.double()
            step(who, x.double())
        result["gradient_difference"] = _largest(ours, plain)
    return result


def _one_layer(config: DelaysConfig, steps: int, batch: int, device: torch.device, seed: int) -> float:
    torch.manual_seed(seed)
    layers = [kind(config.width, config.width, config.taps).to(device) for kind in (DelayedLinear, StockDelays)]
    layers[1].load_state_dict(layers[0].state_dict())
    spikes = (torch.rand(steps, batch, config.width, device=device) < 0.15).float()
    upstream = torch.randn(steps, batch, config.width, device=device)
    for layer in layers:
        (layer(spikes) * upstream).sum().backward()
    return _largest(*layers)


def _largest(found: torch.nn.Module, expected: torch.nn.Module) -> float:
    pairs = zip(found.parameters(), expected.parameters(), strict=True)
    differences = []
    for ours, theirs in pairs:
        assert ours.grad is not None
        assert theirs.grad is not None
        differences.append(float((ours.grad - theirs.grad).abs().max() / theirs.grad.abs().max()))
    return max(differences)
