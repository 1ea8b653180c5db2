"""Norse: networks of its cells, exported by `norse.torch.to_nir`.

The exporter divides its step by the rates of a cell, tau = dt / tau_mem_inv, where NIR's seconds are 1 / tau_mem_inv
(Norse's own importer takes them so); IF gets r = 1 where a step takes in r dt, CubaLIF w_in = 1 where a step takes in
w_in dt / tau_syn. With dt = 1, time counted in steps, tau and IF come out right. It knows Linear, Conv2d (with bias)
and five cells; a Flatten, a pool and a recurrent cell become None.

The cells: v = v + dt tau_mem_inv (v_leak - v + x), spike where v > v_th, reset to v_reset; a LIFCell adds what arrives
to its current, x there is the current, which then decays by dt tau_syn_inv. Membranes start at v_leak, which is 0 here:
NIR says nothing of the first step, we start at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import nir
import norse.torch
import numpy as np
import torch
from torch import Tensor, nn

from frameworks.comparison import Case, changed, events
from frameworks.torch_peer import draw, fired, quiet

CELLS = (norse.torch.LIFBoxCell, norse.torch.LIFCell, norse.torch.IAFCell)


def constant(value: float, *shape: int) -> Tensor:
    """A parameter in float64, one for each neuron: nir cannot write a graph with a single number."""
    return torch.full(shape, value, dtype=torch.float64)


def box(rate: float, dt: float, *shape: int) -> nn.Module:
    """LIFs without a current; rate: 1 / tau_mem."""
    parameters = norse.torch.LIFBoxParameters(
        tau_mem_inv=constant(rate, *shape), v_th=constant(0.4, *shape), v_leak=constant(0.0, *shape)
    )
    return norse.torch.LIFBoxCell(parameters, dt=dt)


def integrate(threshold: float, *shape: int) -> nn.Module:
    """Integrate-and-fire neurons, time counted in steps."""
    return norse.torch.IAFCell(norse.torch.IAFParameters(v_th=constant(threshold, *shape)), dt=1.0)


def export(net: nn.Module, dt: float, *shape: int) -> nir.NIRGraph:
    """Their graph, without an axis of samples."""
    with quiet():
        return norse.torch.to_nir(net, torch.zeros(shape, dtype=torch.float64), dt=dt)


def case(graph: str, net: Any, x: Any, dt: float, **more: Any) -> Case:
    """Exports a network (SequentialState) and runs it."""
    exported = export(net, dt, *x.shape[2:])
    state: Any = None

    def step(frame: Tensor) -> None:
        nonlocal state
        _, state = net(frame, state)

    spikes = fired({str(i): m for i, m in enumerate(net) if isinstance(m, CELLS)}, x, step)
    return Case(graph, "Norse", version("norse"), "exported", exported, dt, x, spikes, **more)


def dense(dt: float, output: nn.Module) -> nn.Module:
    """Two dense layers; the first neurons lose a tenth per step."""
    layers = [nn.Linear(12, 40), box(0.1 / dt, dt, 40), nn.Linear(40, 10), output]
    return draw(norse.torch.SequentialState(*layers), 1, 2.0)


def feed_forward(steps: int, samples: int) -> Case:
    """Dense layers of LIFs and integrate-and-fire neurons, time counted in steps."""
    return case("feed-forward", dense(1.0, integrate(1.0, 10)), events(2, steps, samples, 12), 1.0)


def convolutional(steps: int, samples: int) -> Case:
    """2-D convolutions with stride and padding (pools and Flatten are not exported)."""
    net = norse.torch.SequentialState(
        nn.Conv2d(2, 4, 3, padding=1), box(0.2, 1.0, 4, 10, 8),
        nn.Conv2d(4, 6, 3, stride=(2, 1)), box(0.1, 1.0, 6, 4, 6),
        nn.Conv2d(6, 5, (4, 4)), integrate(4.0, 5, 1, 3),
    )  # fmt: skip
    return case("convolutional", draw(net, 3, 2.0), events(4, steps, samples, 2, 10, 8), 1.0)


def seconds(steps: int, samples: int) -> Case:
    """The same layers of LIFs in seconds: the exported constants are dt times what they should be."""
    dt = 1e-3
    made = case("constants in seconds", dense(dt, box(0.2 / dt, dt, 10)), events(2, steps, samples, 12), dt)

    def in_seconds(_name: str, node: nir.NIRNode) -> None:
        if isinstance(node, nir.LIF):
            node.tau = np.asarray(node.tau) / dt

    reason = "tau exported as dt / tau_mem_inv; with 1 / tau_mem_inv the same spikes"
    return Case(**{**vars(made), "reason": reason, "mended": changed(made.nir, in_seconds)})


def synaptic(steps: int, samples: int) -> Case:
    """LIFs with a synaptic current: w_in is exported as 1."""
    parameters = norse.torch.LIFParameters(*(constant(value, 10) for value in (0.25, 0.1, 0.0, 1.0)))
    made = case("synaptic currents", dense(1.0, norse.torch.LIFCell(parameters, dt=1.0)),
                events(2, steps, samples, 12), 1.0)  # fmt: skip

    def whole(_name: str, node: nir.NIRNode) -> None:
        if isinstance(node, nir.CubaLIF):
            node.w_in = np.asarray(node.tau_syn)  # over dt, which is 1

    reason = "w_in exported as 1, the cell takes in all that arrives; with w_in = tau_syn / dt the same spikes"
    return Case(**{**vars(made), "reason": reason, "mended": changed(made.nir, whole)})


CASES: dict[str, Callable[[int, int], Case]] = {f.__name__: f for f in (feed_forward, convolutional, seconds, synaptic)}
