"""`spikescr listen`: the words in a file, a pipe or what the microphone hears."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spikescr.cli.console import notices, notify, output
from spikescr.cli.options import max_memory
from spikescr.cli.text import percent, si
from spikescr.errors import UsageError

MOST_HZ, MOST_CHANNELS = 10_000_000, 1024  # of sound, and of what libsndfile reads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spikescr.data.streams import Stream
    from spikescr.workflows.listener import Heard, Summary

EPILOG = """\b
Examples:
  spikescr listen runs/latest --fit
      once: how confident the network must be of a word, on validation recordings; writes runs/latest/listening.json
  spikescr listen runs/latest words.wav
      a recording of any length: WAV, FLAC, OGG, whatever libsndfile reads
  arecord -t raw -f S16_LE -r 16000 | spikescr listen runs/latest - --rate 16000
      raw samples from a pipe; a WAV header, as arecord writes it without -t raw, tells rate and format itself
  spikescr listen runs/latest mic --json
      the microphone (mic:NAME or mic:NUMBER for another than the system's), until Ctrl-C; a JSON object in each line

\b
A line for each word: when it begins, the word, confidence, energy executed by the network up to then. A word is told
once no window to come can concern it, about a window's length after it. At the end: windows, energy, latency, share of
a core.
"""


@click.command(epilog=EPILOG)
@click.argument("network", metavar="RUN|NET", type=click.Path(path_type=Path))
@click.argument("source", required=False)
@click.option("--fit", "fit", is_flag=True, help="Find the threshold on validation recordings and keep it.")
@click.option("--data", help="With --fit: data set instead of the one trained on.")
@click.option("--threshold", type=float, help="Least confidence of a word. Default: what --fit found.")
@click.option("--hop", type=float, default=0.1, show_default=True, help="Seconds from one window to the next.")
@click.option("--backend", type=click.Choice(["fast", "lava"]), default="fast", show_default=True)
@click.option(
    "--rate", type=click.IntRange(1, MOST_HZ), help="Hz, of raw samples and the microphone. Default: the network's."
)
@click.option(
    "--format", "form", default="s16le", show_default=True, help="Of raw samples: u8, s16le, s24le, f32le, ..."
)
@click.option("--channels", type=click.IntRange(1, MOST_CHANNELS), default=1, show_default=True, help="Of raw samples.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object in each line.")
@max_memory
def command(
    network: Path,
    source: str | None,
    fit: bool,
    data: str | None,
    threshold: float | None,
    hop: float,
    backend: str,
    rate: int | None,
    form: str,
    channels: int,
    as_json: bool,
) -> None:
    """Tell the words in SOURCE: a recording, - for standard input, mic for the microphone."""
    if fit == (source is not None) or (data is not None and not fit) or (fit and threshold is not None):
        raise UsageError(
            "give a SOURCE to listen to (a file, - or mic), or --fit, which takes --data and no --threshold"
        )
    if fit:
        _fit(network, data, backend)
        return
    with notices().status("Loading the network"):
        from spikescr.workflows.listen import open_listening
        from spikescr.workflows.listener import Listener, sample_rate

        deployed, rules = open_listening(network, threshold)
        stream = _open(str(source), sample_rate(deployed), rate=rate, form=form, channels=channels)
        listener = Listener(deployed, rules, stream.rate, backend=backend, hop_s=hop)
    notify(f"listening to {stream.name}; words from a confidence of {rules.threshold:.2f} on")
    with listener:
        try:
            for block in stream.blocks:
                _tell(listener.push(block), as_json)
        except KeyboardInterrupt:
            notify("interrupted; what was heard is told")
        _tell(listener.finish(), as_json)
    _sum_up(listener.summary(stream.lost()), as_json)


def _fit(network: Path, data: str | None, backend: str) -> None:
    with notices().status("Loading the network"):
        from spikescr.workflows.listen_fit import fit_threshold

    found = fit_threshold(network, data=data, backend=backend)
    score = found.score
    output().print(
        f"threshold {found.rules.threshold:.4f}: of {found.recordings} recordings in {found.seconds:.0f} s "
        f"{score.found} found, {score.missed} missed; {score.false} false, "
        f"{60 * score.false / found.seconds:.1f} per minute"
    )
    output().print(f"wrote {found.path}", soft_wrap=True)


def _open(source: str, own: int, *, rate: int | None, form: str, channels: int) -> Stream:
    from spikescr.data.streams import MICROPHONE, PIPE, open_file, open_microphone, open_pipe

    if source == PIPE:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("standard input is a terminal: send sound into it, arecord ... | spikescr listen RUN -")
        return open_pipe(sys.stdin.buffer, rate=rate or own, form=form, channels=channels)
    name, _, device = source.partition(":")
    if name == MICROPHONE and not Path(source).exists():
        return open_microphone(rate=rate or own, device=device or None)
    if rate is not None:
        raise UsageError(f"{source}: a recording tells its rate itself; leave out --rate")
    return open_file(Path(source))


def _tell(words: Iterable[Heard], as_json: bool) -> None:
    for word in words:
        line = json.dumps(word.as_json(), ensure_ascii=False) if as_json else str(word)
        output().print(line, soft_wrap=True)


def _sum_up(summary: Summary, as_json: bool) -> None:
    if as_json:
        told_as_json = {"summary": asdict(summary) | {"cpu_share": summary.cpu_share}}
        output().print(json.dumps(told_as_json), soft_wrap=True)
        return
    told = [f"{summary.seconds:.1f} s, {summary.windows} windows, {summary.words} words"]
    told.append(f"{si(summary.energy_j, 'J')} in the network, {si(summary.front_end_j, 'J')} before it")
    if summary.told_after_s is not None:
        told.append("told {:.2f} s after a word's end (median; most {:.2f} s)".format(*summary.told_after_s))
    if summary.compute_s is not None:
        told.append("computed within {} (median; most {})".format(*(si(each, "s") for each in summary.compute_s)))
    told.append(f"{percent(summary.cpu_share)} of a core")
    if summary.lost:
        told.append(f"samples were lost {summary.lost} times: the machine is too slow, or --hop too short")
    output().print("; ".join(told), soft_wrap=True)
