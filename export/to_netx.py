"""lava-dl's network description (netx, HDF5): chains of spiking layers in Loihi's fixed point.

A layer's numbers are multiples of 1/M of its threshold. M is chosen layer by layer: the graph's own threshold where
its numbers are Loihi's already; or else the smallest that holds weights and biases exactly, doubled as often as all
fits; or else the largest for which all fit:

    weights   8 bits: even numbers to +-254 where signs are mixed, 0..255 where none is negative
    bias      13 bits, +-4095 (bias mantissa; netx fixes its exponent at 6)
    threshold 17 bits: mantissa M, Loihi fires on v > 64 M as NIR does above its threshold. M - 1 where neurons fire
              when they meet it (thresholds one float below a round number): v = 64 M fires, and so does v that lacks
              less than 1/M of the threshold
    input     a neuron's largest possible sum of weights stays in the 16 bits of its accumulator
    decays    12 bits, 4096 is a full decay: current 4096 where there is no synaptic current

u and v are integers: u = u (4096 - iDecay) / 4096 + 64 sum, v = v (4096 - vDecay) / 4096 + u + 64 bias, each product
truncated towards zero. netx has no clock and no zero-delay layer: a layer puts out one step after it takes in.
`QuantizedLayer.losses` says what the registers do not hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from spikescr.errors import ExportError
from spikescr.export.chain import Chain
from spikescr.export.layers import SpikingLayer
from spikescr.export.registers import EXACT, is_whole, smallest_scale
from spikescr.files import in_memory, write_bytes

IntArray = NDArray[np.int64]
UNITY = 4096  # of the decays
LARGEST_BIAS = 4095
LARGEST_THRESHOLD = 2**17 - 1
ACCUMULATOR = 2**15 - 1
CURRENT = 2**17 - 1  # |u| / 64, u has 24 bits with sign
LONGEST_DELAY = 62  # netx clips what is longer
FRACTION = 64  # of a weight unit, the smallest step of u and v
LOWEST = (2**23 - 1) // FRACTION  # units below 0 at which a membrane is cut
OWN_FROM = 4  # units per threshold; with fewer, truncation takes more than 1/256 of it in a step


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer as the file holds it.

    Attributes:
        layer: what it was made of.
        units: M, weight units per threshold.
        weight: as `layer.weight`.
        bias: as `layer.bias`.
        current_decay: of 4096.
        voltage_decay: of 4096.
        exponent: what netx makes of the weights when it loads them, shifting them to use the bits of a synapse.
        error: largest rounding error of a weight, in thresholds.
        zeroed: weights rounded to 0.
    """

    layer: SpikingLayer
    units: int
    weight: IntArray
    bias: IntArray
    current_decay: int
    voltage_decay: int
    exponent: int
    error: float
    zeroed: int

    @property
    def threshold(self) -> int:
        """Threshold mantissa: the neuron fires where v > 64 threshold."""
        return self.units - self.layer.meets

    @property
    def signed(self) -> bool:
        """Whether the sign is one of the weights' bits."""
        return bool(self.layer.weight.min() < 0)

    def losses(self) -> list[str]:
        """What the registers do not hold of the layer, and by how much; membranes and weights in thresholds."""
        layer, lost = self.layer, []
        if self.error > _noise(layer.weight):
            some = f", {self.zeroed} of {np.count_nonzero(layer.weight)} rounded to 0" if self.zeroed else ""
            lost.append(f"weights are off by up to {self.error:.2g}{some}")
        off = float(np.abs(self.bias / self.units - layer.bias).max())
        if off > _noise(layer.bias):
            lost.append(f"biases are off by up to {off:.2g} a step")
        for name, register, decay in (
            ("currents", self.current_decay, layer.current_decay),
            ("membranes", self.voltage_decay, layer.voltage_decay),
        ):
            if abs(register / UNITY - decay) > 1e-9:
                lost.append(f"{name} decay by {register}/{UNITY} a step for {decay:.6g}")
        return lost + self._truncation() + self._thresholds()

    def _truncation(self) -> list[str]:
        """Less than 1/64 unit in each product by a decay that is no whole number; it builds up in what decays."""
        in_current = 0.0 if self.current_decay == UNITY else UNITY / self.current_decay
        in_membrane = in_current + (self.voltage_decay not in (0, UNITY))
        lost = []
        if in_membrane:
            each = in_membrane / (FRACTION * self.units)
            if self.voltage_decay:
                lost.append(f"truncation takes less than {each * UNITY / self.voltage_decay:.2g} from a membrane")
            else:
                lost.append(f"truncation takes less than {each:.2g} from a membrane in each step")
            if self.layer.meets:
                lost.append(f"a membrane that lacks less than {1 / self.units:.2g} fires")
        return lost

    def _thresholds(self) -> list[str]:
        lost = []
        if self.layer.apart:
            said = "fire where they meet" if self.layer.meets else "do not fire where they only meet"
            lost.append(f"all {said} the threshold, {self.layer.apart} of {np.prod(self.layer.shape)} should not")
        rows = np.minimum(self.weight, 0).reshape(len(self.weight), -1).sum(axis=1)
        down = -(rows * UNITY / self.current_decay + self.bias).min()
        if down > LOWEST * self.voltage_decay / UNITY:
            lost.append(f"membranes are cut at -{LOWEST / self.units:.3g}")
        return lost


