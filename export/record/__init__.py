"""Recording: one forward pass of any module becomes a `StepNetwork`, what one step of one sample does."""

from spikescr.export.record.calls import Problem, Record
from spikescr.export.record.network import RefusedModuleError, per_step, stepped
from spikescr.export.record.recorder import record
from spikescr.export.record.step import NeuronEquation, Node, Operand, Signal, StepNetwork

__all__ = [
    "NeuronEquation",
    "Node",
    "Operand",
    "Problem",
    "Record",
    "RefusedModuleError",
    "Signal",
    "StepNetwork",
    "per_step",
    "record",
    "stepped",
]
