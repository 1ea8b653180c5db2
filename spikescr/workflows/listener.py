"""A network that hears one stream of sound, window by window."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from spikescr.data.audio import Waveform
from spikescr.data.frontend import FrontEnd
from spikescr.data.spikes import SpikeBins
from spikescr.errors import UsageError
from spikescr.quantities import si
from spikescr.sim.counting.before import joules
from spikescr.sim.counting.energy import HOROWITZ_45NM
from spikescr.sizes import require_memory
from spikescr.workflows.deployed import Deployed
from spikescr.workflows.spotting import Decision, Levels, Rules, Spotter
from spikescr.workflows.windows import BATCH, Runner, Windows, cpu_seconds

HOP_S = 0.1
_KEPT_WINDOWS = 4.0
"""Levels are remembered for so many windows' lengths: a run of windows lasts one, what its first heard began half a
window earlier, and up to one window's length of sound has come behind its last."""
_LAST = 1000
"""Latencies are those of so many words, the last ones."""


@dataclass(frozen=True)
class Heard:
    """A word in a stream; `print` shows a line.

    Attributes:
        word: What was said.
        confidence: Mean probability over steps and neighbouring windows, 0 to 1.
        onset: When its sound begins, seconds from the beginning of the stream.
        end: When it ends.
        peak: Middle of the window of most confidence.
        windows: How many agree on it.
        told: End of the last window that it took to tell it, seconds.
        energy_j: What the network has executed up to then, of all windows, J; the front end is not in it.
    """

    word: str
    confidence: float
    onset: float
    end: float
    peak: float
    windows: int
    told: float
    energy_j: float

    def __str__(self) -> str:
        return f"{self.onset:9.2f} s  {self.word}  {self.confidence:.2f}  {si(self.energy_j, 'J')}"

    def as_json(self) -> dict[str, Any]:
        """Its fields, times to the millisecond."""
        fields = asdict(self)
        return fields | {name: round(fields[name], 3) for name in ("onset", "end", "peak", "told")}


@dataclass(frozen=True)
class Summary:
    """What listening took.

    Attributes:
        seconds: Length of the stream.
        windows: How many were executed.
        words: How many were told.
        energy_j: Executed by the network in all windows, J.
        front_end_j: What came before the network, J: every window is prepared by itself; see `spikescr.stages`.
        told_after_s: From the end of a word's sound to the end of the last window that it took to tell it: median and
            most of the last 1,000 words, None without any.
        compute_s: From the arrival of the sound that completes a window until what it says was known: median and most
            of the last 1,000 batches.
        cpu_seconds: Of all processes.
        lost: How often a live stream lost samples.
    """

    seconds: float
    windows: int
    words: int
    energy_j: float
    front_end_j: float
    told_after_s: tuple[float, float] | None
    compute_s: tuple[float, float] | None
    cpu_seconds: float
    lost: int

    @property
    def cpu_share(self) -> float:
        """Seconds of one core per second of sound."""
        return self.cpu_seconds / self.seconds if self.seconds else 0.0


def sample_rate(deployed: Deployed) -> int:
    """Samples per second that a network's front end works with; a stream of another rate is resampled."""
    return _front_end(deployed).sample_rate


def _front_end(deployed: Deployed) -> FrontEnd:
    front_end = deployed.preprocessing.front_end
    assert not isinstance(front_end, SpikeBins), "open_network refuses them"
    return front_end


