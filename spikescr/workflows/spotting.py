"""From what a network says of each window to words at times: neighbouring windows that agree become one decision.

p_k (K,) are the probabilities of window k, centred at t_k; s_k their mean over the windows up to `reach` seconds away.
A run of neighbouring windows whose largest s is that of one word and at least `keep` is a decision for that word if
one of them reaches `threshold` (hysteresis); the largest is its confidence, and where it stands its peak. A run that is
longer than a window ends there. What is heard in all of its windows is looked up for the loudest 10 ms; the sound
around these is the word, and begins with the decision's onset; where nothing stands out from the background, it is
none. Of two decisions about one sound the more confident one stands; so a decision is told half a window after its peak
(at once, a third more words are told that nobody said).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikescr.data.audio import Waveform

FRAME_S = 0.01
"""Of levels."""
RANGE_DB = 20.0
"""A word's sound is at most so much weaker than its loudest frame ..."""
PAUSE_S = 0.2
"""... and interrupted for at most so long, as before a plosive."""
QUIET = 10
"""Percentile of the levels before a word's loudest frame, silence apart, taken for the background's; a word is above
half-way from it to that frame; behind it the same."""
PROMINENCE_DB = 12.0
"""What is not so much louder than the background is none of the words: a network that has not learnt what noise is may
be sure of anything there."""


@dataclass(frozen=True)
class Rules:
    """When windows become a word.

    Attributes:
        threshold: Confidence that one window of a decision has at least; below, what is heard is none of the words.
        keep: Confidence that its other windows have at least.
        reach_s: Probabilities are averaged over the windows up to so many seconds away.
    """

    threshold: float
    keep: float
    reach_s: float


@dataclass(frozen=True)
class Decision:
    """A word that was heard; times in seconds from the beginning of the stream.

    Attributes:
        word: Index of its class.
        confidence: From 0 to 1, see above.
        onset: Begin of its sound.
        end: End of its sound.
        peak: Middle of the window of most confidence.
        windows: How many agree.
    """

    word: int
    confidence: float
    onset: float
    end: float
    peak: float
    windows: int


class Levels:
    """How loud a stream was, for the last few seconds."""

    def __init__(self, rate: int, keep_s: float) -> None:
        """Take the rate in Hz, and the seconds to remember."""
        self._size = max(1, round(FRAME_S * rate))
        self._frame_s = self._size / rate
        self._powers: deque[float] = deque(maxlen=int(np.ceil(keep_s / self._frame_s)) + 1)
        self._count = 0
        self._rest: Waveform = np.zeros(0)

    def push(self, samples: Waveform) -> None:
        """Hear more of the stream."""
        samples = np.concatenate((self._rest, samples))
        whole = len(samples) // self._size
        frames = samples[: whole * self._size].reshape(whole, self._size)
        self._powers.extend(np.mean(frames**2, axis=1).tolist())
        self._count += whole
        self._rest = samples[whole * self._size :]

    def locate(self, core: tuple[float, float], around: tuple[float, float]) -> tuple[float, float] | None:
        """Find the sound whose loudest frame is the loudest in `core`; it does not leave `around`. In seconds.

        Returns:
            Begin and end; None where nothing stands out from the background.
        """
        first = self._count - len(self._powers)
        low, high = (min(max(int(t / self._frame_s) - first, 0), len(self._powers)) for t in around)
        power = np.array(self._powers)[low : max(high, low + 1)]
        sounding = power > 0
        if not sounding.any():
            return None
        level = np.full(len(power), -np.inf)
        level[sounding] = 10 * np.log10(power[sounding])
        begin, end = (min(max(int(t / self._frame_s) - first - low, 0), len(level) - 1) for t in core)
        loudest = begin + int(level[begin : max(end, begin + 1)].argmax())
        if not sounding[loudest]:
            loudest = int(level.argmax())
        peak = level[loudest]
        background = np.percentile(level[sounding], QUIET) if sounding.all() else -np.inf
        if peak - background < PROMINENCE_DB:
            return None
        heard = np.concatenate(
            [
                np.flatnonzero(level[: loudest + 1] >= _least(peak, level[: loudest + 1])),
                loudest + 1 + np.flatnonzero(level[loudest + 1 :] >= _least(peak, level[loudest:])),
            ]
        )
        parts = np.split(heard, np.flatnonzero(np.diff(heard) > round(PAUSE_S / self._frame_s)) + 1)
        own = next(part for part in parts if part[0] <= loudest <= part[-1])
        start = (first + low) * self._frame_s
        return start + own[0] * self._frame_s, start + (own[-1] + 1) * self._frame_s


