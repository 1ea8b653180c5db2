"""The embedded data set `digits`: zero to nine in English and German, spoken by espeak-ng, 20 classes as in SHD.

Made on first use into a cache folder, in the layout of Google Speech Commands, and read from there by
`spikescr.data.folder`. The folder's name has a hash of all that the recordings follow from (the script, and the code of
this module and of `spikescr.data.espeak`): what another version made is never taken for this one's. A variant (the
timbre of a speaker) is heard in one split only. The same files come out each time on one machine.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikescr.data.audio import Waveform
from spikescr.data.cache import cache_folder, publish, workshop
from spikescr.data.dataset import DataSet
from spikescr.data.folder import LISTS, open_folder
from spikescr.errors import DataError
from spikescr.progress import track

RATE = 16_000
LONGEST_S = 1.0

SPEAKER = (sys.executable, "-m", "spikescr.data.espeak")
"""Command that speaks."""
SPEAKER_SECONDS = 60.0
"""In which each word must come; it takes milliseconds."""
SPOKEN_BYTES = 2 * 10 * 48_000
"""Of a word, at most: ten seconds at a higher rate than espeak-ng's."""

ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
GERMAN = ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun")
ASCII = str.maketrans({"ü": "ue"})
CLASSES = tuple(f"en_{word}" for word in ENGLISH) + tuple(f"de_{word.translate(ASCII)}" for word in GERMAN)

# Variants of espeak-ng with a human timbre, none nearly equal to one of another split.
VARIANTS = {
    "train": (
        *("m1", "m2", "m3", "m5", "m7", "m8", "f1", "f2", "f5", "Annie", "aunty", "Diogo"),
        *("Michael", "adam", "pablo", "boris", "quincy", "sandro"),
    ),
    "valid": ("m4", "f4", "Denis", "max"),
    "test": ("m6", "f3", "belinda", "Gene", "iven3", "marcelo"),
}
ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-us-nyc", "en-029")
VOICES_PER_VARIANT = 2
TAKES = 3


@dataclass(frozen=True)
class Voice:
    """A speaker.

    Attributes:
        name: In the names of recordings.
        split: train, valid or test; no voice is in two.
        variant: espeak-ng's timbre.
        accent: Of English.
        pitch: About which the recordings' pitches lie, 0 to 100.
        speed: Likewise, words per minute.
    """

    name: str
    split: str
    variant: str
    accent: str
    pitch: int
    speed: int


@dataclass(frozen=True)
class Utterance:
    """What `spikescr.data.espeak` is asked to say."""

    text: str
    voice: str
    speed: int
    pitch: int
    pitch_range: int


@dataclass(frozen=True)
class Take:
    """One recording.

    Attributes:
        name: In the data set.
        split: Of its voice.
        utterance: What is said, and how.
        peak: Largest sample, 1 being full scale.
        lead_s: Seconds of silence before it.
        tail_s: Seconds of silence after it.
    """

    name: str
    split: str
    utterance: Utterance
    peak: float
    lead_s: float
    tail_s: float


def voices() -> tuple[Voice, ...]:
    """Return all speakers, `VOICES_PER_VARIANT` of each variant: the first lower and slower, the second the reverse."""
    rng = np.random.default_rng(2412_12858)
    cast = []
    for split, variants in VARIANTS.items():
        for variant in variants:
            accents = rng.permutation(ACCENTS)
            for index in range(VOICES_PER_VARIANT):
                pitch = int(rng.integers(25, 50)) + 25 * index
                speed = int(rng.integers(120, 145)) + 35 * index
                cast.append(Voice(f"{variant.lower()}-{index}", split, variant, str(accents[index]), pitch, speed))
    return tuple(cast)


def takes(cast: Sequence[Voice], count: int = TAKES) -> list[Take]:
    """Return the recordings to make: each voice says each word `count` times, each time a little differently."""
    rng = np.random.default_rng(1)
    script = []
    for voice in cast:
        for word, text in zip(CLASSES, ENGLISH + GERMAN, strict=True):
            accent = voice.accent if word.startswith("en_") else "de"
            for number in range(count):
                utterance = Utterance(
                    text=text,
                    voice=f"{accent}+{voice.variant}",
                    speed=round(voice.speed * rng.uniform(0.88, 1.12)),
                    pitch=int(np.clip(voice.pitch + rng.integers(-8, 9), 0, 99)),
                    pitch_range=int(rng.integers(30, 71)),
                )
                peak = 10 ** (rng.uniform(-14, -2) / 20)
                lead_s, tail_s = rng.uniform(0.0, 0.06, size=2)
                name = f"{word}/{voice.name}_nohash_{number}.wav"
                script.append(Take(name, voice.split, utterance, peak, lead_s, tail_s))
    return script


def open_digits(cache: Path | None = None) -> DataSet:
    """Open the embedded data set; make it first where the cache does not have it.

    Args:
        cache: Folder to keep it in; default: see `cache_folder`.

    Raises:
        DataError: It cannot be made or written, or is not as it was made.
    """
    script = takes(voices())
    root = (cache or cache_folder()) / folder_name(script)
    if not root.exists():
        make_digits(root, script)
    try:
        dataset = open_folder(root, "digits", classes=CLASSES)
        expected = {(take.split, take.name) for take in script}
        present = {(split, item.name) for split, items in dataset.items.items() for item in items}
        if present != expected:
            kept, others = len(present & expected), len(present - expected)
            raise DataError(
                f"{kept} of {len(expected)} recordings are in their places, {others} other{'s' * (others != 1)}"
            )
    except DataError as error:
        raise DataError(
            f"{root} is not as it was made ({error}); delete this folder so that it is made again"
        ) from error
    return dataset


