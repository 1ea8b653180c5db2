"""One layer in fixed point on everything that runs it, compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fixed import stock
from fixed.cases import Case, graph_of
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lava.backend import LavaBackend
from spikescr.sim.lowering.lower import lower
from spikescr.sim.recording import Recording


@dataclass(frozen=True)
class Agreement:
    """What was compared and what differs.

    neuron_steps: compared with Lava's own models, of one sample, and between the backends, of all. spikes, membranes:
    of them that differ. counts: of the two backends that differ. fired, saturated: in the whole case.
    """

    neuron_steps: int
    spikes: int
    membranes: int
    counts: int
    fired: int
    saturated: int

    @property
    def disagreements(self) -> int:
        """All that differs."""
        return self.spikes + self.membranes + self.counts

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


def executed(case: Case, backend: type[Any]) -> Recording:
    """The case in one of our backends, all samples."""
    program = lower(graph_of(case), steps=case.steps)
    samples = next(iter(case.inputs.values())).shape[1]
    with backend(program, samples, record_membranes=True) as made:
        found: Recording = made.run(case.inputs)
        return found


def agreement(case: Case, *, sample: int = 0) -> Agreement:
    """Stock Lava, our Lava models and the fast backend on a case."""
    fast, lava = executed(case, FastBackend), executed(case, LavaBackend)
    spikes, membranes = stock.run(case, sample)
    ours, kept = after_reset(fast, case)
    theirs, kept_theirs = after_reset(lava, case)
    return Agreement(
        neuron_steps=spikes.size + ours.size,
        spikes=int((spikes != ours[:, sample]).sum() + (ours != theirs).sum()),
        membranes=int((membranes != kept[:, sample]).sum() + (kept != kept_theirs).sum()),
        counts=int((fast.counts.table != lava.counts.table).sum()),
        fired=int(ours.sum()),
        saturated=fast.counts.total("saturated"),
    )


def after_reset(recording: Recording, case: Case) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Spikes and membranes after the reset (T, B, N), as Lava's monitors show them."""
    spikes = recording.spikes["layer"][: case.steps]
    return spikes, np.where(spikes, 0.0, recording.membranes["layer"][: case.steps])
