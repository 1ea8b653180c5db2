"""What it takes to make a folded network one in integers, and doing it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from spikescr.dialect import REGISTER
from spikescr.errors import ExportError
from spikescr.model import LIF, Current, Masked, Network, SpikeSCR, TimeConv
from spikescr.model.blocks import SpikingGatedConvolution, SpikingSelfAttention
from spikescr.model.commander import SpikCommander
from spikescr.model.delays import Delayed
from spikescr.model.fixed import FixedCurrent, FixedHead, FixedLIF, FixedRecurrentLIF, FixedRotary, GroupScheme
from spikescr.model.layers import Spiking, SpikingLayer
from spikescr.model.recurrent import RecurrentLayer, RecurrentLIF

RECURRENT = ".recurrent"


@dataclass(frozen=True)
class Scheme:
    """Of every layer by name, and of the head: what one unit of its weights stands for, and their bits."""

    layers: Mapping[str, GroupScheme]
    head_scale: float
    head_bits: int


@dataclass(frozen=True)
class Group:
    """Synapses that feed one layer of neurons, a share of a Current's outputs or those among the neurons.

    Attributes:
        name: Of the layer; of synapses among its neurons with ".recurrent" behind it.
        current: What feeds the layer from outside.
        channels: First and last output + 1.
        neurons: Those among which the synapses are; None of synapses from outside.
    """

    name: str
    current: Current
    channels: tuple[int, int]
    neurons: RecurrentLIF | FixedRecurrentLIF | None = None

    @property
    def synapse(self) -> nn.Linear | TimeConv:
        """The synapses, of all channels."""
        return self.current.synapse if self.neurons is None else self.neurons.recurrent

    @property
    def layer(self) -> str:
        """Name of the group that feeds the same neurons from outside."""
        return self.name if self.neurons is None else self.name.removesuffix(RECURRENT)

    def parts(self) -> dict[str, Tensor]:
        """Weights and, where there are any, biases."""
        parts = {"weight": self.synapse.weight, "bias": self.synapse.bias}
        return {name: parameter for name, parameter in parts.items() if parameter is not None}


def groups(model: Network, *, folded: bool = True) -> Iterator[Group]:
    """The layers of a network that get a scheme, in order of the modules.

    Args:
        model: the network.
        folded: whether batch normalisation must be folded away.

    Raises:
        ExportError: the network has what Loihi's integers are not made for here; the message names it.
    """
    _require_supported(model, folded)
    for name, module in model.named_modules():
        if isinstance(module, SpikingLayer):
            yield Group(name, module.current, (0, len(module.current.synapse.weight)))
        elif isinstance(module, RecurrentLayer):
            channels = (0, len(module.current.synapse.weight))
            yield Group(name, module.current, channels)
            yield Group(name + RECURRENT, module.current, channels, module.lif)
        elif isinstance(module, SpikingGatedConvolution):
            outputs = len(module.split.synapse.weight)
            if not module.gating_unit:
                yield Group(f"{name}.value", module.split, (0, outputs))
            else:
                yield Group(f"{name}.value", module.split, (0, outputs // 2))
                yield Group(f"{name}.gate_in", module.split, (outputs // 2, outputs))


def _require_supported(model: Network, folded: bool) -> None:
    if isinstance(model, SpikCommander):
        raise ExportError(
            "model.family=spikcommander cannot be quantized: its attention sums over time in integrators, and in "
            "integers there are LIFs alone; train another family"
        )
    if model.config.neuron == "adaptive":
        raise ExportError(
            "model.neuron=adaptive cannot be quantized: the neuron in integers has one decay for a layer and no second "
            "state; train lif or parametric neurons of another family than adlif"
        )
    if isinstance(model, SpikeSCR) and model.position is not None:
        raise ExportError(
            f"model.position={model.config.position} adds real numbers to spikes, which integers do not carry; train "
            "with model.position=rotary or none"
        )
    for name, module in model.named_modules():
        if folded and isinstance(module, Current) and not isinstance(module.norm, Masked):
            raise ExportError(f"{name}: has batch normalisation; fold the model before quantizing it")


def attention_theta(head_width: int, steps: int) -> tuple[int, int]:
    """The integer by which Q (K^T V) is multiplied, a power of two, and the threshold 1 / s in its units.

    s = 1 / sqrt(D). Of the powers the largest for which no current can wrap: Q (K^T V) is at most D T. Where D is no
    square the threshold is rounded; see `attention_error`.
    """
    power = 2 ** max(0, math.floor(math.log2(REGISTER / (head_width * steps))))
    return power, round(power * math.sqrt(head_width))


def attention_error(head_width: int, steps: int) -> float:
    """By which share the attention's threshold is off for rounding; 0 where D is a square."""
    power, theta = attention_theta(head_width, steps)
    return theta / (power * math.sqrt(head_width)) - 1.0


def in_integers(folded: Network, scheme: Scheme, steps: int) -> Network:
    """A copy of a folded network whose layers are those of `spikescr.model.fixed`.

    Args:
        folded: in any precision; the copy has the same.
        scheme: of its layers.
        steps: T, the window; the attention's integers must hold what it can sum up.

    Raises:
        ExportError: the network cannot be quantized, or the scheme is of another one.
    """
    model = copy.deepcopy(folded)
    by_current: dict[Current, dict[str, GroupScheme]] = {}
    for group in groups(model):
        if group.name not in scheme.layers:
            raise ExportError(f"the scheme has no layer {group.name}; quantize again")
        by_current.setdefault(group.current, {})[group.name] = scheme.layers[group.name]
    for module in list(model.modules()):
        if isinstance(module, SpikingLayer):
            (layer,) = by_current[module.current].values()
            module.current = FixedCurrent(module.current, by_current[module.current])
            _neurons(module, layer.theta)
        elif isinstance(module, SpikingGatedConvolution):
            layers = by_current[module.split]
            module.split = FixedCurrent(module.split, layers)
            value, *gate_in = layers.values()
            _neurons(module.gated, value.theta)
            if gate_in:
                _neurons(module.gate_in, gate_in[0].theta)
        elif isinstance(module, RecurrentLayer):
            layer, among = by_current[module.current].values()
            module.current = FixedCurrent(module.current, {"": layer})
            assert isinstance(module.lif, RecurrentLIF)
            module.lif = FixedRecurrentLIF(module.lif, layer.theta, among)
        elif isinstance(module, SpikingSelfAttention):
            _attention(module, steps)
        elif isinstance(module, Delayed):
            module.settle()
    model.head = FixedHead(model.head, scheme.head_scale, scheme.head_bits)
    for module in model.modules():
        if isinstance(module, LIF) and not isinstance(module, FixedLIF):
            raise AssertionError("a layer of neurons was left in real numbers")
    return model


def _attention(module: SpikingSelfAttention, steps: int) -> None:
    width = len(module.q.current.synapse.weight) // module.heads
    if module.rotary is not None:
        module.rotary = FixedRotary(width)
        _neurons(module.q_rotated, FixedRotary.theta)
        _neurons(module.k_rotated, FixedRotary.theta)
    module.scale, theta = attention_theta(width, steps)
    _neurons(module.attention, theta)


def _neurons(layer: Spiking, theta: int) -> None:
    layer.lif = FixedLIF(theta, layer.lif.decay)
