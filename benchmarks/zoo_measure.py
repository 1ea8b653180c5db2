"""One network of the zoo from PyTorch to counts: exported, verified in both backends, charged, timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import nir
import numpy as np
import torch
import zoo_papers
from spikingjelly.activation_based import functional
from torch import nn
from zoo_calibration import Calibrated, calibrated, run_over
from zoo_networks import HELD, LOOP, Entry

import spikescr
from spikescr.errors import SpikescrError
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.feed import fit
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Program, Signal, Source

CONVENTIONS = ("executed", "spikingjelly", "neurobench", "syops", "paper")
DT = 1e-3  # seconds per step: none of the networks says
BATCHES, THREADS, AT_LEAST = (1, 4, 16), (1, 2), 0.5


@dataclass
class Row:
    """What is known of one network.

    Attributes:
        name: of the entry.
        origin: module of SpikingJelly that has it.
        exported: whether there is a graph of it.
        refused: what it was refused for.
        expected: what it should be refused for; empty where it should be exported.
        note: what was made smaller after construction.
        neuron_layers: that ran.
        lowest: the layer that fires least, and how often.
        silent: layers without a spike.
        thresholds: layers whose threshold was moved so that they fire.
        operations: of the lowered graph.
        neurons: of it.
        neuron_steps: compared, all samples.
        spikes: of PyTorch, compared.
        differing: spikes that differ between PyTorch in float64 and the graph.
        explained: those of them that a named cause corrects to 0.
        cause: it.
        backends: spikes and counts that differ between `fast` and Lava; None where Lava did not run.
        charged: convention -> AC, MAC and joules per sample.
        paper: joules per sample by the formula of the network's own paper, on the module; None where it prints none.
        seconds: step of the work -> seconds.
        speed: samples/s of `fast` in float64 and of SpikingJelly in float32, best batch and threads each.
    """

    name: str
    origin: str
    exported: bool = False
    refused: str = ""
    expected: str = ""
    note: str = ""
    neuron_layers: int = 0
    lowest: tuple[str, float] = ("", 0.0)
    silent: list[str] = field(default_factory=list)
    thresholds: list[str] = field(default_factory=list)
    operations: int = 0
    neurons: int = 0
    neuron_steps: int = 0
    spikes: int = 0
    differing: int = 0
    explained: int = 0
    cause: str = ""
    backends: tuple[int, int] | None = None
    charged: dict[str, dict[str, float]] = field(default_factory=dict)
    paper: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    speed: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Exported and the same spike for spike, all layers firing; or refused, as it should be."""
        if self.expected:
            return not self.exported
        same = self.differing == self.explained and self.backends in (None, (0, 0))
        return self.exported and same and not self.silent


def measure(entry: Entry, samples: int, *, lava: bool, speed: bool) -> Row:
    """All of it for one network.

    Args:
        entry: the network.
        samples: how many to run.
        lava: whether Lava runs too.
        speed: whether to time it.
    """
    row = Row(entry.name, entry.origin, expected=entry.refused, note=entry.note)
    zoo = _timed(row, "calibrate", lambda: calibrated(entry, samples))
    firing = zoo.firing
    row.neuron_layers, row.lowest = len(firing.rates), firing.lowest
    row.silent, row.thresholds = firing.silent, list(firing.thresholds)
    net, x = zoo.net.double(), zoo.x.double()
    try:
        graph = _timed(row, "export", lambda: spikescr.to_nir(net, x, time=entry.time, dt=DT))
    except SpikescrError as error:
        row.refused = str(error)
        return row
    row.exported = True
    told = _timed(row, "verify", lambda: spikescr.verify(net, graph, x, backend="fast"))
    row.neuron_steps = sum(layer.compared for layer in told.layers)
    row.spikes = sum(layer.spikes for layer in told.layers)
    row.differing, row.explained, row.cause = told.differing, told.explained, told.cause or ""
    given = x.numpy()
    run = _timed(row, "fast", lambda: spikescr.simulate(graph, given))
    row.operations, row.neurons = len(run.program.operations), sum(a.shape[-1] for a in run.spikes.values())
    for name in CONVENTIONS:
        if name in run.audit.conventions:
            ac, mac = (run.audit.charged(name).charges.sum(axis=0) / samples).tolist()
            row.charged[name] = {"ac": ac, "mac": mac, "joules": float(np.mean(run.audit.energy(name)))}
    if lava:
        both = _timed(row, "lava", lambda: spikescr.simulate(graph, given, backend="both"))
        row.backends = tuple(both.differing.tolist())
    if entry.origin in zoo_papers.PAPERS:
        row.paper = zoo_papers.evaluate(net, run_over(net, x, entry.time == LOOP), samples).joules
    if speed:
        row.speed = speeds(zoo, graph)
    return row


def _timed(row: Row, what: str, work: Callable[[], Any]) -> Any:
    begin = time.perf_counter()
    try:
        return work()
    finally:
        row.seconds[what] = time.perf_counter() - begin


def speeds(zoo: Calibrated, graph: nir.NIRGraph) -> dict[str, float]:
    """Samples/s, the best of some batch sizes: `fast` in float64 and SpikingJelly in float32, in turn in this process.

    Both from inputs in memory to outputs, built and warm, by the better of one and two threads; SpikingJelly in eval
    mode, without gradients.
    """
    program, fast, peer = lower(graph), 0.0, 0.0
    net = zoo.net.float()
    for batch in BATCHES:
        x = zoo.entry.inputs(batch)
        fast = max(fast, batch / _fast_seconds(program, x[None] if zoo.entry.time == HELD else x))
        peer = max(peer, batch / _peer_seconds(net, run_over(net, x, zoo.entry.time == LOOP)))
    net.double()
    return {"fast_float64": fast, "spikingjelly_float32": peer}


def _fast_seconds(program: Program, x: torch.Tensor) -> float:
    source = next(o for o in program.of_type(Source) if o.signal is not Signal.CLOCK)
    held = x.expand(program.steps, *x.shape[1:]) if len(x) == 1 else x
    steps = held.double().flatten(2).numpy()  # `fit` adds the steps that a look-ahead takes
    inputs, best = fit(program, {source.name: steps}, "x")[0], float("inf")
    for number in THREADS:
        with FastBackend(program, x.shape[1], record_spikes=False, threads=number) as fast:
            best = min(best, _seconds(partial(fast.run, inputs)))
    return best


def _peer_seconds(net: nn.Module, run: Callable[[], object]) -> float:
    def work() -> None:
        run()
        functional.reset_net(net)

    threads, best = torch.get_num_threads(), float("inf")
    try:
        for number in THREADS:
            torch.set_num_threads(number)
            best = min(best, _seconds(work))
    finally:
        torch.set_num_threads(threads)
    return best


def _seconds(work: Callable[[], object]) -> float:
    """Median of the seconds that it takes, warm, three times at least."""
    times: list[float] = []
    with torch.inference_mode():
        work()
        while len(times) < 3 or sum(times) < AT_LEAST:
            begin = time.perf_counter()
            work()
            times.append(time.perf_counter() - begin)
    return median(times)
