"""Speak words with espeak-ng; a program of its own, run as `python -m spikescr.data.espeak`.

Reads one JSON object per line: text, voice (`accent+variant`), speed (words per minute), pitch and pitch_range (0 to
100). Writes for each the rate in Hz and the number of samples (two little-endian 32-bit integers), then the samples
(16 bit). A process of its own because espeak-ng keeps oscillator and noise state from one utterance to the next: only a
fresh process that speaks the same words in the same order makes the same samples.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys
import tempfile
from pathlib import Path

# From espeak-ng's speak_lib.h.
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_DONT_EXIT = 0x8000
CHARS_UTF8 = 1
POS_CHARACTER = 1
RATE, VOLUME, PITCH, PITCH_RANGE = 1, 2, 3, 4

QUIET_ENOUGH = 50
"""Volume at which no voice clips (100 is the default)."""
LONGEST_PATH = 120
"""espeak-ng keeps its data path in 160 bytes, names of files in it included."""

SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int16), ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """A running espeak-ng; one per process.

    Attributes:
        rate: Output rate in Hz.
    """

    def __init__(self, library: str, data: Path) -> None:
        """Load espeak-ng.

        Args:
            library: Path of the shared library.
            data: Its `espeak-ng-data` folder.
        """
        self._espeak = ctypes.CDLL(library)
        self._data = data
        self.rate = self._espeak.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, bytes(data), INITIALIZE_DONT_EXIT)
        if self.rate <= 0:
            raise RuntimeError(f"espeak-ng does not start with the voices in {data}")
        self._espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))  # breath is noise, by default seeded with the time
        self._pieces: list[bytes] = []
        self._callback = SynthCallback(self._collect)  # espeak-ng keeps no reference: it must live as long as self
        self._espeak.espeak_SetSynthCallback(self._callback)

    def say(self, *, text: str, voice: str, speed: int, pitch: int, pitch_range: int) -> bytes:
        """Return 16-bit samples of a text spoken by a voice (`accent+variant`)."""
        # An unknown variant would be replaced by the plain voice without an error.
        if not (self._data / "voices" / "!v" / voice.partition("+")[2]).is_file():
            raise RuntimeError(f"espeak-ng has no variant for the voice '{voice}' in {self._data}")
        if self._espeak.espeak_SetVoiceByName(voice.encode()):
            raise RuntimeError(f"espeak-ng has no voice '{voice}' in {self._data}")
        for parameter, value in {RATE: speed, VOLUME: QUIET_ENOUGH, PITCH: pitch, PITCH_RANGE: pitch_range}.items():
            self._espeak.espeak_SetParameter(parameter, value, 0)
        self._pieces.clear()
        utf8 = text.encode()
        error = self._espeak.espeak_Synth(utf8, len(utf8) + 1, 0, POS_CHARACTER, 0, CHARS_UTF8, None, None)
        if error or self._espeak.espeak_Synchronize() or not self._pieces:
            raise RuntimeError(f"espeak-ng does not say '{text}' with the voice '{voice}'")
        return b"".join(self._pieces)

    def _collect(self, samples: ctypes._Pointer[ctypes.c_int16], count: int, _events: int | None) -> int:
        """Keep what espeak-ng hands over; 0 asks it to go on."""
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, 2 * count))
        return 0


def main() -> None:
    """Speak the lines of standard input to standard output."""
    import espeakng_loader

    data = Path(espeakng_loader.get_data_path())
    with tempfile.TemporaryDirectory() as folder:
        if len(bytes(data)) > LONGEST_PATH:
            short = Path(folder) / "espeak-ng-data"
            short.symlink_to(data, target_is_directory=True)
            data = short
        espeak = Espeak(espeakng_loader.get_library_path(), data)
        for line in sys.stdin:
            samples = espeak.say(**json.loads(line))
            sys.stdout.buffer.write(struct.pack("<II", espeak.rate, len(samples) // 2) + samples)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
