"""Networks in integers, as Lava's fixed-point models compute it: layers that take the place of a folded network's.

Numbers are integers held in floating point: exact below 2^24 in float32, below 2^53 in float64. The constants are
Lava's (`dialect`): membranes of 24 bits, decays of 12, thresholds and synaptic inputs shifted by 6, 8-bit weights
mantissa * 2^exponent whose mantissas, where signs are mixed, are even.

One unit of a layer's current is 1 / theta of its threshold. Training fires at v >= threshold and Loihi above it, so the
register holds theta - 1. Gradients are straight-through: those of the real numbers that the integers stand for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from spikescr.dialect import INT32, MESSAGE, REGISTER, SHIFT, UNITY, WRAP
from spikescr.model.layers import Current
from spikescr.model.neuron import LIF, through_window
from spikescr.model.recurrent import RecurrentLIF, a_step_late
from spikescr.model.rotary import Rotary, rotary_table

ROTARY_EXPONENT = 5
"""Tables are shifted by it, so that the threshold of what they feed has 4064 steps and not 127."""


@dataclass(frozen=True)
class GroupScheme:
    """How the synapses of one layer of neurons become integers.

    A weight is level * step units, step = 2^(9 - bits + exponent); a bias level * 2^(1 + bias_exponent).

    Attributes:
        channels: Of the synapse's outputs, first and last + 1.
        bits: Of a weight.
        exponent: Of weights.
        bias_exponent: Of biases.
        theta: Units of the current per threshold.
        input_step: What one unit of a real input stands for, None for spikes.
    """

    channels: tuple[int, int]
    bits: Annotated[int, Field(ge=4, le=8)]
    exponent: Annotated[int, Field(ge=0, le=7)]
    bias_exponent: Annotated[int, Field(ge=0, le=7)]
    theta: Annotated[int, Field(ge=2, le=REGISTER)]
    input_step: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @property
    def step(self) -> int:
        """Units of one level of a weight."""
        return 2 ** (9 - self.bits + self.exponent)

    @property
    def bias_step(self) -> int:
        """Units of one level of a bias."""
        return 2 ** (1 + self.bias_exponent)

    @property
    def scale(self) -> float:
        """The real weight that one unit stands for, in thresholds."""
        return 1.0 / (self.theta * (self.input_step or 1.0))

    def weight_levels(self, weight: Tensor) -> Tensor:
        """Nearest levels of real weights, within the bits."""
        half = 2 ** (self.bits - 1)
        return (weight / (self.scale * self.step)).round().clamp(-half, half - 1)

    def bias_levels(self, bias: Tensor) -> Tensor:
        """Nearest levels of real biases, 8 bits."""
        return (bias * (self.theta / self.bias_step)).round().clamp(-128, 127)


def straight_through(units: Tensor, real: Tensor, per_unit: float) -> Tensor:
    """The integers `units`, with the gradient of real / per_unit."""
    return units.detach() + (real - real.detach()) / per_unit


class FixedCurrent(Current):
    """W x + b in units, integers; zero on padded steps.

    It keeps real weights and biases, which training changes; the integers follow from them and the schemes.
    """

    def __init__(self, folded: Current, groups: Mapping[str, GroupScheme]) -> None:
        nn.Module.__init__(self)
        self.synapse, self.norm = folded.synapse, folded.norm
        self.groups = dict(groups)
        self.input_step = next(iter(groups.values())).input_step

    def integers(self) -> tuple[Tensor, Tensor]:
        """Weights, in the synapse's shape, and biases, (out,), in units."""
        weights, biases = [], []
        assert self.synapse.bias is not None
        for group in self.groups.values():
            chosen = slice(*group.channels)
            real = self.synapse.weight[chosen]
            weights.append(straight_through(group.weight_levels(real) * group.step, real, group.scale))
            real = self.synapse.bias[chosen]
            biases.append(straight_through(group.bias_levels(real) * group.bias_step, real, 1 / group.theta))
        return torch.cat(weights), torch.cat(biases)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Currents in units (T, B, out) for spikes or real values x (T, B, in)."""
        if self.input_step is not None:
            x = message(x, self.input_step)
        if type(self.synapse) is not nn.Linear:  # it reaches over steps
            x = x * valid
        weight, bias = self.integers()
        current: Tensor = self.norm(functional_call(self.synapse, {"weight": weight, "bias": bias}, (x,)), valid)
        return current


def first_current(model: nn.Module) -> Current:
    """What reads the input of a network that is in integers, or can be."""
    return next(module for module in model.modules() if isinstance(module, Current))


def message(x: Tensor, step: float) -> Tensor:
    """Real values in units of `step`, 8 bits: what an input neuron sends."""
    return (x / step).round().clamp(-MESSAGE - 1, MESSAGE)


class FixedHead(nn.Linear):
    """Logits from integer weights without bias: level * 2 units, each unit standing for `scale`."""

    def __init__(self, folded: nn.Linear, scale: float, bits: int) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = folded.in_features, folded.out_features
        self.weight = folded.weight
        self.register_parameter("bias", None)
        self.scale, self.bits = scale, bits

    @property
    def step(self) -> int:
        """Units of one level of a weight."""
        return int(2 ** (9 - self.bits))

    def levels(self) -> Tensor:
        """Nearest levels of the weights, within the bits."""
        half = 2 ** (self.bits - 1)
        return (self.weight / (self.scale * self.step)).round().clamp(-half, half - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (T, B, K) for sums of spikes x (T, B, N)."""
        units = straight_through(self.levels() * self.step, self.weight, self.scale)
        return nn.functional.linear(x, units) * self.scale


