"""What a plan of trainings takes, from a few steps of each network timed on this machine."""

from __future__ import annotations

import heapq
import resource
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from spikescr.progress import track
from spikescr.training.estimate import Estimate, Recordings, count_recordings, estimate
from spikescr.workflows.reproduce_plan import Plan, Training


@dataclass(frozen=True)
class Cost:
    """What a plan takes, as if every recording filled the window; the test at the end is not in it.

    Attributes:
        device: "cpu": seconds are of one core's processor time; "cuda": of a GPU.
        trainings: Estimate of each, by its key.
        levels: Keys of the trainings: those that can begin at once, those whose teachers are among these, and so on.
        base: Bytes that a process takes before it trains.
    """

    device: str
    trainings: Mapping[str, Estimate]
    levels: tuple[tuple[str, ...], ...]
    base: int

    @property
    def seconds(self) -> float:
        """Of all trainings together."""
        return sum(self.trainings[key].seconds for level in self.levels for key in level)

    @property
    def disk(self) -> int:
        """Bytes of all run folders."""
        return sum(self.trainings[key].disk for level in self.levels for key in level)

    def memory(self, places: int) -> int:
        """Bytes of so many processes, each with one of the largest trainings."""
        largest = sorted((self.trainings[key].memory for level in self.levels for key in level), reverse=True)
        return sum(self.base + size for size in largest[:places])

    def elapsed(self, places: int) -> float:
        """Seconds until all is done by so many processes, a core or a GPU each.

        Trainings are begun the longest first, and a level when the one before it is done: as the job does it.
        """
        return sum(_last_end((self.trainings[key].seconds for key in level), places) for level in self.levels)


def _last_end(seconds: Iterable[float], places: int) -> float:
    ends = [0.0] * places
    for each in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + each)
    return max(ends)


def measure_cost(plan: Plan, left: Sequence[Sequence[Training]] | None = None) -> Cost:
    """Times a few steps of each network of a plan; on a GPU where there is one.

    Args:
        plan: the plan.
        left: trainings that are still to be done, by level; None: all.

    Raises:
        DataError: the recordings of a folder cannot be counted.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    clock = time.perf_counter if device == "cuda" else time.process_time
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    levels = plan.levels if left is None else left
    every = [training for level in levels for training in level]
    recordings = _limited(count_recordings(plan.data, 0), plan.request.limit)
    measured: dict[str, Estimate] = {}
    found: dict[str, Estimate] = {}
    for training in track(every, "Measuring networks", len(every)):
        alike = training.config.model_copy(update={"seed": 0}).model_dump_json()
        if alike not in measured:
            measured[alike] = estimate(training.config, recordings, device=device, clock=clock)
        found[training.key] = measured[alike]
    return Cost(device, found, tuple(tuple(training.key for training in level) for level in levels), base)


def _limited(recordings: Recordings, limit: int | None) -> Recordings:
    if limit is None:
        return recordings
    return Recordings(min(recordings.train, limit), min(recordings.valid, limit), recordings.classes)
