"""A data set of sound as a file of spikes, laid out as the Heidelberg data sets are; see `spikescr.data.spike_file`."""

from __future__ import annotations

import io
import logging
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikescr.data.audio import read_recording
from spikescr.data.cochlea import spikes_of
from spikescr.data.dataset import ALL, NO_LABEL, DataSet
from spikescr.data.left_out import require_enough
from spikescr.data.sounds import some_of
from spikescr.data.spike_file import KEYS, LABELS, SPEAKERS, TIMES, UNITS
from spikescr.errors import DataError, UsageError
from spikescr.files import replacing
from spikescr.progress import track

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Written:
    """What a file of spikes holds: recordings, their seconds of sound and spikes, and classes."""

    recordings: int
    seconds: float
    spikes: int
    classes: int


class _Disk(io.FileIO):
    """A new file for HDF5, whose library ends the process with signal 11 where it cannot write.

    What cannot be written is left out, so that the library comes to its end; the error is raised after that.
    """

    def __init__(self, path: Path) -> None:
        """See io.FileIO."""
        super().__init__(path, "wb+")
        self._error: OSError | None = None

    def write(self, data: Any, /) -> int:
        """See io.FileIO; writes all of it."""
        view = memoryview(data).cast("B")
        try:
            written = 0
            while written < len(view) and self._error is None:
                written += super().write(view[written:]) or 0
        except OSError as error:
            self._error = error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """See io.FileIO."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def flush(self) -> None:
        """There is nothing in between."""

    def require_room(self) -> None:
        """Raises what went wrong.

        Raises:
            OSError: The disk is full, say.
        """
        if self._error is not None:
            raise self._error

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        super().__exit__(kind, *rest)
        if kind is None:
            self.require_room()


def write_spikes(dataset: DataSet, out: Path, *, split: str = ALL, seed: int = 0) -> Written:
    """Let the cochlea of the Heidelberg data sets hear a split and write what it says, recording by recording.

    Times are float32 (as published they are float16, which rounds them to half a millisecond), units uint16, both of
    variable length; `extra/speaker` numbers the speakers of the whole data set in the order of their names, where every
    recording has one.

    Args:
        dataset: Of sound, with labels.
        out: The HDF5 file; a file of that name is replaced.
        split: train, valid, test or all.
        seed: Of the nerve fibres; each recording draws its own way, whichever others there are.

    Raises:
        UsageError: The data set holds spikes, or recordings without labels, or the folder of `out` is not there.
        DataError: Most of the recordings cannot be read; those that cannot are left out, and named.
    """
    import h5py

    items = dataset.split(split)
    if dataset.signal != "values":
        raise UsageError(f"{dataset.spec} holds spikes already")
    if not items or any(item.label == NO_LABEL for item in items):
        raise UsageError(f"{dataset.spec}: every recording must lie in the folder of its word")
    if not out.parent.is_dir():
        raise UsageError(f"{out}: there is no folder {out.parent}")
    people = {speaker: number for number, speaker in enumerate(sorted({i.speaker or "" for i in dataset.split(ALL)}))}
    labels: list[int] = []
    speakers: list[int] = []
    silent: list[str] = []
    left_out: dict[str, str] = {}
    seconds, spikes = 0.0, 0
    with replacing(out) as temporary, _Disk(temporary) as disk, h5py.File(disk, "w") as file:
        fields = [
            file.create_dataset(name, (0,), h5py.vlen_dtype(kind), maxshape=(None,), chunks=(256,))
            for name, kind in ((TIMES, np.float32), (UNITS, np.uint16))
        ]
        for item in track(items, "Listening", len(items)):
            try:
                waveform, rate = read_recording(item.path)
            except DataError as error:
                left_out[item.name] = str(error)
                continue
            found = spikes_of(waveform, rate, seed=(seed << 32) | zlib.crc32(item.name.encode()))
            for field, values in zip(fields, found, strict=True):
                field.resize(len(labels) + 1, axis=0)
                field[len(labels)] = values
            disk.require_room()
            labels.append(item.label)
            speakers.append(people[item.speaker or ""])
            seconds, spikes = seconds + len(waveform) / rate, spikes + len(found[0])
            if not len(found[0]):
                silent.append(item.name)
        require_enough(left_out, len(items))
        file[LABELS] = np.array(labels, np.uint16)
        file[KEYS] = np.array([name.encode() for name in dataset.classes])
        if all(item.speaker is not None for item in items):
            file[SPEAKERS] = np.array(speakers, np.uint16)
    if silent:
        logger.warning("%d recording(s) without a spike: %s", len(silent), some_of(silent))
    return Written(len(labels), seconds, spikes, len(dataset.classes))
