"""Small valid files of each kind, made by the commands themselves from fixed seeds."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import nir
import numpy as np
import soundfile
from helpers import write_heidelberg, write_tones

from spikescr.training.config import CurriculumConfig
from spikescr.training.distill import JobRecord

DT = 1e-3
SMALL = ("steps=10", "model.heads=2", "model.width=8", "model.mlp_ratio=1", "model.kernel=3", "batch_size=16")
TRAIN = ("train", "--data", "folder:{corpus}/tones", "--run", "{folder}", "epochs=2", "threads=1", *SMALL)
"""Words of the command that trained `run`."""
TRAINED = ("run", "half", "begun", "job", "tones")
"""What is made together, by training a network."""
KILLED = """
from pathlib import Path
from spikescr.runs import RunFolder
from spikescr.workflows import execution

class KilledError(Exception):
    pass

def killed(*_):
    raise KilledError

execution._sum_up = killed
try:
    execution.simulate_recordings(RunFolder(Path("begun")), execution.Request(limit=4, chunk_size=2))
except KilledError:
    pass
"""
"""A simulation that ends when its chunks are done."""
SOUNDS = (
    *("wav PCM_16", "wav FLOAT", "wav GSM610", "wav MS_ADPCM", "wav ULAW", "flac PCM_16", "ogg VORBIS", "ogg OPUS"),
    *("aiff PCM_24", "au ALAW", "caf PCM_16", "w64 PCM_16", "rf64 PCM_16", "mp3 MPEG_LAYER_III"),
)
"""Suffix and coding."""


def corpus(folder: Path, parts: Iterable[str]) -> Path:
    """The folder with some parts in it, each made where it is not there yet; those of `TRAINED` take a minute.

    `graphs` has networks with an input each of the same name, `inputs` some for `graphs/chain.nir`, `sounds` recordings
    of many formats, `shd` recordings of spikes. `run` is a run folder with a checkpoint, a state of training, a graph,
    a simulation and its network in integers, `half` the same training after its first epoch, `begun` a simulation of
    which one chunk is missing, `job` has a curriculum, `tones` is the data set of these four.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted({"trained" if part in TRAINED else part for part in parts}):
        ready = folder / f"{name}.complete"
        if not ready.exists():
            _MAKE[name](folder)
            ready.touch()
    return folder


def _graphs_and_inputs(folder: Path) -> None:
    (folder / "graphs").mkdir(exist_ok=True)
    for name, graph in _graphs().items():
        nir.write(folder / "graphs" / f"{name}.nir", graph)
        shape = next(tuple(node.output_type["output"]) for node in graph.nodes.values() if isinstance(node, nir.Input))
        np.save(folder / "graphs" / f"{name}.npy", np.ones((4, *shape)))


def _trained(folder: Path) -> None:
    write_tones(folder / "tones", takes=2)
    (folder / "tones/high/00000005_nohash_9.wav").write_bytes(b"RIFF")  # is left out
    for command in (
        tuple(word.format(corpus=folder.resolve(), folder="run") for word in TRAIN),
        ("export", "--to", "nir", "--run", "run"),
        ("simulate", "--run", "run", "--limit", "4"),
        ("quantize", "--run", "run"),
    ):
        _run(folder, "-m", "spikescr", *command)
    shutil.copytree(folder / "run", folder / "half", ignore=shutil.ignore_patterns("00002-*", "loihi2", "simulation"))
    shutil.copytree(folder / "run", folder / "begun", ignore=shutil.ignore_patterns("checkpoints", "loihi2"))
    _run(folder, "-c", KILLED)
    (folder / "begun/simulation/chunks/000001.npz").unlink()
    (folder / "job").mkdir()
    (folder / "job/curriculum.json").write_text(JobRecord(config=CurriculumConfig()).model_dump_json(indent=2))


def _run(folder: Path, *words: str) -> None:
    found = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    if found.returncode:
        raise RuntimeError(f"the corpus could not be made: {' '.join(words)}: {found.stderr}")


