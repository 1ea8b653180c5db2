"""One training step, side by side: ours against the same network with SpikingJelly's stock LIF loop.

    python benchmarks/training.py [--device cpu|cuda] [--quick] [--json FILE]

Both are built from the same weights, get the same batch of full-length recordings and take turns in one process, so
that a drift of the machine's speed touches both; medians, and the median of the ratios of pairs. The stock network is
plain PyTorch around `LIFNode(step_mode="m")` and its loop over steps. Spikes and gradients are compared in every neuron
layer: in the whole network in float64; in float32 layer by layer, on the currents of the stock network, for products
that sum in another order differ in the last bit. Shares are of the time of one step under the profiler, which tells
the parts but for stock neurons, made of common operations: a clock around them does. Ours fire, normalise and drop out
in one go; their dropout, and what applies a normalisation going forward, count as neurons. "floor" is what the products
and the bytes that must move take at the rates that this machine reaches by itself (training_floor).

Networks with learnable delays stand beside the same network with a convolution of all taps by PyTorch.

On CUDA there are two more: the stock network with the kernels that SpikingJelly has there, and ours with our loop in
place of the kernels that a training would choose. Idle: no kernel runs.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

# Before torch, see there.
import spikescr  # noqa: F401  # isort: skip
import click
import stock_delays
import torch
from rich.console import Console
from rich.table import Table
from spikingjelly.activation_based import functional as sj
from spikingjelly.activation_based import neuron
from stock_network import StockSpiking, device_of, stock
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile, record_function
from training_floor import floor

from spikescr.files import write_text
from spikescr.model import ModelConfig, SequenceBatchNorm, SpikeSCR, kernels, readout
from spikescr.model.backends import Backend, install, pick
from spikescr.model.layers import Spiking
from spikescr.training.devices import Devices
from spikescr.training.memory import keep_freed_memory

BATCH = 64
CONFIGS = {
    "1L-8-128": ModelConfig(dropout=0.1),
    "1L-16-256": ModelConfig(heads=16, width=256, mlp_ratio=4, classes=35, dropout=0.1),
}
KEYS = {("1L-8-128", 100): "step_speedup_T100", ("1L-16-256", 100): "step_speedup_T100_wide"}
PARTS = {
    "neurons": ("Fire", "fire_", "sj_lif"),
    "matrix products": ("mm", "linear", "Product", "_product", "_weight", "convolution", "Depthwise", "depthwise"),
    "normalisation": ("batch_norm", "Normalise", "moments", "affine"),
}


def network(
    config: ModelConfig, steps: int, seed: int, backend: Backend, device: torch.device
) -> tuple[SpikeSCR, Tensor, Tensor, Tensor]:
    """A network whose layers fire as trained ones do, and a batch: x (T, B, C), valid steps (B,), labels (B,)."""
    SpikeSCR.multiple = 1  # the stock network does not know padded steps from others
    torch.manual_seed(seed)
    model = SpikeSCR(config).train()
    for norm in model.modules():
        if isinstance(norm, SequenceBatchNorm):
            nn.init.uniform_(norm.weight, 0.6, 1.4)
            nn.init.uniform_(norm.bias, 0.0, 0.6)
    x = torch.randn(steps, BATCH, config.inputs)
    batch = x, torch.full((BATCH,), steps), torch.randint(0, config.classes, (BATCH,))
    install(model.to(device), backend)
    x, valid, labels = (tensor.to(device) for tensor in batch)
    return model, x, valid, labels


def loss_of(model: SpikeSCR, x: Tensor, valid: Tensor, labels: Tensor) -> Tensor:
    """The training loss."""
    return functional.cross_entropy(readout(model(x, valid), valid), labels)


def our_loop(model: SpikeSCR) -> SpikeSCR:
    """A copy of our network whose neurons go step by step."""
    copy = SpikeSCR(model.config).train()
    copy.load_state_dict(model.state_dict())
    return copy.to(device_of(model))


class NeuronClock:
    """Seconds that the stock neurons of a network take in the step inside `with`, forward and backward.

    Autograd goes back in the order of creation, so that nothing else runs between a neuron's last step and its first.
    """

    def __init__(self, model: nn.Module) -> None:
        self.neurons = [module for module in model.modules() if isinstance(module, neuron.LIFNode)]
        self.seconds = 0.0

    def _start(self, *_: object) -> None:
        self.seconds -= time.perf_counter()

    def _stop(self, *_: object) -> None:
        self.seconds += time.perf_counter()

    def __enter__(self) -> Self:
        self.hooks = [
            hook
            for lif in self.neurons
            for hook in (
                lif.register_forward_pre_hook(self._start),
                lif.register_forward_hook(self._stop),
                lif.register_full_backward_pre_hook(self._start),
                lif.register_full_backward_hook(self._stop),
            )
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()


class Step:
    """A training step of one network."""

    def __init__(self, model: SpikeSCR, x: Tensor, valid: Tensor, labels: Tensor) -> None:
        self.model = model
        self.device = x.device
        self.batch = x, valid, labels
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=True)

    def __call__(self) -> None:
        """Forward, backward, optimiser."""
        torch.manual_seed(0)
        self.optimizer.zero_grad()
        loss_of(self.model, *self.batch).backward()
        self.optimizer.step()

    def seconds(self) -> float:
        """How long it takes."""
        begin = now(self.device)
        self()
        return now(self.device) - begin

    def shares(self) -> dict[str, float]:
        """Share of time per part."""
        times = dict.fromkeys([*PARTS, "attention", "other"], 0.0)
        if self.device.type == "cuda":
            return self._device_shares(times)
        run = kernels.run

        def told(kernel: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            with record_function(kernel.__name__):
                return run(kernel, *arguments, **options)

        with (
            patch.object(kernels, "run", told),
            NeuronClock(self.model) as neurons,
            profile(activities=[ProfilerActivity.CPU]) as found,
        ):
            total = self.seconds()
        for event in found.key_averages():
            if part := part_of(event.key):
                times[part] += 1e-6 * event.self_cpu_time_total
        if neurons.seconds:  # the clock has seen what the profiler knows of stock neurons, too
            times["neurons"] = neurons.seconds
        times["other"] = total - sum(times.values())
        return {part: spent / total for part, spent in times.items()}

    def _device_shares(self, times: dict[str, float]) -> dict[str, float]:
        """The same of kernels, by the operation that started each or one around it, over the time of a step."""
        total = 1e6 * min(self.seconds() for _ in range(3))
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
            self.seconds()
        for event in found.events():
            if event.device_type == DeviceType.CPU and event.self_device_time_total:
                around = event
                while around is not None and part_of(around.name) is None:
                    around = around.cpu_parent
                times["other" if around is None else part_of(around.name) or "other"] += event.self_device_time_total
        times["idle"] = max(0.0, total - sum(times.values()))
        return {part: spent / total for part, spent in times.items()}


def part_of(operation: str) -> str | None:
    """The part of a training step that an operation belongs to, None where its name does not tell."""
    if "bmm" in operation:
        return "attention"
    return next((part for part, names in PARTS.items() if any(name in operation for name in names)), None)


def now(device: torch.device) -> float:
    """Seconds, once all that a device was given is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected."""
    return float((found - expected).abs().max() / expected.abs().max())


def layer_by_layer(model: SpikeSCR, batch: tuple[Tensor, Tensor, Tensor], backend: Backend) -> tuple[int, float, float]:
    """Our neurons on the currents and upstream gradients of the stock network's, in float32.

    Returns:
        Differing spikes; largest relative difference of a layer's gradient; lowest firing rate of a layer.
    """
    plain = stock(model)
    kept: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], spikes: Tensor) -> None:
            inputs[0].retain_grad()
            spikes.retain_grad()
            kept[name] = inputs[0], spikes

        return hook

    for name, module in plain.named_modules():
        if isinstance(module, neuron.LIFNode):
            module.register_forward_hook(keep(name))
    torch.manual_seed(0)
    loss_of(plain, *batch).backward()
    differing, worst, rate = 0, 0.0, 1.0
    for current, spikes in kept.values():
        x = current.detach().clone().requires_grad_()
        spiking = Spiking(0.0)
        install(spiking, backend)
        found = spiking(x, torch.ones_like(x[..., :1]))
        found.backward(spikes.grad)
        assert x.grad is not None
        assert current.grad is not None
        differing += int((found != spikes).sum())
        rate = min(rate, float(spikes.detach().mean()))
        worst = max(worst, relative(x.grad, current.grad))
    return differing, worst, rate


def whole_network(model: SpikeSCR, batch: tuple[Tensor, Tensor, Tensor], backend: Backend) -> tuple[int, float]:
    """Both networks in float64: differing spikes, and the largest relative difference of a parameter's gradient."""
    x, valid, labels = batch
    found: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
    for network in (SpikeSCR(model.config), stock(model)):
        install(network, backend)
        network.load_state_dict(model.state_dict())
        network.to(x.device).double().train()
        sj.reset_net(network)
        spikes: dict[str, Tensor] = {}
        for name, module in network.named_modules():
            if isinstance(module, Spiking | StockSpiking):
                module.register_forward_hook(lambda _m, _i, out, name=name, to=spikes: to.update({name: out.detach()}))
        torch.manual_seed(0)
        loss_of(network, x.double(), valid, labels).backward()
        gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        found.append((spikes, gradients))
    (spikes, gradients), (plain_spikes, plain_gradients) = found
    differing = sum(int((s != plain_spikes[name]).sum()) for name, s in spikes.items())
    largest = max(float(g.abs().max()) for g in plain_gradients.values())
    worst = max(
        float((gradients[name] - g).abs().max() / max(float(g.abs().max()), 1e-4 * largest))
        for name, g in plain_gradients.items()
    )
    return differing, worst


