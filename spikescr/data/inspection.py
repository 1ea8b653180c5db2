"""Looking at a copy of a data set: every recording is read, every fault is listed, and what is there is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikescr.data.audio import read_recording
from spikescr.data.dataset import SPLITS, DataSet, Item
from spikescr.data.folder import layout_faults
from spikescr.data.frontend import FrontEnd
from spikescr.data.heidelberg import find_file, read_classes, read_items
from spikescr.data.kinds import Kind, Place, find_kind
from spikescr.data.preprocessing import Normaliser
from spikescr.data.published import PublishedSet
from spikescr.data.spike_file import opened
from spikescr.data.spikes import SpikeBins, Times, Units, densest_stretch
from spikescr.errors import DataError
from spikescr.progress import track


@dataclass
class SplitReport:
    """What is in a split.

    Attributes:
        name: Of the split.
        labels: Recordings of each class, by label.
        speakers: Different speakers; empty where the data set tells none.
        durations_s: Of each sound recording, or the time of each spike recording's last spike.
        spikes: Of each recording of spikes.
        silent: Recordings without a sound or spike; no fault, but worth knowing.
    """

    name: str
    labels: Counter[int] = field(default_factory=Counter)
    speakers: set[str] = field(default_factory=set)
    durations_s: list[float] = field(default_factory=list)
    spikes: list[int] = field(default_factory=list)
    silent: int = 0

    def add(self, item: Item) -> None:
        """Count a recording, be it usable or not."""
        self.labels[item.label] += 1
        if item.speaker is not None:
            self.speakers.add(item.speaker)


@dataclass
class Report:
    """What is in a data set, and what is wrong with it.

    Attributes:
        spec: Its name on the command line.
        classes: Names of the classes.
        splits: What each split has.
        problems: One line each: file, recording, fault.
    """

    spec: str
    classes: tuple[str, ...] = ()
    splits: list[SplitReport] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def inspect(spec: str) -> Report:
    """Read a whole data set.

    Args:
        spec: As `open_data` takes it.

    Raises:
        UsageError: There is no such data set.
        DataError: Its folder is missing, or it cannot be opened for a reason that no list of faults would tell better.
    """
    kind, place = find_kind(spec)
    report = Report(spec)
    if kind.signal == "spikes" and place.root.is_dir():
        _inspect_spikes(kind, place, report)
    else:
        try:
            _inspect_sound(kind.open(place), report)
        except DataError:
            report.problems = [] if kind.embedded else layout_faults(place.root, kind.words)
            if not report.problems:
                raise
            return report
    for split in report.splits:
        absent = [name for label, name in enumerate(report.classes) if split.labels and not split.labels[label]]
        if absent:
            report.problems.append(f"{split.name}: no recording of {', '.join(absent)}")
    if kind.published:
        _compare(kind.published, report)
    return report


def _inspect_spikes(kind: Kind, place: Place, report: Report) -> None:
    """Read the files one by one: one that cannot be opened says nothing of the others."""
    for name in kind.splits:
        split = SplitReport(name)
        report.splits.append(split)
        try:
            path = find_file(place.kind, place.root, name)
            report.classes = report.classes or read_classes(path)
            items = read_items(path, report.classes, prefix=name, speakers="valid" not in kind.splits)
            for item in items:
                split.add(item)
            with opened(path) as file:
                for index, spikes in enumerate(track(file.recordings(), f"Reading {path.name}", len(items))):
                    _inspect_recording(split, spikes, f"{path}: recording {index}", report)
        except DataError as error:
            report.problems.append(str(error))


def _inspect_recording(split: SplitReport, spikes: tuple[Times, Units] | DataError, where: str, report: Report) -> None:
    try:
        if isinstance(spikes, DataError):
            raise spikes
        SpikeBins(steps=1).count(*spikes)
    except DataError as error:
        report.problems.append(f"{where}: {error}")
        return
    split.silent += not len(spikes[0])
    split.durations_s.append(float(spikes[0].max(initial=0)))
    split.spikes.append(len(spikes[0]))


def _inspect_sound(dataset: DataSet, report: Report) -> None:
    report.classes = dataset.classes
    for name in SPLITS:
        split = SplitReport(name)
        report.splits.append(split)
        items = dataset.split(name)
        for item in track(items, f"Reading {name}", len(items)):
            split.add(item)
            try:
                waveform, rate = read_recording(item.path)
            except DataError as error:
                report.problems.append(str(error))
                continue
            split.silent += not waveform.any()
            split.durations_s.append(len(waveform) / rate)
    _shared_speakers(report)


def _shared_speakers(report: Report) -> None:
    """Note a speaker who is in two splits: what was heard in training is no test."""
    for index, one in enumerate(report.splits):
        for other in report.splits[index + 1 :]:
            if both := sorted(one.speakers & other.speakers):
                report.problems.append(f"{one.name} and {other.name} share {len(both)} speaker(s): {_few(both)}")


def _compare(published: PublishedSet, report: Report) -> None:
    """Note what is not as it was published."""
    if len(report.classes) != published.classes:
        report.problems.append(f"{len(report.classes)} classes; published are {published.classes}")
    for split in report.splits:
        count, expected = split.labels.total(), published.recordings[split.name]
        if count != expected:
            report.problems.append(f"{split.name}: {count} recordings; published are {expected}")


def spread(values: Iterable[float]) -> tuple[float, float, float] | None:
    """Return the smallest, the median and the largest value; None of nothing."""
    array = np.fromiter(values, dtype=np.float64)
    return (float(array.min()), float(np.median(array)), float(array.max())) if len(array) else None


def find_item(dataset: DataSet, name: str) -> tuple[Item, int]:
    """Return the recording of a name, and its place in its split.

    Raises:
        DataError: There is none.
    """
    for split in SPLITS:
        for place, item in enumerate(dataset.split(split)):
            if item.name == name:
                return item, place
    example = dataset.split("train")[0].name
    raise DataError(f"{dataset.spec} has no recording {name!r}; they are named like {example!r}")


def single(item: Item, *, steps: int, window_s: float) -> tuple[npt.NDArray[np.float32], bool]:
    """Prepare one recording to be looked at.

    Args:
        item: The recording.
        steps: Per second.
        window_s: Of a longer recording the loudest stretch, or that of most spikes.

    Returns:
        Input (L, C): counts, or log-mel normalised by this recording alone; and whether they are counts.

    Raises:
        UsageError: Steps or window are absurd.
        DataError: The recording cannot be used.
    """
    if item.index is not None:
        bins = SpikeBins.design(steps=steps, window_s=window_s)
        with opened(item.path) as file:
            try:
                counts = bins.count(*file.spikes(item.index))
            except DataError as error:
                raise DataError(f"{item.path}: recording {item.index}: {error}") from error
        return densest_stretch(counts, bins.window_steps).astype(np.float32), True
    waveform, rate = read_recording(item.path)
    frames = FrontEnd.design(rate, steps=steps, window_s=window_s).log_mel(waveform, rate)
    return Normaliser.fit(frames[None], np.array([len(frames)]))(frames), False


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def default_folder(name: str) -> Path:
    """Return where `spikescr data get` puts a data set."""
    return Path("data") / name
