"""Which step an operation takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from spikescr.errors import BackendError
from spikescr.sim.program import (
    Attention,
    CausalAttention,
    ChannelDelay,
    Convolution,
    DelayLine,
    FixedNeuron,
    Gate,
    IntArray,
    Integrator,
    Maximum,
    Neuron,
    Operation,
    Position,
    Rotary,
    Select,
    Synapse,
    TokenAttention,
)
from spikescr.sim.steps.base import Step
from spikescr.sim.steps.clocked import AttentionStep, CausalAttentionStep, PositionStep, RotaryStep
from spikescr.sim.steps.moving import ChannelDelayStep, DelayLineStep, GateStep, MaximumStep, SelectStep
from spikescr.sim.steps.neurons import FixedNeuronStep, IntegratorStep, NeuronStep
from spikescr.sim.steps.synapses import ConvolutionStep, SynapseStep
from spikescr.sim.steps.tokens import TokenAttentionStep

StepTypes: TypeAlias = Mapping[type[Operation], type[Step]]

# All operations but the ends of a graph, which are the host's.
STEPS: StepTypes = {
    Synapse: SynapseStep,
    Convolution: ConvolutionStep,
    DelayLine: DelayLineStep,
    ChannelDelay: ChannelDelayStep,
    Select: SelectStep,
    Neuron: NeuronStep,
    FixedNeuron: FixedNeuronStep,
    Integrator: IntegratorStep,
    Rotary: RotaryStep,
    Position: PositionStep,
    Attention: AttentionStep,
    CausalAttention: CausalAttentionStep,
    TokenAttention: TokenAttentionStep,
    Maximum: MaximumStep,
    Gate: GateStep,
}


def make(
    operation: Operation, samples: int, valid: IntArray, own: StepTypes | None = None, dtype: DTypeLike = np.float64
) -> Step:
    """The step of an operation.

    Args:
        operation: any but a Source or a Sink.
        samples: of a batch, B.
        valid: valid steps of each sample (B,).
        own: steps that a backend has of its own; those of STEPS for all other types.
        dtype: of signals and state, float64 or float32.

    Raises:
        BackendError: there is no step for its type.
    """
    kind = (own or {}).get(type(operation)) or STEPS.get(type(operation))
    if kind is None:
        raise BackendError(f"{operation.name}: no step for operations of type {type(operation).__name__}")
    return kind(operation, samples, valid, dtype)
