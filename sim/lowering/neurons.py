"""NIR's neurons as operations: their differential equations over one step of dt.

Every neuron is at v = 0 (and I = 0) before the first step. In each step, in this order:

1. CubaLI, CubaLIF: the synaptic current takes in what arrives. tau_syn dI/dt = -I + w_in S:
   I = I * (1 - dt/tau_syn) + (w_in dt/tau_syn) * S.
2. The membrane takes in the current *of this step* (what arrives, or the I just computed), as Lava, snnTorch and
   SpikingJelly do; a spike can pass through a CubaLIF without a step of latency.
   LI, LIF, CubaLI, CubaLIF, tau dv/dt = (v_leak - v) + r I: v = v * (1 - dt/tau) + (r dt/tau) * I + v_leak dt/tau.
   I, IF, dv/dt = r I: v = v + (r dt) * I.
   Threshold: v is what arrives; it keeps nothing.
3. Neurons with a threshold compare: z = v > v_threshold, strictly. I, LI and CubaLI put out v.
4. Where z is 1, v = v_reset. With metadata `reset_mechanism` "subtract", of the node or else of the graph, or where the
   file does not say it and the caller does, v = v - v_threshold instead.

That is forward Euler, "euler". With "exponential" each equation is solved exactly for an input that is constant over
the step: 1 - dt/tau becomes exp(-dt/tau), and dt/tau where it weighs an input becomes 1 - exp(-dt/tau).
"""

from __future__ import annotations

from typing import Any, Literal

import nir
import numpy as np

from spikescr import dialect
from spikescr.errors import GraphError
from spikescr.schemas import brief
from spikescr.sim.lowering.fixed import fixed_neuron, is_fixed
from spikescr.sim.lowering.primitives import Carries, primitive
from spikescr.sim.lowering.shapes import Shape, spread
from spikescr.sim.program import FloatArray, Integrator, Neuron, Operation, Port, Signal

Integration = Literal["euler", "exponential"]
Reset = Literal["subtract", "zero"]


class Neurons:
    """Makes operations of neuron nodes; notes: what the user should know about them."""

    def __init__(
        self, dt: float, integration: Integration, graph_metadata: dict[str, Any], reset: Reset | None = None
    ) -> None:
        self.dt = dt
        self.reset = reset
        self.integration = integration
        self.metadata = graph_metadata
        self.fixed = is_fixed(graph_metadata)
        self.notes: list[str] = []

    def operations(self, node: nir.NIRNode, shape: Shape, x: Port, common: dict[str, Any]) -> list[Operation]:
        """The operations of one neuron node, the last of them under its name.

        Args:
            node: a neuron.
            shape: of its output; parameters are broadcast to it.
            x: what arrives.
            common: name, width, signal and latency.

        Raises:
            GraphError: a parameter or a reset that cannot be run.
        """
        name = common["name"]
        if self.fixed:
            if self.reset == "subtract":
                raise GraphError(
                    f"{name}: the graph is in fixed point, where neurons reset to 0; it cannot be run with subtract"
                )
            return [fixed_neuron(node, self.dt, x, common)]
        made: list[Operation] = []
        where = f"{name} ({type(node).__name__})"

        def parameter(field: str) -> FloatArray:
            return _parameter(name, field, getattr(node, field), shape)

        if primitive(node).states == 2:  # a synaptic current of its own
            decay, share = self._decay(name, "tau_syn", parameter("tau_syn"))
            current = Integrator(
                name=f"{name}.current", width=x.width, signal=Signal.VALUES, latency=common["latency"], x=x,
                decay=decay, gain=parameter("w_in") * share, drive=np.zeros(x.width), current=True,
            )  # fmt: skip
            made.append(current)
            x = Port((current.name,), x.width, Signal.VALUES)
        if isinstance(node, nir.Threshold):
            zero, threshold = np.zeros(x.width), parameter("threshold")
            made.append(Neuron(**common, x=x, decay=zero, gain=zero + 1, drive=zero, threshold=threshold, v_reset=zero))
            return made
        if isinstance(node, (nir.I, nir.IF)):
            decay, share, drive = np.ones(x.width), np.full(x.width, self.dt), np.zeros(x.width)
        else:
            field = "tau_mem" if made else "tau"
            decay, share = self._decay(name, field, parameter(field))
            drive = parameter("v_leak") * share
        fields: dict[str, Any] = {"decay": decay, "gain": parameter("r") * share, "drive": drive}
        if primitive(node).carries is Carries.VALUES:
            made.append(Integrator(**common, x=x, **fields))
            return made
        v_reset = parameter("v_reset")
        made.append(
            Neuron(
                **common,
                x=x,
                **fields,
                threshold=parameter("v_threshold"),
                v_reset=v_reset,
                soft=self._soft(where, node, v_reset),
            )
        )
        return made

    def _decay(self, name: str, field: str, tau: FloatArray) -> tuple[FloatArray, FloatArray]:
        """What is left of a state after a step, and the share of the input that it takes in."""
        if not (tau > 0).all():
            raise GraphError(f"{name}: {field} must be above 0, found {tau[~(tau > 0)][0]}")
        ratio = self.dt / tau
        if self.integration == "exponential":
            return np.exp(-ratio), -np.expm1(-ratio)
        if (ratio > 1).any():
            self.notes.append(
                f"{name}: {field} of {tau.min():g} s is shorter than the step of {self.dt:g} s: forward Euler "
                f"overshoots; take a shorter step, dt (--dt), or exponential integration (--integration)"
            )
        return 1.0 - ratio, ratio

    def _soft(self, where: str, node: nir.NIRNode, v_reset: FloatArray) -> bool:
        reset = node.metadata.get(dialect.RESET, self.metadata.get(dialect.RESET))
        said = f"metadata {dialect.RESET}"
        if reset not in (None, "subtract", "zero"):
            raise GraphError(f"{where}: {said} must be subtract or zero, not {brief(reset)}")
        if reset is None:
            reset, said = self.reset, "the reset that was asked for"
        elif self.reset not in (None, reset):
            raise GraphError(f"{where}: {said} is {reset}; it cannot be run with {self.reset}")
        if reset is not None and v_reset.any():
            raise GraphError(f"{where}: {said} is {reset}, but v_reset is {v_reset[v_reset != 0][0]}; one must go")
        return bool(reset == "subtract")


def _parameter(name: str, field: str, values: Any, shape: Shape) -> FloatArray:
    """Numbers for all neurons, (width,); a threshold may be endless."""
    array = np.asarray(values, np.float64)
    try:
        flat = spread(array, shape)
    except ValueError:
        raise GraphError(f"{name}: {field} has shape {array.shape}, the neurons {shape}") from None
    fit = ~np.isnan(flat) if field.endswith("threshold") else np.isfinite(flat)
    if not fit.all() and not field.startswith("tau"):
        raise GraphError(f"{name}: {field} must be a number, found {flat[~fit][0]}")
    return np.array(flat)
