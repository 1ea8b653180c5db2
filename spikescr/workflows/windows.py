"""A stream of sound cut into windows, and a deployed network that is run on them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from spikescr.data.audio import Waveform
from spikescr.data.timing import exact
from spikescr.errors import UsageError
from spikescr.sim.backends import REGISTRY, Options, build
from spikescr.sim.recording import KINDS, softmax_sum
from spikescr.sim.run import run_batches
from spikescr.workflows.deployed import Deployed

BATCH = 16
"""Windows that run at once, where so many have come."""


class Windows:
    """Cuts a stream into windows, each centred `hop` behind the one before; silence lies before and behind it."""

    def __init__(self, rate: int, *, length: int, hop_s: float) -> None:
        """Take the rate in Hz, a window's samples, and the seconds between windows."""
        self.rate, self.length = rate, length
        self._hop = exact(hop_s)
        self._buffer: Waveform = np.zeros(length // 2)
        self._first = -(length // 2)
        self._next = 0
        self.samples = 0

    def centre(self, number: int) -> int:
        """Sample in the middle of a window."""
        return round(number * self._hop * self.rate)

    def push(self, block: Waveform) -> Iterator[tuple[int, Waveform]]:
        """Yield number and samples of the windows that are complete now."""
        self._buffer = np.concatenate((self._buffer, block))
        self.samples += len(block)
        yield from self._complete()

    def finish(self) -> Iterator[tuple[int, Waveform]]:
        """Yield the windows that are centred before the stream's end and reach over it."""
        last = (self.samples * self._hop.denominator - 1) // (self._hop.numerator * self.rate)
        missing = self.centre(last) - self.length // 2 + self.length - self._first - len(self._buffer)
        self._buffer = np.concatenate((self._buffer, np.zeros(max(0, missing))))
        yield from self._complete()

    def _complete(self) -> Iterator[tuple[int, Waveform]]:
        while (begin := self.centre(self._next) - self.length // 2 - self._first) + self.length <= len(self._buffer):
            yield self._next, self._buffer[begin : begin + self.length]
            self._next += 1
        drop = min(max(0, begin), len(self._buffer))
        self._buffer, self._first = self._buffer[drop:], self._first + drop


class Runner:
    """A network that says of windows how probable each word is."""

    def __init__(self, deployed: Deployed, rate: int, backend: str) -> None:
        """Take the network, the rate of the windows in Hz, and the backend's name.

        Raises:
            UsageError: there is no such backend.
            BackendError: it does not start.
        """
        if backend not in REGISTRY:
            raise UsageError(f"backend {backend!r} (--backend): choose one of {', '.join(REGISTRY)}")
        self._deployed, self._rate = deployed, rate
        self._backend = build(backend, deployed.program, Options(BATCH, spikes=False))
        try:
            self([np.zeros(1)])  # what is loaded and compiled at first is no latency
        except BaseException:
            self.close()
            raise

    def __call__(self, windows: Sequence[Waveform]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Prepare windows as recordings are, and execute the network.

        Args:
            windows: at most `BATCH`, each of any length up to the network's.

        Returns:
            Mean probabilities over the valid steps (B, K), and accumulations and multiply-accumulates (B, 2).
        """
        prepared = [self._deployed.preprocessing(samples, self._rate) for samples in windows]
        steps = np.array([count for _, count in prepared], dtype=np.int64)
        values = np.stack([frames for frames, _ in prepared])
        (batch,) = run_batches(self._deployed.program, self._backend, values, steps)
        probabilities = softmax_sum(batch.output, steps) / steps[:, None]
        table = batch.recording.counts.table
        operations = np.stack([table[:, KINDS.index(kind)].sum(axis=(0, 1)) for kind in ("ac", "mac")], axis=1)
        return probabilities, operations

    def close(self) -> None:
        """End the backend."""
        self._backend.close()


def cpu_seconds() -> float:
    """Processor time of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])
