"""Which modules are neurons, and their equations: h = decay v + gain x + drive (`step.NeuronEquation`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spikingjelly.activation_based import neuron
from spikingjelly.activation_based.model import spike_dhs
from torch import nn

from spikescr.export.record.step import NeuronEquation
from spikescr.model.neuron import LIF
from spikescr.model.parametric import ParametricLIF


class RefusedNeuronError(Exception):
    """Why a neuron's equation is none that NIR states; what would help."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


def is_neuron(module: nn.Module) -> bool:
    """Whether a module is known, or refused, as a whole."""
    bases = (neuron.BaseNode, neuron.SimpleBaseNode, neuron.NonSpikingBaseNode)
    kinds = (type(module), *type(module).__mro__)
    return isinstance(module, bases) or any(
        kind.__module__.startswith("spikingjelly.activation_based.neuron.") for kind in kinds
    )


def equation_of(module: nn.Module) -> NeuronEquation:
    """The constants of a spiking neuron.

    Raises:
        RefusedNeuronError: It is none of those known.
    """
    kind = type(module)
    known = _known(kind)
    if known is None:
        reason = _REFUSED.get(
            kind.__name__, "its equation is not one of those known (IF, LIF, parametric LIF, CubaLIF)"
        )
        raise RefusedNeuronError(reason, "train with IFNode, LIFNode, ParametricLIFNode or CUBALIFNode")
    if not getattr(module.surrogate_function, "spiking", True):
        raise RefusedNeuronError("its surrogate has spiking=False: it puts out no spikes", "surrogate.X(spiking=True)")
    return _EQUATIONS[known](module)


_OVERRIDES = (
    "forward",
    "single_step_forward",
    "multi_step_forward",
    "single_step_functional_forward",
    "multi_step_functional_forward",
    "functional_forward",
    "materialize_states",
    "neuronal_charge",
    "neuronal_fire",
    "neuronal_reset",
    "__call__",
)


def _known(kind: type) -> type | None:
    """The known class that a class computes as: its own, or a base of which it overrides nothing that computes."""
    for base in kind.__mro__:
        if base in _EQUATIONS:
            same = all(getattr(kind, name, None) is getattr(base, name, None) for name in _OVERRIDES)
            return base if same else None
    return None


def _hard(module: Any) -> float | None:
    return None if module.v_reset is None else float(module.v_reset)


def _integrate(module: Any) -> NeuronEquation:
    initial = 0.0 if isinstance(module, neuron.SimpleBaseNode) else (_hard(module) or 0.0)
    return _equation(module, 1.0, 1.0, initial=initial)


def _half(module: Any) -> NeuronEquation:
    return _equation(module, 1.0, 1.0, initial=module.v_threshold / 2.0)


def _leaky(module: Any) -> NeuronEquation:
    """v + (x - (v - rest)) / tau, or v - (v - rest) / tau + x where the input does not decay."""
    return _decaying(module, 1.0 / float(module.tau))


def _parametric(module: Any) -> NeuronEquation:
    return _decaying(module, float(module.w.detach().sigmoid()))


def _decaying(module: Any, rate: float) -> NeuronEquation:
    rest = _hard(module) or 0.0
    initial = 0.0 if isinstance(module, neuron.SimpleBaseNode) else rest
    return _equation(module, 1.0 - rate, rate if module.decay_input else 1.0, drive=rest * rate, initial=initial)


def _ours(module: Any) -> NeuronEquation:
    return _equation(module, module.decay, 1.0)


def _current_based(module: Any) -> NeuronEquation:
    initial = _hard(module) or 0.0
    return _equation(module, float(module.v_decay), 1.0, initial=initial, current_decay=float(module.c_decay))


def _equation(
    module: Any, decay: float, gain: float, drive: float = 0.0, initial: float = 0.0, current_decay: float | None = None
) -> NeuronEquation:
    name, threshold = type(module).__name__, float(module.v_threshold)
    return NeuronEquation(name, decay, gain, threshold, _hard(module), drive, initial, current_decay)


_EQUATIONS: dict[type, Callable[[Any], NeuronEquation]] = {
    neuron.IFNode: _integrate,
    neuron.SimpleIFNode: _integrate,
    neuron.HalfThresholdIFNode: _half,
    neuron.LIFNode: _leaky,
    neuron.SimpleLIFNode: _leaky,
    neuron.OTTTLIFNode: _leaky,
    neuron.SLTTLIFNode: _leaky,
    spike_dhs.save_v_LIFNode: _leaky,
    neuron.ParametricLIFNode: _parametric,
    neuron.CUBALIFNode: _current_based,
    LIF: _ours,
    ParametricLIF: _ours,
}
_REFUSED = {
    "KLIFNode": "it clips its membrane at 0 (a ReLU), which no neuron of NIR does",
    "QIFNode": "its membrane grows with its square",
    "EIFNode": "its membrane grows exponentially",
    "IzhikevichNode": "it has a second, nonlinear state",
    "PSN": "it multiplies all steps with a matrix: no step is alone",
    "MaskedPSN": "it multiplies steps with a matrix: it has no membrane",
    "SlidingPSN": "it weighs the last steps: it has no membrane",
    "GatedLIFNode": "its constants differ from step to step",
    "ComplementaryLIFNode": "it has a second, nonlinear state",
    "ILIFNode": "its spikes are graded",
    "LIAFNode": "it puts out a function of its membrane, not spikes",
    "TernaryIFNode": "its spikes are -1, 0 and 1",
    "TernaryLIFNode": "its spikes are -1, 0 and 1",
    "NonSpikingIFNode": "it puts out its membrane, not spikes",
    "NonSpikingLIFNode": "it puts out its membrane, not spikes",
}
