"""The numbers of a network as nodes hold them: real ones, or integers as Loihi 2 holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from spikescr import dialect
from spikescr.export.builder import FixedMembrane, GraphBuilder, Stream, Weights
from spikescr.model import LIF, Current, Masked, Network
from spikescr.model.fixed import ROTARY_EXPONENT, FixedCurrent, FixedHead, FixedLIF, FixedRecurrentLIF, first_current
from spikescr.model.recurrent import RecurrentLIF


def array(tensor: Tensor) -> NDArray[np.float64]:
    """A tensor's numbers in float64."""
    numbers: NDArray[np.float64] = tensor.detach().cpu().double().numpy()
    return np.ascontiguousarray(numbers)


class Real:
    """Float64, as trained and folded."""

    def of_graph(self) -> Mapping[str, Any]:
        """Metadata of the graph."""
        return {dialect.GRAPH_FORMAT: dialect.FORMAT}

    def of_input(self, _model: Network) -> Mapping[str, Any]:
        """Metadata of the input."""
        return {}

    def of_current(self, current: Current, part: slice) -> Weights:
        """Weights and biases of a share of a folded current's outputs."""
        assert current.synapse.bias is not None
        assert isinstance(current.norm, Masked)
        return Weights(array(current.synapse.weight)[part], array(current.synapse.bias)[part], current.norm.origin)

    def of_neurons(self, lif: RecurrentLIF | FixedRecurrentLIF) -> Weights:
        """Weights among neurons."""
        return Weights(array(lif.recurrent.weight))

    def of_rotary(self) -> Mapping[str, Any]:
        """Metadata of a rotation."""
        return {}

    def of_head(self, head: nn.Linear) -> Weights:
        """Weights of the head."""
        return Weights(array(head.weight))

    def of_output(self, _head: nn.Linear) -> Mapping[str, Any]:
        """Metadata of the output."""
        return {}

    def neurons(self, build: GraphBuilder, name: str, current: Stream, lif: LIF) -> Stream:
        """A layer of neurons."""
        return build.lif(name, current, lif.decay)


class Fixed(Real):
    """Integers; metadata says what they are made of and what they stand for."""

    def of_graph(self) -> Mapping[str, Any]:
        """Metadata of the graph."""
        return {dialect.GRAPH_FORMAT: dialect.FIXED_FORMAT, dialect.PRECISION: dialect.LOIHI2}

    def of_input(self, model: Network) -> Mapping[str, Any]:
        """Metadata of the input: what one unit of a real value stands for."""
        current = first_current(model)
        assert isinstance(current, FixedCurrent)
        step = current.input_step
        return {} if step is None else {dialect.SCALE: step, dialect.BITS: 8}

    def of_current(self, current: Current, part: slice) -> Weights:
        """Weights and biases of one group of a current's outputs."""
        assert isinstance(current, FixedCurrent)
        assert isinstance(current.norm, Masked)
        weight, bias = (array(numbers)[part] for numbers in current.integers())
        first = part.start or 0
        group = next(group for group in current.groups.values() if group.channels[0] == first)
        return Weights(
            weight,
            bias,
            current.norm.origin,
            _stated(group.bits, group.exponent, group.scale),
            _stated(8, group.bias_exponent, 1 / group.theta),
        )

    def of_neurons(self, lif: RecurrentLIF | FixedRecurrentLIF) -> Weights:
        """Weights among neurons."""
        assert isinstance(lif, FixedRecurrentLIF)
        scheme = lif.scheme
        return Weights(array(lif.weights()), stated=_stated(scheme.bits, scheme.exponent, scheme.scale))

    def of_rotary(self) -> Mapping[str, Any]:
        """Metadata of a rotation: how far its tables are shifted."""
        return {dialect.EXPONENT: ROTARY_EXPONENT, dialect.BITS: 8}

    def of_head(self, head: nn.Linear) -> Weights:
        """Weights of the head."""
        assert isinstance(head, FixedHead)
        weight = array(head.levels() * head.step)
        return Weights(weight, stated=_stated(head.bits, 0, head.scale))

    def of_output(self, head: nn.Linear) -> Mapping[str, Any]:
        """Metadata of the output: what one unit of a logit stands for."""
        assert isinstance(head, FixedHead)
        return {dialect.SCALE: head.scale}

    def neurons(self, build: GraphBuilder, name: str, current: Stream, lif: LIF) -> Stream:
        """A layer of neurons: training fires at theta, the chip above its register."""
        assert isinstance(lif, FixedLIF)
        return build.fixed_lif(name, current, FixedMembrane(lif.dv, lif.theta - 1))


def _stated(bits: int, exponent: int, scale: float) -> Mapping[str, Any]:
    return {dialect.BITS: bits, dialect.EXPONENT: exponent, dialect.SIGN_MODE: "mixed", dialect.SCALE: scale}
