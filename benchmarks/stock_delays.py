"""A step of training with learnable delays, ours beside what the equation says: PyTorch's convolution of all taps.

Gaussians narrow while a training goes on, until most of what they hold is subnormal numbers, with which products take
many times as long. So steps are timed at equal distances through a training, and their mean is what an epoch follows;
beside it the first (wide Gaussians) and the last, and the equation with far ends put to 0 as ours has them.
"""

from __future__ import annotations

import math
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
from spikescr.model.delays import FAINTEST, DelayedLinear
from spikescr.model.network import Network

CONFIGS = {
    "DCLS 2L-256, 11 taps": DelaysConfig(),
    "DCLS 2L-256, 25 taps": DelaysConfig(taps=25),
    "axonal 2L-256, 11 taps": DelaysConfig(delays="axonal"),
}
NETWORKS = ("stock", "cut", "ours")
PROGRESS = [(i + 0.5) / 8 for i in range(8)]
"""Shares of a training that are behind it when a step is timed."""


class StockDelays(DelayedLinear):
    """Gaussians as a softmax over the taps, then PyTorch's convolution; autograd does the rest."""

    faintest = -math.inf

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, in) to (T, B, out)."""
        tap = torch.arange(self.taps, dtype=x.dtype, device=x.device)
        centre = self.taps // 2 * (1 + self.position)
        exponent = -0.5 * ((tap - centre[..., None]) / self.sigma) ** 2
        share = torch.softmax(exponent.masked_fill(exponent < self.faintest, -math.inf), dim=-1)
        kernel = (self.weight[..., None] * share).flip(-1)
        y = functional.conv1d(rearrange(x, "t b n -> b n t"), kernel, padding=self.taps // 2)
        return rearrange(y, "b n t -> t b n")


class CutDelays(StockDelays):
    """The same with far ends of Gaussians put to 0."""

    faintest = FAINTEST


def compare(
    batch: int, rounds: int, backend: Backend, device: torch.device, seed: int
) -> tuple[Table, dict[str, dict[str, Any]]]:
    """A table and the figures of `measure` for every network, 40 steps."""
    table = Table(title=f"Learnable delays, T = 40, batch {batch}: medians in ms, at first / at last / on average")
    for column in ("network", "all taps", "ends put to 0", "ours", "speed-up", "with ends put to 0"):
        table.add_column(column, justify="right")
    table.add_column("gradients: float32 layer / float64 network", justify="right")
    figures = {}
    for name, config in CONFIGS.items():
        found = figures[name] = measure(config, 40, batch, rounds, backend, device, seed)
        differences = found["layer_difference"], found["gradient_difference"]
        shown = "" if None in differences else " / ".join(f"{difference:.1e}" for difference in differences)
        times = (
            f"{1e3 * found[f'{who}_first_s']:.0f} / {1e3 * found[f'{who}_last_s']:.0f} / {1e3 * found[f'{who}_s']:.0f}"
            for who in NETWORKS
        )
        table.add_row(name, *times, f"{found['speedup']:.2f}", f"{found['speedup_cut']:.2f}", shown)
    return table, figures


def measure(
    config: DelaysConfig, steps: int, batch: int, rounds: int, backend: Backend, device: torch.device, seed: int
) -> dict[str, Any]:
    """Medians of a step, in turns, in seconds; the axonal network beside those with a delay for each synapse.

    `stock_s`, `cut_s`, `ours_s` are means over a training, their ratios `speedup` and `speedup_cut`; `..._first_s` and
    `..._last_s` are at both ends of it. `gradient_difference` is in float64, the whole network's, each parameter's over
    its largest; `layer_difference` in float32, of one layer's weights and delays on spikes: the larger of both ends of
    a training. None where the equations differ (axonal).
    """
    torch.manual_seed(seed)
    networks = _networks(config)
    x = torch.randn(steps, batch, config.inputs, device=device)
    valid = torch.full((batch,), steps, device=device)
    labels = torch.randint(0, config.classes, (batch,), device=device)
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

    def anneal(progress: float) -> None:
        for network in networks.values():
            network.anneal(progress)

    medians: dict[str, list[float]] = {who: [] for who in NETWORKS}
    for progress in PROGRESS:
        anneal(progress)
        for who in NETWORKS:
            step(who, x)
        times = [{who: step(who, x) for who in NETWORKS} for _ in range(rounds)]
        for who in NETWORKS:
            medians[who].append(statistics.median(time_[who] for time_ in times))
    result: dict[str, Any] = {"steps": steps, "batch": batch}
    for who, found in medians.items():
        result |= {f"{who}_s": statistics.mean(found), f"{who}_first_s": found[0], f"{who}_last_s": found[-1]}
    result["speedup"] = result["stock_s"] / result["ours_s"]
    result["speedup_cut"] = result["cut_s"] / result["ours_s"]
    result["gradient_difference"] = result["layer_difference"] = None
    if config.delays == "synaptic":
        result["layer_difference"] = max(_one_layer(config, p, steps, batch, device, seed) for p in (0.0, 1.0))
        for network in networks.values():
            network.double()
        differences = []
        for progress in (0.0, 1.0):
            anneal(progress)
            for who in ("ours", "stock"):
                step(who, x.double())
            differences.append(_largest(networks["ours"], networks["stock"]))
        result["gradient_difference"] = max(differences)
    return result


def _networks(config: DelaysConfig) -> dict[str, Network]:
    networks = {"ours": build(config).train()}
    for who, kind in ("stock", StockDelays), ("cut", CutDelays):
        network = networks[who] = build(config.model_copy(update={"delays": "synaptic"})).train()
        if config.delays == "synaptic":
            network.load_state_dict(networks["ours"].state_dict())
        for module in network.modules():
            if isinstance(module, DelayedLinear):
                module.__class__ = kind
    return networks


def _one_layer(config: DelaysConfig, progress: float, steps: int, batch: int, device: torch.device, seed: int) -> float:
    torch.manual_seed(seed)
    layers = [kind(config.width, config.width, config.taps).to(device) for kind in (DelayedLinear, StockDelays)]
    layers[1].load_state_dict(layers[0].state_dict())
    for layer in layers:
        layer.anneal(progress)
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