def folder_name(script: Sequence[Take]) -> str:
    """Return the name of the folder in the cache: `digits-` and a hash of the script and of the code that speaks it."""
    digest = hashlib.sha256(json.dumps([asdict(take) for take in script]).encode())
    for source in (Path(__file__), Path(__file__).with_name("espeak.py")):
        digest.update(source.read_bytes())
    return f"digits-{digest.hexdigest()[:12]}"


def make_digits(root: Path, script: Sequence[Take]) -> None:
    """Speak a script into the folder `root`, which appears complete or not at all.

    Where another process makes the same folder at the same time, the first to finish wins. What killed processes left
    beside it is removed.

    Raises:
        DataError: espeak-ng is missing or fails, or the folder cannot be written.
    """
    import soundfile

    if importlib.util.find_spec("espeakng_loader") is None:
        raise DataError(
            "data set 'digits' is spoken by espeak-ng, which is not installed: pip install espeakng-loader "
            "(or 'spikescr[digits]')"
        )
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with workshop(root) as temporary:
            made = temporary / root.name  # inside: the temporary folder itself is closed to other users
            for word in CLASSES:
                (made / word).mkdir(parents=True)
            spoken = _speak([take.utterance for take in script], temporary)
            for take, (samples, rate) in zip(script, track(spoken, "Speaking digits", len(script)), strict=True):
                soundfile.write(made / take.name, _record(samples, rate, take), RATE, subtype="PCM_16")
            for split, list_name in LISTS.items():
                names = sorted(take.name for take in script if take.split == split)
                (made / list_name).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
            publish(made, root)
    except OSError as error:
        raise DataError(f"{error.filename or root}: data set 'digits' cannot be written: {error.strerror}") from error


def _speak(utterances: Sequence[Utterance], folder: Path) -> Iterator[tuple[npt.NDArray[np.int16], int]]:
    """Yield samples and rate in Hz of each utterance, from a fresh process; `folder` takes its input and messages."""
    lines = folder / "utterances.jsonl"
    lines.write_text("".join(json.dumps(asdict(utterance)) + "\n" for utterance in utterances), encoding="ascii")
    errors = folder / "errors.txt"
    with (
        lines.open("rb") as stdin,
        errors.open("wb") as stderr,
        subprocess.Popen(SPEAKER, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, bufsize=0) as process,
    ):
        word: tuple[npt.NDArray[np.int16], int] | None = None
        try:
            for utterance in utterances:
                word = _hear(process, utterance, deadline=time.monotonic() + SPEAKER_SECONDS)
                if word is None:
                    break
                yield word
            status = process.wait(SPEAKER_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise DataError(f"data set 'digits': espeak-ng does not end within {SPEAKER_SECONDS:g} s") from error
        finally:
            process.kill()  # or it would be waited for, where nobody listens any more
    if status:
        said = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no message"]
        raise DataError(f"data set 'digits': espeak-ng failed with status {status}: {said[-1]}")
    if word is None:
        raise DataError("data set 'digits': espeak-ng ended before its last word")


def _hear(
    process: subprocess.Popen[bytes], utterance: Utterance, deadline: float
) -> tuple[npt.NDArray[np.int16], int] | None:
    """Samples and rate in Hz of what is spoken next; None where the process ended before."""

    def read(size: int) -> bytes:
        assert process.stdout is not None
        pipe, found = process.stdout.fileno(), bytearray()
        while len(found) < size:
            if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise DataError(
                    f"data set 'digits': espeak-ng does not say '{utterance.text}' with the voice "
                    f"'{utterance.voice}' within {SPEAKER_SECONDS:g} s"
                )
            piece = os.read(pipe, size - len(found))
            if not piece:
                break
            found += piece
        return bytes(found)

    head = read(8)
    if len(head) < 8:
        return None
    rate, count = struct.unpack("<II", head)
    if not 0 < 2 * count <= SPOKEN_BYTES or not 0 < rate <= 192_000:
        raise DataError(
            f"data set 'digits': espeak-ng says '{utterance.text}' with the voice '{utterance.voice}' in {count:,} "
            f"samples at {rate:,} Hz, which is no word"
        )
    samples = read(2 * count)
    return (np.frombuffer(samples, dtype="<i2"), rate) if len(samples) == 2 * count else None


def _record(samples: npt.NDArray[np.int16], rate: int, take: Take) -> Waveform:
    """Trim the silence at both ends, resample, scale to the take's peak and put its own silence around."""
    import librosa

    word = samples / 32768
    loud = np.flatnonzero(np.abs(word) > 0.01 * np.abs(word).max())
    word = word[loud[0] : loud[-1] + 1]
    word = librosa.resample(word, orig_sr=rate, target_sr=RATE)
    word *= take.peak / np.abs(word).max()
    waveform: Waveform = np.pad(word, (round(take.lead_s * RATE), round(take.tail_s * RATE)))
    assert len(waveform) <= LONGEST_S * RATE, f"{take.name} lasts {len(waveform) / RATE} s; the voice is too slow"
    return waveform
