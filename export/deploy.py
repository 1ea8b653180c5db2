"""From a checkpoint to a deployable graph: folded, exported, with all that it takes to run it on a recording."""

from __future__ import annotations

import json
from pathlib import Path

import nir

from spikescr import dialect
from spikescr.checkpoint import CheckpointInfo, load_checkpoint
from spikescr.export.fold import fold
from spikescr.export.to_nir import to_nir
from spikescr.files import in_memory, sha256, write_bytes
from spikescr.model import Network
from spikescr.provenance import versions
from spikescr.quantization.file import load_quantized


def deploy(checkpoint: Path) -> nir.NIRGraph:
    """The NIR graph of a trained network; its metadata holds classes, data set, preprocessing, hash and versions.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ExportError: the model cannot be folded.
    """
    model, info = load_checkpoint(checkpoint)
    return network_graph(fold(model, 1 / info.preprocessing.front_end.steps), info, sha256(checkpoint))


def deploy_quantized(path: Path) -> nir.NIRGraph:
    """The NIR graph of a network in integers, from what `spikescr quantize` wrote; metadata as of `deploy`.

    Raises:
        CheckpointError: the file cannot be used.
    """
    quantized = load_quantized(path, fold)
    return network_graph(quantized.model, quantized.info.source, sha256(path))


def network_graph(model: Network, info: CheckpointInfo, source: str) -> nir.NIRGraph:
    """The graph of a network that is folded or in integers; source: SHA-256 of its checkpoint's file."""
    front_end = info.preprocessing.front_end
    data = {
        "spec": info.training.data,
        "seed": info.training.seed,
        "preprocessing": info.preprocessing.model_dump(mode="json"),
    }
    metadata = {
        dialect.CLASSES: json.dumps(info.classes, ensure_ascii=False),
        dialect.DATA: json.dumps(data),
        dialect.FRONT_END: info.preprocessing.work.model_dump_json(),
        dialect.MODEL: info.model.model_dump_json(),
        dialect.CHECKPOINT: source,
        dialect.VERSIONS: json.dumps({**info.versions, **versions("spikescr", "nir", "torch", "numpy")}),
    }
    dt, signal = 1 / front_end.steps, info.preprocessing.signal
    return to_nir(model, steps=front_end.window_steps, dt=dt, signal=signal, metadata=metadata)


def write_graph(path: Path, graph: nir.NIRGraph) -> None:
    """Writes a NIR file as a whole or not at all."""
    write_bytes(path, packed(graph))


def packed(graph: nir.NIRGraph) -> bytes:
    """The content of a NIR file; equal graphs give equal bytes."""
    return in_memory(lambda file: nir.write(file, graph))