def _tables(title: str, cuda: bool) -> tuple[Table, Table]:
    table = Table(title=title)
    others = ("stock kernels ms", "our loop ms") if cuda else ()
    for column in (
        "network",
        "T",
        "stock ms",
        *others,
        "ours ms",
        "speed-up",
        "floor ms",
        "over it",
        "spikes differ",
        "gradients",
        "rate",
    ):
        table.add_column(column, justify="right")
    shares = Table(title="Share of time per part")
    for column in ("network", "T", "", *PARTS, "attention", "other", *(("idle",) if cuda else ())):
        shares.add_column(column, justify="right")
    return table, shares


@click.command()
@click.option("--device", "kind", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--quick", is_flag=True, help="Fewer rounds, no T = 500.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to this file.")
@click.option("--threads", type=int, help="Of torch. Default: as torch chooses.")
@click.option("--seed", type=int, default=0, show_default=True)
def main(kind: str, quick: bool, file: Path | None, threads: int | None, seed: int) -> None:
    """Measure a training step against SpikingJelly's stock LIF loop."""
    if threads is not None:
        torch.set_num_threads(threads)
    cuda = kind == "cuda"
    device = Devices().device if cuda else torch.device("cpu")
    if not cuda:
        keep_freed_memory()  # as a training does; the stock network gains, too
    backend = pick(device)
    where = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} threads"
    table, shares = _tables(f"Training step, batch {BATCH}, {where}, by {backend.name}: medians", cuda)
    result: dict[str, Any] = {"rows": []}
    for name, config in CONFIGS.items():
        for steps in (40, 100) if quick else (40, 100, 500):
            model, *batch = network(config, steps, seed, backend, device)
            differing, gradients, rate = layer_by_layer(model, (batch[0], batch[1], batch[2]), backend)
            whole = whole_network(model, (batch[0][:40], batch[1].clamp(max=40), batch[2]), backend)
            contenders = {"stock": stock(model), "ours": model}
            if cuda:
                contenders |= {"stock kernels": stock(model, loop=False), "our loop": our_loop(model)}
            taken = {who: Step(contender, *batch) for who, contender in contenders.items()}
            for step in [*taken.values()] * 2:
                step()
            count = 3 if quick else 5 if steps == 500 or cuda else 15
            rounds = [{who: step.seconds() for who, step in taken.items()} for _ in range(count)]
            medians = {who: statistics.median(round_[who] for round_ in rounds) for who in taken}
            speedup = statistics.median(round_["stock"] / round_["ours"] for round_ in rounds)
            shown = "stock kernels" if cuda else "stock"
            least = floor(taken["stock"].model, taken["stock"], steps * BATCH, config.width, device)
            row = {
                "network": name,
                "steps": steps,
                "stock_s": medians["stock"],
                "ours_s": medians["ours"],
                "speedup": speedup,
                "floor_s": least.seconds,
                "ours_over_floor": medians["ours"] / least.seconds,
                "macs_per_s": least.macs_per_s,
                "copy_bytes_per_s": least.bytes_per_s,
                "differing_spikes": differing,
                "gradient_difference": gradients,
                "lowest_rate": rate,
                "float64_network": {"differing_spikes": whole[0], "gradient_difference": whole[1]},
                "shares": {who: taken[who].shares() for who in (shown, "ours")},
            }
            if cuda:
                row |= {"stock_kernels_s": medians["stock kernels"], "our_loop_s": medians["our loop"]}
            result["rows"].append(row)
            if (name, steps) in KEYS:
                result[KEYS[name, steps]] = speedup
            order = ("stock", "stock kernels", "our loop", "ours") if cuda else ("stock", "ours")
            milliseconds = [f"{1e3 * medians[who]:.{1 if cuda else 0}f}" for who in order]
            differences = f"{differing} / {whole[0]}", f"{gradients:.1e} / {whole[1]:.1e}"
            least_shown = f"{1e3 * least.seconds:.0f}", f"{medians['ours'] / least.seconds:.2f}"
            table.add_row(name, str(steps), *milliseconds, f"{speedup:.2f}", *least_shown, *differences, f"{rate:.1%}")
            for who, parts in row["shares"].items():
                shares.add_row(name, str(steps), who, *(f"{share:.0%}" for share in parts.values()))
    delays, result["delays"] = stock_delays.compare(BATCH, 3 if quick else 9, backend, device, seed)
    console = Console(width=150)
    console.print(
        table, "differences: per neuron layer in float32 / whole network in float64, 40 steps", shares, delays
    )
    if file is not None:
        from spikescr.provenance import versions

        load = os.getloadavg()[0]
        result |= {"threads": torch.get_num_threads(), "cores": os.cpu_count(), "load": load, "seed": seed}
        result |= {"device": where if cuda else "cpu", "neurons": backend.name}
        result["versions"] = versions("spikescr", "torch", "spikingjelly", "numba")
        write_text(file, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