def quantize(layer: SpikingLayer) -> QuantizedLayer:
    """The layer in Loihi's numbers.

    Raises:
        ExportError: nothing but zeros would be left, or a weight is larger than 254 thresholds.
    """
    weight, bias = layer.weight, layer.bias
    if not np.any(weight):
        raise ExportError(f"{layer.name}: all its weights are 0")
    if layer.delay is not None and layer.delay.max() > LONGEST_DELAY:
        raise ExportError(f"{layer.name}: a delay of {layer.delay.max()} steps; netx holds at most {LONGEST_DELAY}")
    step, largest = (2, 254) if weight.min() < 0 else (1, 255)
    current, voltage = (int(np.rint(UNITY * decay)) for decay in (layer.current_decay, layer.voltage_decay))
    if current == 0:
        raise ExportError(f"{layer.name}: its current decays by less than 1/{2 * UNITY} in a step")
    bound = min(ACCUMULATOR, CURRENT * current // UNITY)
    limits = [largest / np.abs(weight).max(), bound / _worst(weight), float(LARGEST_THRESHOLD + layer.meets)]
    if np.any(bias):
        limits.append(LARGEST_BIAS / np.abs(bias).max())
    units = int(min(limits) * (1 + 1e-9))
    if units < 1:
        raise ExportError(
            f"{layer.name}: weights or biases reach {max(np.abs(weight).max(), np.abs(bias).max()):.3g} thresholds, "
            f"inputs together {_worst(weight):.3g}: too much for netx"
        )
    units = _exact_units(layer, units, step) or units
    # Rounding may add up: at most half a step for each synapse of a neuron.
    while units > 0 and _worst(_rounded(weight, units, step)) > bound:
        units -= 1
    whole = _rounded(weight, units, step)
    if not np.any(whole):
        raise ExportError(
            f"{layer.name}: its weights reach {np.abs(weight).max():.2g} thresholds, gain of the neurons and dt in it: "
            f"less than half of {step / max(units, 1):.2g}, the smallest weight here, so all would be rounded to 0; a "
            f"larger dt, r or w_in, or a lower threshold, makes them larger"
        )
    return QuantizedLayer(
        layer=layer,
        units=units,
        weight=whole,
        bias=np.rint(bias * units).astype(np.int64),
        current_decay=current,
        voltage_decay=voltage,
        exponent=0 if layer.convolution else _exponent(whole),
        error=float(np.abs(whole / units - weight).max()),
        zeroed=int(np.sum((whole == 0) & (weight != 0))),
    )


def write_netx(path: Path, chain: Chain, layers: tuple[QuantizedLayer, ...], attributes: Mapping[str, str]) -> None:
    """Writes the file that `lava.lib.dl.netx.hdf5.Network` of lava-dl 0.6.0 reads, as a whole or not at all.

    Args:
        path: of the file.
        chain: what the layers belong to.
        layers: quantized, in order.
        attributes: of the file (netx reads none).
    """
    write_bytes(path, in_memory(lambda file: _write(file, chain, layers, attributes)))


def _write(target: BytesIO, chain: Chain, layers: tuple[QuantizedLayer, ...], attributes: Mapping[str, str]) -> None:
    with h5py.File(target, "w") as file:
        file.attrs.update(attributes)
        entries = file.create_group("layer")
        _entry(entries, "input", chain.input_shape)
        shape = chain.input_shape
        for quantized in layers:
            layer = quantized.layer
            if len(shape) > len(layer.shape):
                _entry(entries, "flatten", (int(np.prod(shape)),))
            _layer(entries, quantized)
            shape = layer.shape


def _worst(weight: NDArray) -> float:
    """The largest sum, of either sign, that active synapses of one neuron can make."""
    rows = weight.reshape(weight.shape[0], -1)
    return float(max(np.maximum(rows, 0).sum(axis=1).max(), np.maximum(-rows, 0).sum(axis=1).max()))


def _rounded(weight: NDArray[np.float64], units: int, step: int) -> IntArray:
    return step * np.rint(weight * units / step).astype(np.int64)


def _exact_units(layer: SpikingLayer, limit: int, step: int) -> int | None:
    """Units per threshold, `limit` at most, that hold all weights, and biases if possible; None where none do."""
    weight, bias = layer.weight / step, layer.bias
    if layer.threshold is not None and all(
        is_whole(np.array(UNITY * d, np.float64)) for d in (layer.current_decay, layer.voltage_decay)
    ):
        for own in (layer.threshold, layer.threshold / FRACTION):
            fits = OWN_FROM <= own <= limit and is_whole(np.array(own))
            if fits and is_whole(weight * own) and is_whole(bias * own):
                return int(np.rint(own))
    for numbers in (np.concatenate([weight.ravel(), bias]), weight.ravel()):
        least = smallest_scale(numbers, limit)
        if least is not None:
            return least * 2 ** int(np.log2(limit / least))
    return None


def _noise(numbers: NDArray[np.float64]) -> float:
    """Errors that stand for none: of the floating point in which the layer's numbers were computed."""
    return EXACT * float(np.abs(numbers).max())


def _exponent(weight: IntArray) -> int:
    """lava-dl's choice (`netx.utils.optimize_weight_bits`): shift left until a bit more would not fit, undo by this."""
    high, low = int(weight.max()), int(weight.min())
    if low >= 0:
        return -int(np.floor(np.log2(255 / high)))
    if high < 0:
        return -int(np.floor(np.log2(-256 / low)))
    scale = min(127 / high if high else np.inf, -128 / low)
    return -(int(np.floor(np.log2(scale))) + 1)


def _entry(entries: h5py.Group, kind: str, shape: tuple[int, ...]) -> h5py.Group:
    entry = entries.create_group(str(len(entries)))
    entry.create_dataset("type", data=np.array([kind.encode()], "S10"))
    entry.create_dataset("shape", data=np.array(shape))
    return entry


def _layer(entries: h5py.Group, quantized: QuantizedLayer) -> None:
    layer, geometry = quantized.layer, quantized.layer.convolution
    entry = _entry(entries, "conv" if geometry else "dense", layer.shape)
    entry.attrs["node"] = layer.name
    entry.attrs["units_per_threshold"] = quantized.units
    entry.create_dataset("weight", data=quantized.weight)
    if np.any(quantized.bias):
        entry.create_dataset("bias", data=quantized.bias)
    if geometry:
        entry.create_dataset("inChannels", data=quantized.weight.shape[1] * geometry.groups)
        entry.create_dataset("outChannels", data=quantized.weight.shape[0])
        entry.create_dataset("kernelSize", data=np.array(quantized.weight.shape[2:]))
        for key in ("stride", "padding", "dilation"):
            entry.create_dataset(key, data=np.array(getattr(geometry, key)))
        entry.create_dataset("groups", data=geometry.groups)
    else:
        entry.create_dataset("inFeatures", data=quantized.weight.shape[1])
        entry.create_dataset("outFeatures", data=quantized.weight.shape[0])
    if layer.delay is not None:
        entry.create_dataset("delay", data=layer.delay)
    neuron = entry.create_group("neuron")
    neuron.create_dataset("type", data=np.array([b"CUBA"], "S10"))
    neuron.create_dataset("iDecay", data=quantized.current_decay)
    neuron.create_dataset("vDecay", data=quantized.voltage_decay)
    neuron.create_dataset("vThMant", data=quantized.threshold)
    neuron.create_dataset("refDelay", data=1)
    neuron.create_dataset("gradedSpike", data=False)