class Listener:
    """A network that hears one stream; `with` ends its backend.

    Every window is cut out and prepared just as a recording of its length is, by itself: normalisation "recording"
    takes a window's own levels. A window of nothing but zeros holds no word and is not executed.
    """

    def __init__(
        self, deployed: Deployed, rules: Rules, rate: int, *, backend: str = "fast", hop_s: float = HOP_S
    ) -> None:
        """Take the network, the rules, the stream's rate in Hz, the backend's name, and the seconds between windows.

        Raises:
            UsageError: there is no such backend, a hop is no part of a window, or windows of so many samples need more
                memory than is allowed.
            BackendError: the backend does not start.
        """
        front_end = _front_end(deployed)
        length = front_end.window_samples(rate)
        require_memory(3 * 8 * BATCH * length, f"sound of {rate:,} Hz", "is that its rate? give a lower one")
        if not 1 / rate <= hop_s <= front_end.window_s / 2:
            raise UsageError(
                f"hop (--hop) must be from 1 sample to half a window, {front_end.window_s / 2:g} s. Got {hop_s}"
            )
        self._deployed, self._windows = deployed, Windows(rate, length=length, hop_s=hop_s)
        self._levels = Levels(rate, _KEPT_WINDOWS * front_end.window_s + 2 * rules.reach_s)
        self._spotter = Spotter(rules, hop_s=hop_s, window_s=front_end.window_s, levels=self._levels)
        work = deployed.preprocessing.work
        times = [(stage, work.times(stage, front_end.window_steps)) for stage in work.stages]
        before = joules(
            HOROWITZ_45NM,
            sum(stage.additions * count for stage, count in times),
            sum(stage.multiplications * count for stage, count in times),
        )
        assert before is not None, "these constants have an energy of a multiplication"
        self._front_end_j = before
        self._nothing = (np.zeros(len(deployed.classes)), (0, 0))
        self._count = self._words = self._ac = self._mac = 0
        self._told_after, self._compute = deque[float](maxlen=_LAST), deque[float](maxlen=_LAST)
        self._runner = Runner(deployed, rate, backend)
        self._cpu = cpu_seconds()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.close()

    def push(self, block: Waveform) -> Iterator[Heard]:
        """Hear more of the stream, any number of samples; yield the words that are certain now."""
        arrived = time.perf_counter()
        for begin in range(0, len(block), self._windows.length):
            piece = block[begin : begin + self._windows.length]
            self._levels.push(piece)
            yield from self._run(self._windows.push(piece), arrived)

    def finish(self) -> Iterator[Heard]:
        """The stream has ended: yield the words that are left."""
        yield from self._run(self._windows.finish(), time.perf_counter())
        yield from self._tell(self._spotter.finish(), self._windows.samples)

    def summary(self, lost: int = 0) -> Summary:
        """What it took until now."""
        return Summary(
            seconds=self._windows.samples / self._windows.rate,
            windows=self._count,
            words=self._words,
            energy_j=self._energy(),
            front_end_j=self._count * self._front_end_j,
            told_after_s=_spread(self._told_after),
            compute_s=_spread(self._compute),
            cpu_seconds=cpu_seconds() - self._cpu,
            lost=lost,
        )

    def _run(self, windows: Iterator[tuple[int, Waveform]], arrived: float) -> Iterator[Heard]:
        waiting = list(windows)
        for begin in range(0, len(waiting), BATCH):
            batch = waiting[begin : begin + BATCH]
            heard = [number for number, samples in batch if samples.any()]
            said = dict.fromkeys((number for number, _ in batch), self._nothing)
            if heard:
                probabilities, operations = self._runner([samples for _, samples in batch if samples.any()])
                said |= dict(zip(heard, zip(probabilities, operations.tolist(), strict=True), strict=True))
            self._compute.append(time.perf_counter() - arrived)
            self._count += len(heard)
            for number, (row, (ac, mac)) in said.items():
                self._ac, self._mac = self._ac + ac, self._mac + mac
                centre = self._windows.centre(number)
                decisions = self._spotter.push(centre / self._windows.rate, row)
                yield from self._tell(decisions, centre - self._windows.length // 2 + self._windows.length)

    def _energy(self) -> float:
        return float(HOROWITZ_45NM.joules(float(self._ac), float(self._mac)))

    def _tell(self, decisions: list[Decision], samples: int) -> Iterator[Heard]:
        now = min(samples, self._windows.samples) / self._windows.rate
        for decision in decisions:
            self._words += 1
            self._told_after.append(now - decision.end)
            yield Heard(
                word=self._deployed.classes[decision.word],
                confidence=decision.confidence,
                onset=max(0.0, decision.onset),
                end=decision.end,
                peak=decision.peak,
                windows=decision.windows,
                told=now,
                energy_j=self._energy(),
            )


def _spread(values: deque[float]) -> tuple[float, float] | None:
    return (float(np.median(values)), max(values)) if values else None
