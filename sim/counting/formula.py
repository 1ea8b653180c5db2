"""The paper's energy formula, evaluated on the counts of an executed run, and the named causes of its error.

SOP(l) = firing rate of the layer's input x FLOPs(l), FLOPs over all T steps of the window (arXiv 2412.12858, section
4). With the firing rate measured in the same run the product is an integer: for a synapse, events x fan-out. Where
channels differ in their fan-out it is taken channel by channel, which is what was executed, step by step (what is cut
off at the end then cannot be told apart). Causal attention has FLOPs that grow with the step, and is taken step by
step: a spike of q at step t meets t + 1 positions, one of v the T - t queries from its own on.

What differs from what was executed, operation by operation (executed minus formula is the sum of the causes):

- `padding`: the formula charges the window's T steps, the run only a sample's valid ones (real-valued input: C x
  fan-out for every padded step; attention: every spike of q, and of v, meets T positions instead of the valid ones).
- `zero_input`: real-valued inputs that happen to be 0 are no event.
- `attention_correlation`: rate x FLOPs charges a spike of q for all positions (tokens) and channels; executed are the
  coincidences of q and k.
- `attention_order`: Q (K^T V) was executed, not (Q K^T) V.
- `rotary`: two additions for each spike that is turned; the formula leaves them out.
- `cut_off`: what arrives so late that the run ends before all taps have passed (networks that fire on their own).

Bias additions and membrane updates are in neither figure; they are counted apart. Where the spikes of an attention's
q or v cannot be told from the counts, the formula has no value, and says why.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikescr.errors import GraphError
from spikescr.sim.program import (
    Attention,
    CausalAttention,
    Convolution,
    DelayLine,
    IntArray,
    Neuron,
    Operation,
    Port,
    Program,
    Rotary,
    Select,
    Signal,
    Synapse,
    TokenAttention,
)
from spikescr.sim.recording import Ledger

CAUSES = ("padding", "zero_input", "attention_correlation", "attention_order", "rotary", "cut_off")


@dataclass(frozen=True)
class Formula:
    """The formula for the samples of one ledger.

    ac, mac: operations by the formula, integers (operations, steps, samples), at the executed step that works on the
    same step of the sample. causes: cause -> executed minus formula (operations, 2, samples), AC and MAC. refused: why
    it cannot be evaluated on this network, None where it can; the numbers then lack an operation.
    """

    ac: IntArray
    mac: IntArray
    causes: dict[str, IntArray]
    refused: str | None


def evaluate(program: Program, ledger: Ledger, valid: IntArray) -> Formula:
    """Evaluates the formula on a run.

    Args:
        program: what was run.
        ledger: its counts.
        valid: valid steps of each sample (B,).
    """
    return _Evaluation(program, ledger, valid).result


class _Evaluation:
    def __init__(self, program: Program, ledger: Ledger, valid: IntArray) -> None:
        self.program = program
        self.ledger = ledger
        self.valid = np.asarray(valid, np.int64)
        count, samples = len(program.operations), len(self.valid)
        self.ac: IntArray = np.zeros((count, program.period, samples), np.int64)
        self.mac: IntArray = np.zeros_like(self.ac)
        self.causes: dict[str, IntArray] = {cause: np.zeros((count, 2, samples), np.int64) for cause in CAUSES}
        self.refused: str | None = None
        for row, operation in enumerate(program.operations):
            match operation:
                case Synapse():
                    self._synapse(row, operation)
                case Rotary():
                    self._rotary(row, operation)
                case Attention():
                    self._attention(row, operation)
                case CausalAttention():
                    self._causal_attention(row, operation)
                case TokenAttention():
                    self._token_attention(row, operation)
                case Convolution():
                    self._convolution(row, operation)
                case _ if {"ac", "mac"} & set(operation.counts):
                    self.refused = f"{operation.name}: the formula does not know a {type(operation).__name__}"
        self.result = Formula(self.ac, self.mac, self.causes, self.refused)

    def _synapse(self, row: int, operation: Synapse) -> None:
        fan_outs = operation.fan_outs.sum(axis=0)
        uniform = bool((fan_outs == fan_outs[0]).all())
        events = self.ledger.per_step(operation.name, "spikes")
        if operation.x.signal is Signal.SPIKES:
            if uniform:
                self.ac[row] = fan_outs[0] * self._shifted(events, self._centre(operation))
                self.causes["cut_off"][row, 0] = (self.ledger.per_step(operation.name, "ac") - self.ac[row]).sum(axis=0)
            else:
                self.ac[row] = self.ledger.per_step(operation.name, "ac")
        elif operation.x.signal is Signal.VALUES:
            synapses, start = int(fan_outs.sum()), self._start(operation)
            self.mac[row, start : start + self.program.steps] = synapses
            executed = self.ledger.per_step(operation.name, "mac").sum(axis=0)
            reached = fan_outs[0] * events.sum(axis=0) if uniform else executed
            self.causes["padding"][row, 1] = -synapses * (self.program.steps - self.valid)
            self.causes["zero_input"][row, 1] = reached - synapses * self.valid
            self.causes["cut_off"][row, 1] = executed - reached

    def _convolution(self, row: int, operation: Convolution) -> None:
        """Over space, channel by channel: inputs at the edge reach fewer synapses."""
        if operation.x.signal is Signal.SPIKES:
            self.ac[row] = self.ledger.per_step(operation.name, "ac")
        elif operation.x.signal is Signal.VALUES:
            synapses, start = int(operation.fan_out.sum()), self._start(operation)
            self.mac[row, start : start + self.program.steps] = synapses
            executed = self.ledger.per_step(operation.name, "mac").sum(axis=0)
            self.causes["padding"][row, 1] = -synapses * (self.program.steps - self.valid)
            self.causes["zero_input"][row, 1] = executed - synapses * self.valid

    def _rotary(self, row: int, operation: Rotary) -> None:
        self.causes["rotary"][row, 0] = self.ledger.per_step(operation.name, "ac").sum(axis=0)

    def _start(self, operation: Operation) -> int:
        """The executed step that works on a sample's first, or the last from which a window still fits into the run."""
        return min(operation.latency or 0, self.program.period - self.program.steps)

    def _attention(self, row: int, operation: Attention) -> None:
        window = operation.steps
        try:
            q = self._shifted(self._events(operation.q), window)
            v = self._events(operation.v).sum(axis=0)
        except GraphError as error:
            self.refused = str(error)
            return
        read = (operation.latency or window) + np.arange(window)
        self.ac[row] = window * q
        self.ac[row, read] += v
        executed, quadratic = (
            self.ledger.per_step(operation.name, kind).sum(axis=0) for kind in ("ac", "ac_quadratic")
        )
        spikes = q.sum(axis=0) + v
        self.causes["padding"][row, 0] = -(window - self.valid) * spikes
        self.causes["attention_correlation"][row, 0] = quadratic - self.valid * spikes
        self.causes["attention_order"][row, 0] = executed - quadratic

    def _causal_attention(self, row: int, operation: CausalAttention) -> None:
        """FLOPs grow with the step: a spike of q meets the keys until its own, one of v every query from its own on."""
        try:
            q, v = self._events(operation.q), self._events(operation.v)
        except GraphError as error:
            self.refused = str(error)
            return
        start = self._start(operation)
        window = slice(start, start + self.program.steps)
        met = np.arange(1, self.program.steps + 1)[:, None] * q[window]
        weighed = np.cumsum(v[: window.stop], axis=0)[window]
        self.ac[row, window] = met + weighed
        executed, quadratic = (
            self.ledger.per_step(operation.name, kind).sum(axis=0) for kind in ("ac", "ac_quadratic")
        )
        padded = np.arange(self.program.steps)[:, None] >= self.valid
        padding = ((met + weighed) * padded).sum(axis=0)
        self.causes["padding"][row, 0] = -padding
        self.causes["attention_correlation"][row, 0] = quadratic - (self.ac[row].sum(axis=0) - padding)
        self.causes["attention_order"][row, 0] = executed - quadratic

    def _token_attention(self, row: int, operation: TokenAttention) -> None:
        """Every spike of q meets the keys of all tokens, every spike of v all rows of Q K^T; none waits for another."""
        self.ac[row] = self.ledger.per_step(operation.name, "synops")
        executed, quadratic = (
            self.ledger.per_step(operation.name, kind).sum(axis=0) for kind in ("ac", "ac_quadratic")
        )
        self.causes["attention_correlation"][row, 0] = quadratic - self.ac[row].sum(axis=0)
        self.causes["attention_order"][row, 0] = executed - quadratic
        if operation.v.signal is Signal.VALUES:
            products, start = operation.tokens * operation.v.width, self._start(operation)
            self.mac[row, start : start + self.program.steps] = products
            executed = self.ledger.per_step(operation.name, "mac").sum(axis=0)
            self.causes["padding"][row, 1] = -products * (self.program.steps - self.valid)
            self.causes["zero_input"][row, 1] = executed - products * self.valid

    def _events(self, port: Port) -> IntArray:
        """Spikes that a port brings (steps, samples), from what the neurons behind it fired."""
        total: IntArray = np.zeros(self.ac.shape[1:], np.int64)
        for name in port.sources:
            source = self.program[name]
            if isinstance(source, Neuron):
                total += self.ledger.per_step(name, "fired")
            elif isinstance(source, DelayLine):
                total += self._shifted(self._events(source.x), source.delay)
            elif isinstance(source, Select) and source.rearranges:
                total += self._events(source.x)
            else:
                raise GraphError(f"{name}: the formula needs attention's spikes to come from neurons or delays")
        return total

    def _centre(self, operation: Synapse) -> int:
        """Steps between the arrival of a sample's step and the output for the same step (half a centred kernel)."""
        arrival = self.program[operation.x.sources[0]].latency
        return 0 if operation.latency is None or arrival is None else operation.latency - arrival

    def _shifted(self, events: IntArray, steps: int) -> IntArray:
        if steps == 0:
            return events
        out = np.zeros_like(events)
        out[steps:] = events[:-steps]
        return out
