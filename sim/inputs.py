"""Inputs of any graph from files: NumPy arrays, HDF5 with an array for each input, NIR's own data format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import h5py
import nir
import numpy as np
from numpy.typing import NDArray

from spikescr import dialect
from spikescr.errors import DataError
from spikescr.sim.lowering.timing import WHOLE_STEPS
from spikescr.sim.program import FloatArray

_GRID = 1e-6  # how far apart, relative to each other, two step lengths may be that are the same


def read_inputs(path: Path, graph: nir.NIRGraph, dt: float) -> dict[str, FloatArray]:
    """The inputs of a graph, (T, B, width) each, width being the flat shape of the Input in C order.

    `.npy` holds the one Input of the graph, (T, *shape) or (T, B, *shape); `.npz` and HDF5 an array of that form for
    each Input by its name; HDF5 that `nir.write_data` wrote one observable for each Input, on a grid or as events.
    Events of one channel in one step add up, each 1 or its value. Flat arrays, (T, width) and (T, B, width), will do. A
    clock may be left out.

    Args:
        path: the file; its name tells the format.
        graph: whose Inputs are to be fed.
        dt: seconds per step.

    Raises:
        DataError: the file cannot be read, lacks an input or has one too many, or an array has another shape, another
            number of steps or samples than the others, or numbers that are not finite; the message names file and
            input.
    """
    arrays = _arrays(path, graph, dt)
    wanted = {name: node for name, node in graph.nodes.items() if isinstance(node, nir.Input)}
    clocks = {name for name, node in wanted.items() if node.metadata.get(dialect.OP) == dialect.CLOCK}
    for name in sorted(wanted.keys() - clocks):
        if name not in arrays:
            raise DataError(f"{path}: has nothing for the input {name!r}; found {_few(arrays)}")
    for name in sorted(arrays):
        if name not in wanted:
            raise DataError(f"{path}: {name!r} is no input of the graph; these are: {_few(wanted)}")
    found = {name: _shaped(path, name, array, _shape(wanted[name])) for name, array in arrays.items()}
    for axis, what in ((0, "steps"), (1, "samples")):
        sizes = {name: array.shape[axis] for name, array in found.items()}
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise DataError(f"{path}: all inputs must have the same {what}: {told}")
    return found


def _arrays(path: Path, graph: nir.NIRGraph, dt: float) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    readers: dict[str, Callable[[], dict[str, NDArray[Any]]]] = {
        ".npy": lambda: {_only(path, graph): np.load(path, allow_pickle=False)},
        ".npz": lambda: _archive(path),
        **dict.fromkeys((".h5", ".hdf5", ".nir"), lambda: _hdf5(path, dt)),
    }
    if path.suffix not in readers:
        raise DataError(f"{path}: an input must be one of {', '.join(readers)}")
    try:
        arrays = readers[path.suffix]()
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as {path.suffix}: {error}") from error
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise DataError(f"{path}: {name!r} must hold real numbers, not {array.dtype}")
    return arrays


def _only(path: Path, graph: nir.NIRGraph) -> str:
    names = [
        name
        for name, node in graph.nodes.items()
        if isinstance(node, nir.Input) and node.metadata.get(dialect.OP) != dialect.CLOCK
    ]
    if len(names) != 1:
        raise DataError(
            f"{path}: one array for a graph with the inputs {_few(names)}; give .npz or HDF5 with all of them"
        )
    return names[0]


def _archive(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _hdf5(path: Path, dt: float) -> dict[str, NDArray[Any]]:
    with h5py.File(path, "r") as file:
        if file.attrs.get("__type__") != "NIRGraphData":
            groups = [name for name in file if not isinstance(file[name], h5py.Dataset)]
            if groups:
                raise DataError(f"{path}: {groups[0]!r} is a group, must be an array")
            return {name: np.asarray(file[name]) for name in file}
    found: dict[str, NDArray[Any]] = {}
    for name, node in nir.read_data(path).nodes.items():
        observables = node.observables if isinstance(node, nir.NIRNodeData) else {}
        if len(observables) != 1:
            raise DataError(f"{path}: {name!r} must have one observable, it has {_few(observables)}")
        found[name] = _gridded(path, name, next(iter(observables.values())), dt)
    return found


def _gridded(path: Path, name: str, data: nir.TimeGriddedData | nir.EventData, dt: float) -> NDArray[Any]:
    """(T, B, N) of one observable."""
    if isinstance(data, nir.TimeGriddedData):
        if not np.isclose(data.dt, dt, rtol=_GRID, atol=0):
            raise DataError(f"{path}: {name!r} has steps of {data.dt} s, the graph is run with {dt} s; give --dt")
        return data.data.transpose(1, 0, 2)
    steps, width = int(np.ceil(data.t_max / dt - WHOLE_STEPS)), int(data.n_neurons)
    grid = np.zeros((steps, len(data.idx), width))
    sample, event = np.nonzero(data.idx >= 0)
    channel, time = data.idx[sample, event], data.time[sample, event]
    step = np.floor(time / dt + WHOLE_STEPS)
    outside = (channel >= width) | ~((step >= 0) & (step < steps))
    if outside.any():
        at = np.flatnonzero(outside)[0]
        raise DataError(
            f"{path}: {name!r} has an event of channel {channel[at]} at {time[at]} s, outside of its own bounds"
        )
    values = data.value[sample, event] if isinstance(data, nir.ValuedEventData) else 1.0
    np.add.at(grid, (step.astype(np.int64), sample, channel), values)
    return grid


def _shape(node: nir.Input) -> tuple[int, ...]:
    return tuple(int(n) for n in next(iter(node.input_type.values())))


def _shaped(path: Path, name: str, array: NDArray[Any], shape: tuple[int, ...]) -> FloatArray:
    """(T, B, width) of an array with or without samples, flat or not."""
    width = int(np.prod(shape))
    for form in dict.fromkeys([shape, (width,), *([()] if width == 1 else [])]):
        if array.ndim and array.shape[1:] == form:
            array = array[:, None]
            break
        if array.ndim > 1 and array.shape[2:] == form:
            break
    else:
        axes = ", ".join(map(str, shape))
        raise DataError(f"{path}: {name!r} has shape {array.shape}, must have (T, {axes}) or (T, samples, {axes})")
    if not array.size:
        raise DataError(f"{path}: {name!r} is empty, its shape is {array.shape}")
    flat: FloatArray = np.ascontiguousarray(array.reshape(*array.shape[:2], width), np.float64)
    if not np.isfinite(flat).all():
        step, sample, channel = np.argwhere(~np.isfinite(flat))[0]
        raise DataError(
            f"{path}: {name!r} is {flat[step, sample, channel]} at step {step}, sample {sample}, channel {channel}"
        )
    return flat


def _few(names: Mapping[str, object] | list[str]) -> str:
    return ", ".join(sorted(names)) or "none"
