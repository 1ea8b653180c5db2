"""How confident a network must be of a word: found on validation recordings that are strung together.

The rule: of 40 thresholds, quantiles of the largest smoothed probability of all windows, the one with the fewest
mistakes, words missed and words told that were not said together; of several the lowest. A word is found where a
decision for it lies, with the middle of its sound, in its recording; a second one for the same recording is a mistake.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import librosa
import numpy as np
from numpy.typing import NDArray

from spikescr.data import Item
from spikescr.data.audio import Waveform
from spikescr.data.frontend import FrontEnd
from spikescr.data.left_out import require_enough
from spikescr.data.noise import COLOURS, coloured
from spikescr.data.sounds import hear
from spikescr.files import sha256, write_text
from spikescr.progress import advancing
from spikescr.provenance import versions
from spikescr.workflows.deployed import Deployed, choose_recordings
from spikescr.workflows.listen import KEEP, REACH_S, find_graph, open_network
from spikescr.workflows.listener import HOP_S
from spikescr.workflows.spotting import Decision, Levels, Rules, Spotter
from spikescr.workflows.windows import BATCH, Runner, Windows

RECORDINGS = 200
"""That are strung together, at most."""
GAP_S = (0.2, 1.0)
SNR_DB = (20.0, 50.0)
"""Of the noise behind a recording and the gap before it, white, pink or brown; drawn evenly, as the gap is."""
THRESHOLDS = 40
RULE = "fewest words missed and words told that were not said, on validation recordings strung together in slight noise"


@dataclass(frozen=True)
class Said:
    """A word in a stream: its class, and begin and end of its recording in seconds."""

    word: int
    begin: float
    end: float


@dataclass(frozen=True)
class Score:
    """What was told of the words of a stream; false: words told that were not said."""

    found: int
    missed: int
    false: int


@dataclass(frozen=True)
class Fit:
    """A threshold, and how it does on what it was found on.

    Attributes:
        path: The file that holds it.
        rules: What was found.
        score: Of the words of the stream.
        recordings: That were strung together.
        seconds: Of the stream.
    """

    path: Path
    rules: Rules
    score: Score
    recordings: int
    seconds: float


def fit_threshold(
    network: Path, *, data: str | None = None, split: str = "valid", seed: int = 0, backend: str = "fast"
) -> Fit:
    """Finds a network's threshold and writes it beside its graph, as listening.json.

    Args:
        network: a run folder with a graph, or the graph.
        data: data set instead of the one trained on, of the same classes.
        split: whose recordings are strung together; never those that one wants to report on.
        seed: of the draw of recordings, gaps and noise.
        backend: "fast" or "lava".

    Raises:
        SpikescrError: there is no such network, or most of the recordings cannot be read.
    """
    run, _ = find_graph(network)
    # From the beginning: no other command changes the network meanwhile. A missing folder is told by who opens it.
    with run.locked() if run.path.is_dir() else nullcontext():
        _, deployed = open_network(network)
        front_end = deployed.preprocessing.front_end
        assert isinstance(front_end, FrontEnd), "open_network refuses others"
        items = choose_recordings(deployed, data=data, split=split, limit=None, recording=None)
        items = tuple(item for item in items if item.label >= 0)
        stream, said = strung(items, front_end, seed=seed, most=RECORDINGS)
        rate = front_end.sample_rate
        centres, rows = _heard(deployed, stream, backend)
        levels = Levels(rate, len(stream) / rate + 1)
        levels.push(stream)
        scored = []
        for threshold in _candidates(rows):
            tried = Rules(threshold, KEEP * threshold, REACH_S)
            scored.append((score(_decisions(tried, front_end, centres, rows, levels), said), tried))
        best, rules = min(scored, key=lambda each: (each[0].missed + each[0].false, each[1].threshold))
        content: dict[str, Any] = {
            "threshold": rules.threshold,
            "keep": rules.keep,
            "reach_s": rules.reach_s,
            "rule": RULE,
            "hop_s": HOP_S,
            "data": data or deployed.data,
            "split": split,
            "seed": seed,
            "recordings": len(said),
            "seconds": len(stream) / rate,
            "found": best.found,
            "missed": best.missed,
            "false": best.false,
            "graph": sha256(deployed.path),
            "versions": versions("spikescr", "numpy", "librosa"),
        }
        write_text(run.listening, json.dumps(content, indent=2) + "\n")
    return Fit(run.listening, rules, best, len(said), len(stream) / rate)


def strung(
    items: Sequence[Item], front_end: FrontEnd, *, seed: int = 0, most: int = RECORDINGS
) -> tuple[Waveform, list[Said]]:
    """Recordings one after the other, at the front end's rate, with gaps between them and noise behind everything.

    Args:
        items: with labels; drawn from without repetition.
        front_end: its `sample_rate` is the stream's.
        seed: of order, gaps and noise.
        most: recordings.

    Returns:
        The stream, shape (n,), and what is said in it.

    Raises:
        DataError: most of the recordings cannot be read.
    """
    rng, rate = np.random.default_rng(seed), front_end.sample_rate
    chosen = [items[index] for index in rng.permutation(len(items))[:most]]
    parts, said, left_out, now = [], list[Said](), dict[str, str](), 0
    for item, heard, own in hear(chosen, front_end, left_out):
        waveform = heard if own == rate else librosa.resample(heard, orig_sr=own, target_sr=rate)
        gap = round(rng.uniform(*GAP_S) * rate)
        noise = coloured(rng, gap + len(waveform), rate, COLOURS[int(rng.integers(len(COLOURS)))])
        noise *= np.sqrt(np.mean(waveform**2)) * 10 ** (-rng.uniform(*SNR_DB) / 20)
        noise[gap:] += waveform
        parts.append(noise)
        said.append(Said(item.label, (now + gap) / rate, (now + len(noise)) / rate))
        now += len(noise)
    require_enough(left_out, len(chosen))
    return np.concatenate(parts), said


def score(decisions: Sequence[Decision], said: Sequence[Said]) -> Score:
    """Counts words found, missed and told without having been said; see above."""
    left = list(said)
    for decision in decisions:
        middle = (decision.onset + decision.end) / 2
        own = next((word for word in left if word.word == decision.word and word.begin <= middle <= word.end), None)
        if own is not None:
            left.remove(own)
    found = len(said) - len(left)
    return Score(found, len(left), len(decisions) - found)


def _heard(deployed: Deployed, stream: Waveform, backend: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres of all windows in seconds (n,), and what the network says of them (n, K)."""
    front_end = deployed.preprocessing.front_end
    assert isinstance(front_end, FrontEnd)
    rate = front_end.sample_rate
    cut = Windows(rate, length=front_end.window_samples(rate), hop_s=HOP_S)
    windows = [*cut.push(stream), *cut.finish()]
    runner, rows = Runner(deployed, rate, backend), []
    try:
        with advancing("Listening", len(windows)) as advance:
            for begin in range(0, len(windows), BATCH):
                batch = windows[begin : begin + BATCH]
                rows.append(runner([samples for _, samples in batch])[0])
                advance(len(batch))
    finally:
        runner.close()
    return np.array([cut.centre(number) / rate for number, _ in windows]), np.concatenate(rows)


def _candidates(rows: NDArray[np.float64]) -> list[float]:
    """Thresholds to try, ascending."""
    reach = int(REACH_S / HOP_S + 1e-9)
    padded = np.concatenate((np.zeros((reach, rows.shape[1])), rows, np.zeros((reach, rows.shape[1]))))
    smoothed = np.mean([padded[shift : shift + len(rows)] for shift in range(2 * reach + 1)], axis=0)
    return sorted({round(float(q), 4) for q in np.quantile(smoothed.max(axis=1), np.linspace(0.02, 0.98, THRESHOLDS))})


def _decisions(
    rules: Rules, front_end: FrontEnd, centres: NDArray[np.float64], rows: NDArray[np.float64], levels: Levels
) -> list[Decision]:
    spotter = Spotter(rules, hop_s=HOP_S, window_s=front_end.window_s, levels=levels)
    told = [
        decision for centre, row in zip(centres.tolist(), rows, strict=True) for decision in spotter.push(centre, row)
    ]
    return told + spotter.finish()