def _chain(*nodes: nir.NIRNode, shape: tuple[int, ...], **metadata: object) -> nir.NIRGraph:
    named = {"input": nir.Input(np.array(shape))} | {f"n{i}": node for i, node in enumerate(nodes)}
    named["output"] = nir.Output(np.array(next(iter(nodes[-1].output_type.values()))))
    return nir.NIRGraph(named, [*itertools.pairwise(named)], metadata=metadata, type_check=False)


def _lif(*shape: int) -> nir.LIF:
    one = np.ones(shape)
    return nir.LIF(2 * DT * one, 2 * one, 0 * one, one, 0 * one)


def _graphs() -> dict[str, nir.NIRGraph]:
    rng = np.random.default_rng(0)
    one = np.ones(3)
    two = np.array([2, 2])
    recurrent = _chain(nir.Linear(rng.normal(size=(3, 3))), _lif(3), shape=(3,), dt=DT)
    recurrent.nodes |= {"back": nir.Affine(rng.normal(size=(3, 3)), one), "late": nir.Delay(2 * DT * one)}
    recurrent.edges += [("n1", "late"), ("late", "back"), ("back", "n1")]
    inner = _chain(nir.Scale(0.5 * one), nir.CubaLIF(2 * DT * one, 3 * DT * one, one, 0 * one, one), shape=(3,))
    return {
        "chain": _chain(nir.Affine(rng.normal(size=(4, 3)), np.ones(4)), _lif(4), shape=(3,), dt=DT),
        "image": _chain(
            nir.Conv2d((6, 6), rng.normal(size=(2, 1, 3, 3)), 1, 1, 1, 1, np.zeros(2)),
            _lif(2, 6, 6),
            nir.SumPool2d(two, two, 0 * two),
            nir.Flatten({"input": np.array([2, 3, 3])}, 0, -1),
            nir.Linear(rng.normal(size=(4, 18))),
            nir.IF(np.ones(4), np.ones(4)),
            shape=(1, 6, 6),
            dt=DT,
        ),
        "sound": _chain(
            nir.Conv1d(8, rng.normal(size=(2, 1, 3)), 1, 1, 1, 1, np.zeros(2)),
            nir.LI(2 * DT * np.ones((2, 8)), np.ones((2, 8)), np.zeros((2, 8))),
            nir.Threshold(np.ones((2, 8))),
            shape=(1, 8),
            dt=DT,
        ),
        "recurrent": recurrent,
        "nested": _chain(nir.Linear(rng.normal(size=(3, 3))), inner, shape=(3,), dt=DT),
    }


def _inputs(folder: Path) -> None:
    """The same array, and events, in every format that `simulate --input` reads."""
    folder = folder / "inputs"
    folder.mkdir()
    x = np.random.default_rng(0).integers(0, 2, (4, 2, 3)).astype(float)
    np.save(folder / "array.npy", x)
    np.savez(folder / "arrays.npz", input=x)
    with h5py.File(folder / "plain.h5", "w") as file:
        file["input"] = x
    times = np.array([[0.001, 0.003], [0.002, 0.0035]])
    recorded = {
        "grid": nir.TimeGriddedData(x.transpose(1, 0, 2), DT),
        "events": nir.EventData(np.array([[0, 2], [1, 1]]), times, 3, 0.004),
    }
    for name, data in recorded.items():
        nir.write_data(folder / f"{name}.h5", nir.NIRGraphData({"input": nir.NIRNodeData({"spikes": data})}))


def _spikes(folder: Path) -> None:
    write_heidelberg(folder / "shd", "shd", {"train": 6, "test": 2})


def _sounds(folder: Path) -> None:
    folder = folder / "sounds"
    folder.mkdir()
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 2000)
    for number, (suffix, coding) in enumerate(sound.split() for sound in SOUNDS):
        kind = {"w64": "W64", "rf64": "RF64", "mp3": "MP3"}.get(suffix)
        soundfile.write(folder / f"{number}.{suffix}", wave, 8000, subtype=coding, format=kind)


_MAKE: dict[str, Callable[[Path], None]] = {
    "graphs": _graphs_and_inputs, "inputs": _inputs, "sounds": _sounds, "shd": _spikes, "trained": _trained,
}  # fmt: skip
