"""Trained networks, and the graphs that are made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spikescr.checkpoint import load_checkpoint
from spikescr.errors import UsageError
from spikescr.export.deploy import network_graph
from spikescr.export.fold import fold
from spikescr.export.to_nir import to_nir as chart
from spikescr.files import sha256
from spikescr.quantization.file import load_quantized
from spikescr.runs import RunFolder

if TYPE_CHECKING:
    import nir

    from spikescr.model import Network


def load(path: Path | str) -> Network:
    """Reads a trained network.

    Args:
        path: a run folder, or a checkpoint in it; of a network in integers its folder loihi2/, or the file in that.

    Returns:
        The network in eval mode, a torch module: real ones float32 with batch normalisation, those in integers float64.
        Called with input x (T, B, C) and valid steps (B,) it gives logits (T, B, K). Its `info` is what the file tells:
        `info.classes`, `info.preprocessing`, `info.training`, `info.valid_accuracy`, ...; its `source` is the file's
        SHA-256.

    Raises:
        CheckpointError: there is no such file, or it is damaged or no checkpoint of spikescr.
        SpikescrError: the run folder has no checkpoint.

    Example:
        >>> import spikescr
        >>> net = spikescr.load("runs/demo")
        >>> net.info.model.name, len(net.info.classes) == net.head.out_features
        ('1L-2-16', True)
    """
    given = Path(path)
    run = RunFolder(given if given.is_dir() else given.parent)
    file = run.require(run.checkpoint) if given.is_dir() else given
    if run.is_in_integers:
        quantized = load_quantized(file, fold)
        net, net.info = quantized.model, quantized.info.source
    else:
        net, net.info = load_checkpoint(file)
    net.source = sha256(file)
    return net


def to_nir(net: Network, *, steps: int | None = None, dt: float | None = None) -> nir.NIRGraph:
    """The NIR graph of a network: exact, batch normalisation folded, in the dialect that docs/nir.md describes.

    Args:
        net: what `load` gave; or a network of one's own in eval mode, real or in integers. It is not changed.
        steps: T, steps of the window; None: as it was trained with.
        dt: seconds per step; None: as it was trained with.

    Returns:
        The graph, whose metadata tells window, step, and of a trained network classes, data set, preprocessing,
        checkpoint and versions. `nir.write(path, graph)` makes a file of it, which every command takes.

    Raises:
        UsageError: steps or dt are missing of a network that was not loaded, or other than it was trained with.
        ExportError: the network cannot be folded.

    Example:
        >>> import spikescr
        >>> from spikescr.model import ModelConfig, build
        >>> net = build(ModelConfig(inputs=6, classes=3, layers=1, heads=2, width=8, mlp_ratio=1, kernel=3)).eval()
        >>> graph = spikescr.to_nir(net, steps=10, dt=0.1)
        >>> graph.metadata["spikescr.steps"]
        10
    """
    if net.info is None:
        if steps is None or dt is None:
            raise UsageError("the network does not tell its window: give steps, and dt in seconds per step")
        return chart(fold(net, dt), steps=steps, dt=dt)
    front_end = net.info.preprocessing.front_end
    for name, given, own in (("steps", steps, front_end.window_steps), ("dt", dt, 1 / front_end.steps)):
        if given not in (None, own):
            raise UsageError(f"{name} {given}: the network was trained with {own}; leave it out")
    return network_graph(fold(net, 1 / front_end.steps), net.info, net.source)