class FixedRotary(Rotary):
    """The rotation with tables of 8 bits, shifted by ROTARY_EXPONENT.

    A cosine or sine below 1 never becomes 1: a spike that is not enough for a threshold does not become enough.
    """

    theta = MESSAGE * 2**ROTARY_EXPONENT

    def tables(self, steps: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Cosines and sines in units, integers, each (steps, D / 2)."""
        cos, sin = (self._units(table) for table in rotary_table(steps, self.head_width))
        return cos, sin

    def _units(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        levels = np.minimum(np.rint(np.abs(table) * MESSAGE), np.where(np.abs(table) < 1, MESSAGE - 1, MESSAGE))
        units: NDArray[np.float64] = np.copysign(levels, table) * 2**ROTARY_EXPONENT + 0.0
        return units


class FixedLIF(LIF):
    """u = wrap(64 a); v = trunc(v (4096 - dv) / 4096) + u, within 24 bits; spike where v > 64 (theta - 1), then v = 0.

    A current is wrapped into 32 bits, then once by 2^24. Currents a (T, B, N) in units of 1 / theta. `saturated`:
    currents that wrapped and membranes that were cut since it was set to 0. The gradient is that of `LIF`, as sharp
    as its, for v / (64 theta).
    """

    def __init__(self, theta: int, decay: float) -> None:
        super().__init__()
        self.theta = theta
        self.dv = round(UNITY * (1.0 - decay))
        self.saturated = 0

    @property
    def decay(self) -> float:
        """What is left of the membrane after a step, but for truncation."""
        return (UNITY - self.dv) / UNITY

    def multi_step_functional_forward(
        self, inputs: tuple[Tensor, ...], states: tuple[object, ...], **kwargs: object
    ) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
        """Spikes (T, B, N) and the membrane after the window (B, N), as `LIF`'s."""
        (currents,), (v,) = inputs, states
        assert isinstance(v, Tensor)
        spikes, v, saturated = _FixedWindow.apply(currents, v.detach(), self.theta, self.dv, self.alpha)
        self.saturated += int(saturated)
        return (spikes,), (v,)

    def updated(self, v: float, current: float) -> float:
        """The membrane in units of 1 / 64 after one step, before the reset."""
        with torch.no_grad():
            new, _ = update(torch.tensor([v], dtype=torch.float64), torch.tensor([current]).double(), self.dv)
        return float(new)


def update(v: Tensor, current: Tensor, dv: int) -> tuple[Tensor, Tensor]:
    """One step of membranes: the new ones before the reset, and how many currents wrapped or membranes were cut."""
    u = current * SHIFT
    narrow = u - 2 * INT32 * ((u + INT32) / (2 * INT32)).floor()
    wrapped = torch.where(narrow > WRAP, narrow - 2 * WRAP, torch.where(narrow <= -WRAP, narrow + 2 * WRAP, narrow))
    kept = UNITY - dv
    # A product beyond 2^24 is not exact in float32 unless it is a shift.
    exact = v if math.log2(kept or 1).is_integer() else v.double()
    new = (exact * kept / UNITY).trunc().to(v.dtype) + wrapped
    cut = new.clamp(1 - WRAP, WRAP - 1)
    return cut, (wrapped != u).sum() + (cut != new).sum()


class FixedRecurrentLIF(FixedLIF):
    """FixedLIFs with integer weights among them: a[t] = x[t] + valid[t] W s[t-1], W in the units of x.

    `recurrent` keeps real weights, which training changes; the integers follow from them and the scheme.
    """

    def __init__(self, lif: RecurrentLIF, theta: int, scheme: GroupScheme) -> None:
        super().__init__(theta, lif.decay)
        self.recurrent = lif.recurrent
        self.scheme = scheme

    def weights(self) -> Tensor:
        """W (N, N) in units."""
        real = self.recurrent.weight
        return straight_through(self.scheme.weight_levels(real) * self.scheme.step, real, self.scheme.scale)

    def forward(self, current: Tensor, valid: Tensor) -> Tensor:
        """Spikes (T, B, N) for currents (T, B, N) in units and the mask (T, B, 1), from a silent state."""
        weight = self.weights()
        v = spikes = torch.zeros_like(current[0])
        fired = []
        for x, live in zip(current, valid, strict=True):
            arriving = x + live * nn.functional.linear(spikes, weight)
            spikes, v, saturated = _FixedStep.apply(arriving, v, self.theta, self.dv, self.alpha)
            self.saturated += int(saturated)
            fired.append(spikes)
        return torch.stack(fired)

    def arriving(self, current: Tensor, valid: Tensor, spikes: Tensor) -> Tensor:
        """All that reaches the neurons (T, B, N), as RecurrentLIF's, in units."""
        return current + valid * nn.functional.linear(a_step_late(spikes), self.weights())


class _FixedStep(torch.autograd.Function):
    """One step of _FixedWindow, membranes with gradients too, as in RecurrentLIF."""

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, v: Tensor, theta: int, dv: int, alpha: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        new, saturated = update(v, current, dv)
        fired = new > SHIFT * (theta - 1)
        ctx.save_for_backward(new, fired)
        ctx.theta, ctx.decay, ctx.alpha = theta, (UNITY - dv) / UNITY, alpha
        ctx.mark_non_differentiable(saturated)
        return fired.to(current.dtype), new.masked_fill(fired, 0.0), saturated

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        new, fired = ctx.saved_tensors
        unit = SHIFT * ctx.theta  # of a membrane, in a threshold
        of_spikes = through_window((new / unit - 1.0)[None], fired[None], 0.0, gradients[0][None], ctx.alpha)[0] / unit
        of_new = of_spikes + gradients[1].masked_fill(fired, 0.0)
        return of_new * SHIFT, of_new * ctx.decay, None, None, None


class _FixedWindow(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, currents: Tensor, v: Tensor, theta: int, dv: int, alpha: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        membranes = torch.empty_like(currents)
        saturated = torch.zeros((), dtype=torch.int64, device=currents.device)
        limit = SHIFT * (theta - 1)
        for current, kept in zip(currents.unbind(0), membranes.unbind(0), strict=True):
            new, count = update(v, current, dv)
            saturated += count
            kept.copy_(new)
            v = new.masked_fill(new > limit, 0.0)
        fired = membranes > limit
        ctx.save_for_backward(membranes, fired)
        ctx.theta, ctx.decay, ctx.alpha = theta, (UNITY - dv) / UNITY, alpha
        ctx.mark_non_differentiable(v, saturated)
        return fired.to(currents.dtype), v, saturated

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        membranes, fired = ctx.saved_tensors
        away = membranes / (SHIFT * ctx.theta) - 1.0
        gradient = through_window(away, fired, ctx.decay, gradients[0], ctx.alpha)
        return gradient.div_(ctx.theta), None, None, None, None
