"""What two backends recorded, held against each other."""

from __future__ import annotations

import numpy as np

from spikescr.sim.recording import Recording


def agree(a: Recording, b: Recording) -> None:
    """Counts, and all that both have kept, are equal to the bit."""
    np.testing.assert_array_equal(a.counts.table, b.counts.table)
    for ours, theirs in ((a.spikes, b.spikes), (a.membranes, b.membranes), (a.outputs, b.outputs)):
        for name in ours.keys() & theirs.keys():
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def same(a: Recording, b: Recording) -> None:
    """They agree, and have kept the same."""
    for ours, theirs in ((a.spikes, b.spikes), (a.membranes, b.membranes), (a.outputs, b.outputs)):
        assert ours.keys() == theirs.keys()
    agree(a, b)
