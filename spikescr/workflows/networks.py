"""Trained networks, and the graphs that are made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spikescr.checkpoint import load_checkpoint
from spikescr.errors import UsageError
from spikescr.export.deploy import network_graph
from spikescr.export.fold import fold
from spikescr.export.to_nir import to_nir as chart
from spikescr.files import unchanged
from spikescr.model import Network
from spikescr.quantization.file import load_quantized
from spikescr.runs import RunFolder

if TYPE_CHECKING:
    import nir
    from numpy.typing import ArrayLike
    from torch import Tensor, nn

    from spikescr.export.record.step import Axes, Time


DEFAULT_DT = 1e-3
"""Seconds per step of a module that does not say."""


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
    with unchanged(file) as digests:
        if run.is_in_integers:
            quantized = load_quantized(file, fold)
            net, net.info = quantized.model, quantized.info.source
        else:
            net, net.info = load_checkpoint(file)
    net.source = digests[file.name]
    return net


def module_graph(module: nn.Module, example: ArrayLike | Tensor, *, dt: float, time: Time, axes: Axes) -> nir.NIRGraph:
    """The NIR graph of any module; see `to_nir`."""
    import torch

    from spikescr.export.module.convert import export_module

    given = example if isinstance(example, torch.Tensor) else torch.from_numpy(np.asarray(example, np.float64))
    return export_module(module, given, dt=dt, time=time, axes=axes).graph


def to_nir(
    net: Network | nn.Module,
    example: ArrayLike | Tensor | None = None,
    *,
    steps: int | None = None,
    dt: float | None = None,
    time: Time = "steps",
    axes: Axes = (0, 1),
) -> nir.NIRGraph:
    """The NIR graph of a network: exact, batch normalisation folded, in the dialect that docs/nir.md describes.

    Args:
        net: what `load` gave; a network of one's own of `spikescr.model` in eval mode, real or in integers; or any
            module of PyTorch's and SpikingJelly's layers, which is recorded on the example. It is not changed.
        example: of any module: an input as it takes it, (T, B, ...).
        steps: T, steps of the window; None: as it was trained with. Of any module the example's.
        dt: seconds per step; None: as it was trained with, of any module 1 ms.
        time: how the example's steps reach any module: "steps", all in one call; "loop", the module is called with
            (B, ...) once for each; "held", the example has none, (B, ...), and the module repeats it itself.
        axes: where any module wants steps and samples, (2, 0) for (B, C, T, F); the example is (T, B, C, F) even so.

    Returns:
        The graph, whose metadata tells window, step, and of a trained network classes, data set, preprocessing,
        checkpoint and versions. `nir.write(path, graph)` makes a file of it, which every command takes.

    Raises:
        UsageError: steps or dt are missing of a network that was not loaded, or other than it was trained with; any
            module comes without an example.
        ExportError: the network cannot be folded; something in a module has no place in a graph.

    Example:
        >>> import spikescr
        >>> from spikescr.model import ModelConfig, build
        >>> net = build(ModelConfig(inputs=6, classes=3, layers=1, heads=2, width=8, mlp_ratio=1, kernel=3)).eval()
        >>> graph = spikescr.to_nir(net, steps=10, dt=0.1)
        >>> graph.metadata["spikescr.steps"]
        10
        >>> import torch
        >>> from spikingjelly.activation_based import layer, neuron
        >>> own = torch.nn.Sequential(layer.Conv2d(1, 4, 3, step_mode="m"), neuron.IFNode(step_mode="m"))
        >>> sorted(spikescr.to_nir(own, torch.rand(6, 2, 1, 8, 8)).nodes)  # 6 steps, 2 samples
        ['0', '1', 'input', 'output']
    """
    if example is not None:
        if steps is not None:
            raise UsageError("steps are the example's where there is one; leave them out")
        return module_graph(net, example, dt=DEFAULT_DT if dt is None else dt, time=time, axes=axes)
    if not isinstance(net, Network):
        raise UsageError(f"{type(net).__name__} is recorded: give an example of its input, (T, B, ...)")
    if net.info is None:
        if steps is None or dt is None:
            raise UsageError("the network does not tell its window: give steps, and dt in seconds per step")
        return chart(fold(net, dt), steps=steps, dt=dt)
    front_end = net.info.preprocessing.front_end
    for name, given, own in (("steps", steps, front_end.window_steps), ("dt", dt, 1 / front_end.steps)):
        if given not in (None, own):
            raise UsageError(f"{name} {given}: the network was trained with {own}; leave it out")
    return network_graph(fold(net, 1 / front_end.steps), net.info, net.source)
