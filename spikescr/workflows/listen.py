"""A deployed network hears a stream of sound and tells the words in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from spikescr.data.spikes import SpikeBins
from spikescr.data.streams import Stream, open_file
from spikescr.documents import read_model
from spikescr.errors import ExportError, UsageError
from spikescr.files import sha256
from spikescr.runs import RunFolder
from spikescr.workflows.deployed import Deployed, open_deployed, require_current
from spikescr.workflows.listener import HOP_S, Heard, Listener
from spikescr.workflows.spotting import Rules

REACH_S = 0.2
"""Seconds to either side over which probabilities are averaged."""
KEEP = 0.9
"""Confidence of a decision's other windows, as a share of the threshold."""


class Fitted(BaseModel):
    """What listening.json holds of a threshold; the rest is for people.

    Attributes:
        threshold: See `Rules`.
        keep: See there.
        reach_s: See there.
        graph: SHA-256 of the graph that it was fitted for.
    """

    threshold: float
    keep: float
    reach_s: float
    graph: str


def find_graph(path: Path) -> tuple[RunFolder, Path]:
    """The run folder and the graph in it, of either's path.

    Raises:
        SpikescrError: the folder has no graph.
    """
    if not path.is_dir():
        return RunFolder(path.parent), path
    run = RunFolder(path)
    return run, run.require(run.graph)


def open_network(path: Path) -> tuple[RunFolder, Deployed]:
    """Reads the network of a run folder or a NIR file, for sound.

    Raises:
        SpikescrError: there is none; it was not exported by us; it takes spikes.
    """
    run, graph = find_graph(path)
    with run.reading():
        deployed = open_deployed(graph)
        if path.is_dir():
            require_current(run, deployed.program.metadata)
    if isinstance(deployed.preprocessing.front_end, SpikeBins):
        raise UsageError(f"{graph}: takes recordings of spikes, not sound")
    return run, deployed


def open_listening(path: Path, threshold: float | None) -> tuple[Deployed, Rules]:
    """The network of a run folder or a NIR file, and the rules that were fitted for it or those of a threshold.

    Raises:
        SpikescrError: as `open_network` and `rules_of`.
    """
    run, _ = find_graph(path)
    with run.reading():
        run, deployed = open_network(path)
        return deployed, rules_of(run, deployed.path, threshold)


def rules_of(run: RunFolder, graph: Path, threshold: float | None) -> Rules:
    """The rules that were fitted for a graph, or those of a threshold.

    Raises:
        UsageError: the threshold is none.
        SpikescrError: none was fitted, or for another graph.
    """
    if threshold is not None:
        if not 0 < threshold <= 1:
            raise UsageError(f"threshold (--threshold) must be above 0 and at most 1. Got {threshold}")
        return Rules(threshold, KEEP * threshold, REACH_S)
    remedy = f"fit one with: {run.make_command(run.listening)}; or give a threshold (--threshold)"
    if not run.listening.exists():
        raise UsageError(
            f"{run.listening} does not exist: nobody knows how confident the network is of no word; {remedy}"
        )
    fitted = read_model(run.listening, Fitted, remedy)
    if fitted.graph != sha256(graph):
        raise ExportError(f"{run.listening} was fitted for another graph than {graph}; {remedy}")
    return Rules(fitted.threshold, fitted.keep, fitted.reach_s)


def listen(
    network: Path | str,
    source: Path | str | Stream,
    *,
    threshold: float | None = None,
    backend: str = "fast",
    hop_s: float = HOP_S,
) -> Iterator[Heard]:
    """The words in a stream of sound, each once it is certain.

    Args:
        network: a run folder with a graph, or the graph; of sound.
        source: the path of a recording of any length, or a stream of `spikescr.data.streams`.
        threshold: confidence below which what is heard is none of the words; None: what `spikescr listen --fit` found.
        backend: "fast" or "lava".
        hop_s: seconds from one window to the next.

    Returns:
        The words, one by one, with onset, end, confidence and the energy executed up to then.

    Raises:
        SpikescrError: there is no such network, threshold or recording, or the sound is damaged.

    Example:
        >>> import nir, numpy, soundfile, spikescr
        >>> nir.write("demo.nir", spikescr.to_nir(spikescr.load("runs/demo")))
        >>> soundfile.write("silence.wav", numpy.zeros(8000), 8000)
        >>> [word.word for word in spikescr.listen("demo.nir", "silence.wav", threshold=0.99)]
        []
    """
    deployed, rules = open_listening(Path(network), threshold)
    stream = source if isinstance(source, Stream) else open_file(Path(source))
    with Listener(deployed, rules, stream.rate, backend=backend, hop_s=hop_s) as listener:
        for block in stream.blocks:
            yield from listener.push(block)
        yield from listener.finish()
