"""Random weights under which every neuron layer fires: batch statistics first, then layer by layer.

A layer that never fires would make any comparison of spikes pass. Batch normalisations take their statistics from a
batch; then the layer before each neuron is shifted (its bias, or its weights' scale where it has none) until the
neuron fires at `TARGET`. Where nothing before a neuron is its alone, its threshold is moved instead and reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.neuron import BaseNode
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from zoo_networks import LOOP, Entry

TARGET = 0.15
WITHIN = (0.08, 0.27)  # rates that are left as they are
FIRES, MOST = 0.03, 0.8  # a layer that shares what stands before it with another need not come nearer
PASSES, TRIES = 16, 4


@dataclass
class Firing:
    """How often each neuron layer fires, spikes per neuron and step; path -> new threshold where one was moved."""

    rates: dict[str, float] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)

    @property
    def lowest(self) -> tuple[str, float]:
        """The layer that fires least."""
        return min(self.rates.items(), key=lambda item: item[1])

    @property
    def silent(self) -> list[str]:
        """Layers without a single spike."""
        return [path for path, rate in self.rates.items() if rate == 0]


@dataclass
class _Seen:
    """One neuron layer in one pass: what arrived, what it fired, the last layer with weights that ran before it."""

    node: BaseNode
    before: nn.Module | None
    inputs: list[Tensor] = field(default_factory=list)
    fired: float = 0.0
    possible: int = 0

    @property
    def rate(self) -> float:
        return self.fired / self.possible

    def currents(self) -> Tensor:
        """(T, ...), single-step calls stacked."""
        return torch.cat(self.inputs) if self.node.step_mode == "m" else torch.stack(self.inputs)


@contextmanager
def _watched(net: nn.Module) -> Iterator[dict[str, _Seen]]:
    """What each neuron layer that runs sees, in the order of execution."""
    seen: dict[str, _Seen] = {}
    last: list[nn.Module | None] = [None]
    handles = []

    def passed(module: nn.Module, _: tuple[Tensor, ...], __: Tensor) -> None:
        last[0] = module

    def fired(path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, given: tuple[Tensor, ...], spikes: Tensor) -> None:
            assert isinstance(module, BaseNode)
            layer = seen.setdefault(path, _Seen(module, last[0]))
            layer.inputs.append(given[0].detach().clone())
            layer.fired += float(spikes.sum())
            layer.possible += spikes.numel()

        return hook

    for path, module in net.named_modules():
        if isinstance(module, BaseNode):
            handles.append(module.register_forward_hook(fired(path)))
        elif isinstance(module, _BatchNorm | _ConvNd | nn.Linear):
            handles.append(module.register_forward_hook(passed))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _solve(rate_of: Callable[[float], float], low: float, high: float, target: float) -> float:
    """Where a rate that does not fall from low to high passes the target, by halving."""
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (low, middle) if rate_of(middle) > target else (middle, high)
    return (low + high) / 2


def _rate(node: BaseNode, currents: Tensor, threshold: float | None = None) -> float:
    """Rate of a copy of this neuron on these currents (T, ...)."""
    copy = deepcopy(node)
    copy.step_mode = "s"  # OTTTLIFNode of SpikingJelly 2.0.0 fails in multi-step mode
    copy.reset()
    if threshold is not None:
        copy.v_threshold = threshold
    return sum(float(copy(current).mean()) for current in currents) / len(currents)


def _correct(layer: _Seen, target: float) -> None:
    """Changes what stands before a layer so that it fires at the target on what it has just seen."""
    before, node = layer.before, layer.node
    x = layer.currents()[:, :4]
    spread = float(x.std())
    threshold = float(node.v_threshold)
    if not isinstance(before, _BatchNorm) and before is not None and not 0.3 < spread / threshold < 3:
        gain = before.gain if hasattr(before, "gain") else before.weight  # weight standardisation has a gain apart
        assert isinstance(gain, Tensor)
        gain *= threshold / max(spread, 1e-6)
        return
    bias = None if before is None else before.bias
    if isinstance(bias, Tensor):
        reach = 4 * (spread + threshold) + abs(float(x.mean()))
        bias += _solve(lambda d: _rate(node, x + d), -reach, reach, target)
    elif before is not None:
        assert isinstance(before.weight, Tensor)
        before.weight *= _solve(lambda g: _rate(node, g * x), 0.0, 16.0, target)


def calibrate(net: nn.Module, run: Callable[[], object]) -> Firing:
    """Changes a network, in place, so that each neuron layer that runs fires.

    Args:
        net: In eval mode; its batch normalisations get random gains and the statistics of the batch.
        run: One pass of it over a batch.

    Returns:
        The rates in eval mode on that batch, of layers that ran.
    """
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    with torch.no_grad():
        for norm in norms:
            nn.init.uniform_(norm.weight, 0.6, 1.4)
            nn.init.uniform_(norm.bias, -0.2, 0.4)
        _shift_layers(net, run, norms)
        return _settle_thresholds(net, run)


def _shift_layers(net: nn.Module, run: Callable[[], object], norms: list[_BatchNorm]) -> None:
    tries: dict[str, int] = {}
    targets: dict[int, float] = {}
    momentum = [norm.momentum for norm in norms]
    for _ in range(PASSES):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all calls of this pass
            norm.train()
        with _watched(net) as seen:
            run()
        functional.reset_net(net)
        owners: dict[int, str] = {}
        changed = False
        for path, layer in seen.items():
            mine = owners.setdefault(id(layer.before), path) == path
            if tries.get(path, 0) >= TRIES:
                continue
            if mine and not WITHIN[0] <= layer.rate <= max(WITHIN[1], targets.get(id(layer.before), 0) + 0.1):
                _correct(layer, targets.get(id(layer.before), TARGET))
            elif not mine and layer.rate < FIRES:  # raise what it shares with the layer before it
                targets[id(layer.before)] = targets.get(id(layer.before), TARGET) * 1.3
                _correct(seen[owners[id(layer.before)]], targets[id(layer.before)])
            else:
                continue
            tries[path] = tries.get(path, 0) + 1
            changed = True
        if not changed:
            break
    for norm, before in zip(norms, momentum, strict=True):
        norm.momentum = before
        norm.eval()


def _settle_thresholds(net: nn.Module, run: Callable[[], object]) -> Firing:
    firing = Firing()
    for _ in range(PASSES):
        with _watched(net) as seen:
            run()
        functional.reset_net(net)
        firing.rates = {path: layer.rate for path, layer in seen.items()}
        off = (path for path, layer in seen.items() if not FIRES <= layer.rate <= MOST)
        path = next((path for path in off if path not in firing.thresholds), None)
        if path is None:
            break
        firing.thresholds[path] = seen[path].node.v_threshold = _threshold(seen[path].node, seen[path].currents())
    return firing


def _threshold(node: BaseNode, x: Tensor) -> float:
    """Under which a neuron fires at the target on these currents."""
    highest = 4 * max(float(x.max()), float(node.v_threshold))
    return highest - _solve(lambda d: _rate(node, x, highest - d), 0, highest, TARGET)


def run_over(net: nn.Module, x: Tensor, single_step: bool) -> Callable[[], object]:
    """One pass over x: a call for each of its steps, or one call."""

    def run() -> object:
        return [net(step) for step in x] if single_step else net(x)

    return run


@dataclass(frozen=True)
class Calibrated:
    """A network of the zoo in eval mode, the input that it was calibrated on, and how it fires there."""

    entry: Entry
    net: nn.Module
    x: Tensor
    firing: Firing


def calibrated(entry: Entry, samples: int = 4, seed: int = 0) -> Calibrated:
    """Draws a network of the zoo and its input, and calibrates it on all of that input."""
    net, x = entry.network(seed), entry.inputs(samples, seed + 1)
    return Calibrated(entry, net, x, calibrate(net, run_over(net, x, entry.time == LOOP)))
