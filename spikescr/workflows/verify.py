"""A network in PyTorch against its graph executed: every layer, step, neuron and sample."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikescr.checkpoint import load_checkpoint
from spikescr.data import load
from spikescr.errors import GraphError, UsageError
from spikescr.export.fold import fold
from spikescr.export.reference import Trace, trace
from spikescr.files import sha256, unchanged, write_text
from spikescr.model import Network
from spikescr.progress import track
from spikescr.provenance import versions
from spikescr.quantization.file import load_quantized
from spikescr.runs import RunFolder
from spikescr.sim.backends import Options, build
from spikescr.sim.compare import Divergence, LayerComparison, compare
from spikescr.sim.lowering.graph_file import read_graph
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Program, Signal, Source
from spikescr.sim.recording import predictions
from spikescr.sim.run import run_batches
from spikescr.workflows.deployed import Deployed, choose_recordings, open_deployed, require_current
from spikescr.workflows.modules import load_module, read_array
from spikescr.workflows.verification import Verification
from spikescr.workflows.verify_module import time_of, verify_module

if TYPE_CHECKING:
    import nir
    from torch import nn

    from spikescr.sim.program import FloatArray, IntArray


def verify(
    net: Network | nn.Module,
    graph: nir.NIRGraph | Path | str,
    x: ArrayLike,
    *,
    steps: ArrayLike | None = None,
    backend: str = "lava",
    batch_size: int = 64,
) -> Verification:
    """Runs a network in PyTorch and its graph on a backend, in float64, and compares every spike.

    Args:
        net: what `load` gave, or a network in eval mode; batch normalisation is folded in a copy, as `to_nir` does. Any
            other module is compared as it is, in float64, sample by sample.
        graph: what `to_nir` made of it, or the path of the file.
        x: input (T, B, C), T at most the window that the graph was made for; padded steps are ignored. Of any other
            module as its example was, T the window.
        steps: valid steps of each sample (B,); None: all T. Any other module has whole windows.
        backend: "lava", process by process; "fast"; or another of `spikescr.sim.backends.NAMES`.
        batch_size: samples at once.

    Returns:
        `differing`, the spikes that differ, of all layers, steps, neurons and samples: 0 is what to expect; `layers`
        with firing rates, as a silent layer proves nothing; `divergence`, the first one, with both `membranes`.

    Raises:
        GraphError: the graph cannot be run, or has other neurons than the network.
        ExportError: the network cannot be folded.
        UsageError: x or steps have another shape, or there is no such backend.
        BackendError: the backend failed.

    Example:
        >>> import numpy, torch, spikescr
        >>> from spikescr.model import ModelConfig, build
        >>> config = ModelConfig(inputs=6, classes=3, layers=1, heads=2, width=8, mlp_ratio=1, kernel=3)
        >>> net = build(config).eval()
        >>> graph = spikescr.to_nir(net, steps=10, dt=0.1)
        >>> x = 4 * numpy.random.default_rng(0).standard_normal((10, 2, 6))
        >>> spikescr.verify(net, graph, x, backend="fast").differing
        0
    """
    read = read_graph(Path(graph), type_check=False) if isinstance(graph, str | Path) else graph
    if not isinstance(net, Network) or time_of(read) is not None:
        if steps is not None:
            raise UsageError("a module's samples are whole windows; leave steps out")
        return verify_module(net, read, x, backend=backend, batch_size=batch_size)
    program = lower(read)
    values, valid = _samples(program, x, steps)
    names = tuple(f"sample {position}" for position in range(len(values)))
    return _verified(fold(net, program.dt), program, values, valid, names, backend, batch_size, _STALL_SECONDS)


def verify_run(
    run: RunFolder,
    *,
    data: str | None = None,
    split: str = "test",
    limit: int | None = None,
    recording: str | None = None,
    batch_size: int = 64,
    stall_seconds: float = 60,
) -> Verification:
    """Compares Lava's execution of a run folder's graph with PyTorch on recordings, and writes verify.json.

    Args:
        run: with checkpoint and graph; of a network in integers its own folder.
        data: data set instead of the one trained on.
        split: of the data set.
        limit: the first so many recordings only.
        recording: the one of this name only.
        batch_size: recordings at once.
        stall_seconds: after which Lava is given up.

    Raises:
        SpikescrError: something is missing in the folder, does not belong together, or cannot be run.
    """
    run.require(run.graph)
    with run.locked():
        deployed = open_deployed(run.graph)
        model = _folded_model(run, deployed)
        items = choose_recordings(deployed, data=data, split=split, limit=limit, recording=recording)
        features = load(items, deployed.preprocessing)
        verification = _verified(
            model, deployed.program, features.values, features.steps, features.names, "lava", batch_size, stall_seconds
        )
        which: dict[str, Any] = {"data": data or deployed.data, "split": split, "limit": limit, "recording": recording}
        which["left_out"] = dict(features.left_out) or None
        files = {path.name: sha256(path) for path in (run.graph, run.checkpoint)}
        packages = versions("spikescr", "torch", "spikingjelly", "lava-nc", "nir", "numpy")
        report = {**verification.as_json(), **which, "files": files, "versions": packages}
        write_text(run.verification, json.dumps(report, indent=1) + "\n")
    return verification


def verify_module_file(
    spec: str, weights: Path | None, graph: Path, data: Path, *, backend: str, batch_size: int
) -> tuple[Verification, Path]:
    """Compares a user's module with its graph, and writes NET.verify.json beside it.

    Args:
        spec: see `workflows.modules.load_module`.
        weights: see there.
        graph: the NIR file.
        data: input as the module takes it, .npy.
        backend: "lava" or "fast".
        batch_size: samples at once.

    Raises:
        SpikescrError: the module cannot be made, or the graph is not its own or cannot be run.
    """
    with unchanged(graph, data, *([] if weights is None else [weights])) as digests:
        x = read_array(data)
        read = read_graph(graph, type_check=False)
        module = load_module(spec, weights)
    try:
        verification = verify_module(module, read, x, backend=backend, batch_size=batch_size)
    except GraphError as error:
        raise GraphError(f"{graph}: {error}") from error
    packages = versions("spikescr", "torch", "spikingjelly", "lava-nc", "nir", "numpy")
    report = {
        **verification.as_json(),
        "module": spec,
        "backend": backend,
        "files": digests,
        "versions": packages,
    }
    written = graph.with_suffix(".verify.json")
    write_text(written, json.dumps(report, indent=1) + "\n")
    return verification, written


_STALL_SECONDS = 60.0


def _samples(program: Program, x: ArrayLike, steps: ArrayLike | None) -> tuple[FloatArray, IntArray]:
    """Input (T, B, C) as samples (B, window, C), zero on padded steps; valid steps (B,)."""
    given = np.asarray(x, np.float64)
    source = next((o for o in program.of_type(Source) if o.signal is not Signal.CLOCK), None)
    if source is None:
        raise GraphError("the graph has no input but a clock")
    if given.ndim != 3 or given.shape[0] > program.steps or given.shape[2] != source.width or not given.shape[1]:
        raise UsageError(
            f"x must be (T, B, {source.width}) with T at most {program.steps} and B at least 1, has shape {given.shape}"
        )
    valid = np.full(given.shape[1], len(given), np.int64) if steps is None else np.asarray(steps)
    if (
        valid.shape != given.shape[1:2]
        or valid.dtype.kind not in "iu"
        or not np.all((valid >= 1) & (valid <= len(given)))
    ):
        raise UsageError(f"steps must be integers ({given.shape[1]},) from 1 to {len(given)}, is {valid!r}")
    values = np.zeros((given.shape[1], program.steps, source.width))
    values[:, : len(given)] = given.transpose(1, 0, 2)
    values *= (np.arange(program.steps) < valid[:, None])[..., None]
    return values, valid.astype(np.int64)


def _folded_model(run: RunFolder, deployed: Deployed) -> Network:
    checkpoint = run.require(run.checkpoint)
    require_current(run, deployed.program.metadata)
    if deployed.program.fixed:
        return load_quantized(checkpoint, fold).model
    model, _ = load_checkpoint(checkpoint)
    return fold(model, deployed.program.dt)


def _verified(
    model: Network,
    program: Program,
    values: NDArray[np.floating],
    valid: IntArray,
    names: Sequence[str],
    backend: str,
    batch_size: int,
    stall_seconds: float,
) -> Verification:
    """Compares a folded model with its Program on samples (n, T, C)."""
    layers: list[LayerComparison] = []
    first: tuple[Divergence, Trace] | None = None
    logit_error, differing_predictions = 0.0, 0
    batch_size = min(batch_size, len(values))
    with build(backend, program, Options(batch_size, stall_seconds=stall_seconds)) as execution:
        batches = run_batches(program, execution, values, valid)
        for batch in track(batches, f"Verifying in {backend.capitalize()}", -(-len(values) // batch_size)):
            expected = trace(model, values[batch.samples], batch.valid)
            comparisons, divergence = compare(program, batch.recording, expected.spikes, batch.valid)
            layers = [a + b for a, b in zip(layers, comparisons, strict=True)] if layers else comparisons
            logit_error = max(logit_error, float(abs(batch.output - expected.logits).max()))
            differing = predictions(batch.output, batch.valid) != predictions(expected.logits, batch.valid)
            differing_predictions += int(differing.sum())
            if divergence is not None and first is None:
                first = replace(divergence, sample=batch.samples.start + divergence.sample), expected
                local = divergence.sample
    membranes = None
    if first is not None:
        divergence, expected = first
        reference = expected.membrane(divergence.layer, local, divergence.neuron)
        if 0 <= divergence.step < len(reference):
            one = slice(divergence.sample, divergence.sample + 1)
            executed = _membrane(program, divergence, values[one], valid[one], backend, stall_seconds)
            membranes = float(reference[divergence.step]), executed
    return Verification(
        reference="integers, as Loihi 2 computes" if program.fixed else "folded, float64",
        backend=backend,
        samples=tuple(names),
        layers=tuple(layers),
        divergence=None if first is None else first[0],
        membranes=membranes,
        logit_error=logit_error,
        differing_predictions=differing_predictions,
    )


def _membrane(
    program: Program, d: Divergence, values: NDArray[np.floating], valid: IntArray, backend: str, stall: float
) -> float:
    """The executed membrane at a divergence: the sample runs once more, alone, membranes recorded."""
    with build(backend, program, Options(1, membranes=True, stall_seconds=stall)) as execution:
        (batch,) = run_batches(program, execution, values, valid)
    late = program[d.layer].latency or 0
    return float(batch.recording.membranes[d.layer][d.step + late, 0, d.neuron])