class Spotter:
    """Hears windows one after the other and tells words."""

    def __init__(self, rules: Rules, *, hop_s: float, window_s: float, levels: Levels) -> None:
        """Take the rules, the distance of windows, their length, and who knows how loud the stream was."""
        self.rules = rules
        self._hop, self._window, self._levels = hop_s, window_s, levels
        self._reach = int(rules.reach_s / hop_s + 1e-9)
        self._recent: deque[tuple[float, NDArray[np.float64]]] = deque(maxlen=2 * self._reach + 1)
        self._run: list[tuple[float, int, float]] = []
        self._pending: Decision | None = None

    def push(self, centre: float, probabilities: NDArray[np.float64]) -> list[Decision]:
        """Hear the next window.

        Args:
            centre: Its middle, seconds.
            probabilities: Of the words (K,).

        Returns:
            The decisions that are certain now.
        """
        self._recent.append((centre, probabilities))
        if len(self._recent) <= self._reach:
            return []
        return self._smoothed(len(self._recent) - 1 - self._reach)

    def finish(self) -> list[Decision]:
        """The stream has ended: tell what is left."""
        told: list[Decision] = []
        for index in range(max(0, len(self._recent) - self._reach), len(self._recent)):
            told += self._smoothed(index)
        told += self._ended()
        if self._pending is not None:
            told.append(self._pending)
            self._pending = None
        return told

    def _smoothed(self, index: int) -> list[Decision]:
        near = list(self._recent)[max(0, index - self._reach) : index + self._reach + 1]
        centre, s = self._recent[index][0], np.mean([probabilities for _, probabilities in near], axis=0)
        word, confidence = int(s.argmax()), float(s.max())
        told: list[Decision] = []
        goes_on = bool(self._run) and self._run[0][1] == word and confidence >= self.rules.keep
        if self._run and (not goes_on or centre - self._run[0][0] > self._window):
            told += self._ended()
        if confidence >= self.rules.keep:
            self._run.append((centre, word, confidence))
        if self._pending is not None and centre > self._pending.peak + self._window / 2 and not self._is_near():
            told.append(self._pending)
            self._pending = None
        return told

    def _is_near(self) -> bool:
        """Whether the run that is not yet over may concern the same sound as the decision that is pending."""
        assert self._pending is not None
        return bool(self._run) and self._run[0][0] <= self._pending.peak + self._window / 2

    def _ended(self) -> list[Decision]:
        run, self._run = self._run, []
        if not run or max(confidence for *_, confidence in run) < self.rules.threshold:
            return []
        found, earlier = self._decided(run), self._pending
        if found is None:
            return []
        if earlier is None or not _same_sound(earlier, found):
            self._pending = found
            return [] if earlier is None else [earlier]
        self._pending = max(earlier, found, key=lambda decision: decision.confidence)
        return []

    def _decided(self, run: Sequence[tuple[float, int, float]]) -> Decision | None:
        best = max(confidence for *_, confidence in run)
        peak = float(np.mean([centre for centre, _, confidence in run if confidence == best]))
        first, last, half = run[0][0], run[-1][0], self._window / 2
        core = (last - half, first + half)
        if core[1] - core[0] < 2 * FRAME_S:
            core = (peak - self._hop, peak + self._hop)
        place = self._levels.locate(core, (peak - half, peak + half))
        return None if place is None else Decision(run[0][1], best, *place, peak, len(run))


def _least(peak: float, side: NDArray[np.float64]) -> float:
    """How loud a word is at least, on one side of its loudest frame: noise before it says nothing of what follows."""
    background = min(peak, float(np.percentile(side[np.isfinite(side)], QUIET)))
    return float(max(peak - RANGE_DB, (peak + background) / 2))


def _same_sound(one: Decision, other: Decision) -> bool:
    """Whether two decisions share more than half of the shorter one's sound."""
    shared = min(one.end, other.end) - max(one.onset, other.onset)
    return shared > min(one.end - one.onset, other.end - other.onset) / 2
