"""Inputs of any graph from files: NumPy arrays, HDF5 with an array for each input, NIR's own data format."""

from __future__ import annotations

import functools
import math
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import h5py
import nir
import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikescr import dialect
from spikescr.errors import DataError, GraphError
from spikescr.schemas import brief
from spikescr.sim.lowering.primitives import op_of
from spikescr.sim.lowering.timing import WHOLE_STEPS
from spikescr.sim.program import FloatArray
from spikescr.sizes import require_memory
from spikescr.strangers import DAMAGE, open_hdf5, open_regular

_GRID = 1e-6  # how far apart, relative to each other, two step lengths may be that are the same
_ENCRYPTED = 1  # flag of a member of a zip file


@dataclass(frozen=True)
class _Stored:
    """An array in a file, before it is read.

    Attributes:
        shape: (T, ...) or (T, B, ...).
        dtype: as it is stored.
        read: gives it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], NDArray[Any]]


def read_inputs(path: Path, graph: nir.NIRGraph, dt: float) -> dict[str, FloatArray]:
    """The inputs of a graph, (T, B, width) each, width being the flat shape of the Input in C order.

    `.npy` holds the one Input of the graph, (T, *shape) or (T, B, *shape); `.npz` and HDF5 an array of that form for
    each Input by its name; HDF5 that `nir.write_data` wrote one observable for each Input, on a grid or as events.
    Events of one channel in one step add up, each 1 or its value. Flat arrays, (T, width) and (T, B, width), will do. A
    clock may be left out. An Input with metadata `spikescr.held` may be given once for all steps: (B, *shape), not
    (T, *shape).

    Args:
        path: the file; its name tells the format.
        graph: whose Inputs are to be fed.
        dt: seconds per step.

    Raises:
        DataError: the file cannot be read or takes more memory than is allowed, lacks an input or has one too many, or
            an array has another shape, another number of steps or samples than the others, or numbers that are not
            finite; the message names file and input.
    """
    with ExitStack() as stack:
        try:
            return _inputs(_opened(path, _data_inputs(graph), dt, stack), graph, path)
        except DAMAGE as error:
            told = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{path}: cannot be read as {path.suffix}: {told}") from error


def shape_inputs(x: ArrayLike | Mapping[str, ArrayLike], graph: nir.NIRGraph, where: str) -> dict[str, FloatArray]:
    """The same from arrays: of the only Input, or Input -> array; see `read_inputs`.

    Args:
        x: the arrays.
        graph: whose Inputs are to be fed.
        where: they come from, for messages.

    Raises:
        DataError: as `read_inputs`; `where` stands for the file.
    """
    names = _data_inputs(graph)
    if not isinstance(x, Mapping) and len(names) != 1:
        raise DataError(f"{where}: one array for a graph with the inputs {_few(names)}; give input -> array")
    given = x if isinstance(x, Mapping) else {names[0]: x}
    arrays = {name: np.asarray(array) for name, array in given.items()}
    stored = {name: _Stored(a.shape, a.dtype, functools.partial(np.asarray, a)) for name, a in arrays.items()}
    return _inputs(stored, graph, where)


def read_array(path: Path) -> NDArray[Any]:
    """The one array of a .npy file.

    Raises:
        DataError: it is none, is damaged, or takes more memory than is allowed.
    """
    if path.suffix != ".npy":
        raise DataError(f"{path}: must be one array, .npy")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    try:
        with open_regular(path) as file:
            stored = _array(path, file, path.stat().st_size)
            what = f"{path}: an array of the shape {stored.shape}"
            require_memory(math.prod(stored.shape) * stored.dtype.itemsize, what, "give a smaller one", DataError)
            return stored.read()
    except DAMAGE as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cannot be read as {path.suffix}: {told}") from error


def _data_inputs(graph: nir.NIRGraph) -> list[str]:
    """Names of the Inputs, the clock aside.

    Raises:
        GraphError: there is none.
    """
    inputs = {name: node for name, node in graph.nodes.items() if isinstance(node, nir.Input)}
    names = sorted(name for name, node in inputs.items() if op_of(node) != dialect.CLOCK)
    if not names:
        raise GraphError(
            "the graph has no Input that data could be fed to; give it one, with an edge to its first node"
        )
    return names


def _inputs(stored: Mapping[str, _Stored], graph: nir.NIRGraph, where: Path | str) -> dict[str, FloatArray]:
    wanted = {name: node for name, node in graph.nodes.items() if isinstance(node, nir.Input)}
    _check_names(where, stored, wanted, wanted.keys() - set(_data_inputs(graph)))
    arrays = {
        name: _shaped(where, name, array, _shape(wanted[name]), _repeats(graph, wanted[name]))
        for name, array in stored.items()
    }
    for axis, what in ((0, "steps"), (1, "samples")):
        sizes = {name: array.shape[axis] for name, array in arrays.items()}
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise DataError(f"{where}: all inputs must have the same {what}: {told}")
    return arrays


def _check_names(path: Path | str, stored: Iterable[str], wanted: Iterable[str], clocks: set[str]) -> None:
    for name in sorted(set(wanted) - clocks):
        if name not in stored:
            raise DataError(f"{path}: has nothing for the input {name!r}; found {_few(stored)}")
    for name in sorted(stored):
        if name not in wanted:
            raise DataError(f"{path}: {name!r} is no input of the graph; these are: {_few(wanted)}")


def _opened(path: Path, names: list[str], dt: float, stack: ExitStack) -> dict[str, _Stored]:
    """Arrays of a file by the names of inputs; nothing of them is read yet.

    Args:
        path: of the file.
        names: of the inputs, the clock aside.
        dt: seconds per step.
        stack: closes the file.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file")
    match path.suffix:
        case ".npy":
            if len(names) != 1:
                raise DataError(
                    f"{path}: one array for a graph with the inputs {_few(names)}; give .npz or HDF5 with all of them"
                )
            file = stack.enter_context(open_regular(path))
            return {names[0]: _array(path, file, path.stat().st_size)}
        case ".npz":
            archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(open_regular(path))))
            return {info.filename.removesuffix(".npy"): _member(path, archive, info) for info in archive.infolist()}
        case ".h5" | ".hdf5" | ".nir":
            opened = stack.enter_context(open_hdf5(path))
            if opened.attrs.get("__type__") == "NIRGraphData":
                nodes = _group(path, "nodes", opened["nodes"])
                return {name: _recorded(path, name, group, dt) for name, group in nodes.items()}
            return {name: _dataset(path, name, item) for name, item in opened.items()}
    raise DataError(f"{path}: an input must be one of .npy, .npz, .h5, .hdf5, .nir")


def _array(path: Path, file: IO[bytes], size: int, name: str = "") -> _Stored:
    """An array in NumPy's format, of a file open at its beginning with `size` bytes; its header alone is read."""
    version = np.lib.format.read_magic(file)
    begin, digits = file.tell(), 2 if version == (1, 0) else 4
    length = int.from_bytes(file.read(digits), "little")
    if length > size:
        raise DataError(f"{path}: {name}is cut: a header of {length:,} bytes, the whole has {size:,}")
    file.seek(begin)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise DataError(f"{path}: {name}Object arrays cannot be loaded: they may hold code; save numbers")
    if min(shape, default=0) < 0:
        raise DataError(f"{path}: {name}its header says the shape {shape}")
    needed, held = math.prod(shape) * dtype.itemsize, size - file.tell()
    if needed > held:
        raise DataError(f"{path}: {name}is cut: an array of shape {shape} takes {needed:,} bytes, it has {held:,}")

    def read() -> NDArray[Any]:
        flat = np.frombuffer(file.read(needed), dtype)
        return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)

    return _Stored(shape, dtype, read)


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Stored:
    if info.flag_bits & _ENCRYPTED:
        raise DataError(f"{path}: {info.filename} is encrypted; save it without a password")
    with archive.open(info) as file:
        header = _array(path, file, info.file_size, f"{info.filename}: ")

    def read() -> NDArray[Any]:
        with archive.open(info) as file:
            return _array(path, file, info.file_size).read()

    return _Stored(header.shape, header.dtype, read)


def _dataset(path: Path, name: str, item: Any) -> _Stored:
    if not isinstance(item, h5py.Dataset):
        raise DataError(f"{path}: {name!r} is a group, must be an array")
    if item.shape is None:
        raise DataError(f"{path}: {name!r} is empty, it has no shape")
    return _Stored(item.shape, item.dtype, lambda: np.asarray(item[()]))


def _group(path: Path, name: str, item: Any) -> h5py.Group:
    if not isinstance(item, h5py.Group):
        raise DataError(f"{path}: {name!r} is an array, must be a group")
    return item


def _recorded(path: Path, name: str, group: h5py.Group, dt: float) -> _Stored:
    """(T, B, N) of the one observable of a node in NIR's data format."""
    holder = _group(path, name, group)
    observables = _group(path, f"{name}.observables", holder["observables"]) if "observables" in holder else {}
    if len(observables) != 1:
        raise DataError(f"{path}: {name!r} must have one observable, it has {_few(observables)}")
    data = _group(path, f"{name}.observables", next(iter(observables.values())))
    kind = data.attrs.get("__type__")
    if kind == "TimeGriddedData":
        own = _number(path, name, data, "dt")
        if not np.isclose(own, dt, rtol=_GRID, atol=0):
            raise DataError(f"{path}: {name!r} has steps of {own} s, the graph is run with {dt} s; give dt (--dt)")
        grid = _dataset(path, name, data["data"])
        if len(grid.shape) == 2:  # one sample, without its axis
            return grid
        samples, steps, *rest = grid.shape
        return _Stored((steps, samples, *rest), grid.dtype, lambda: np.swapaxes(grid.read(), 0, 1))
    if kind not in ("EventData", "ValuedEventData"):
        raise DataError(f"{path}: {name!r} has data of the type {kind!r}, which nir {nir.version} does not know")
    fields = ("idx", "time") + (("value",) if kind == "ValuedEventData" else ())
    events = {field: _dataset(path, f"{name}.{field}", data[field]) for field in fields}
    shape = events["idx"].shape
    if len(shape) not in (1, 2) or any(event.shape != shape for event in events.values()):
        told = ", ".join(f"{field} {event.shape}" for field, event in events.items())
        raise DataError(f"{path}: events of {name!r} must all have the shape (samples, events), they have {told}")
    width, end = _number(path, name, data, "n_neurons"), _number(path, name, data, "t_max")
    if not width.is_integer():
        raise DataError(f"{path}: {name!r} has {width} neurons, must be a whole number")
    steps = math.ceil(end / dt - WHOLE_STEPS)
    grid_shape = (steps, 1 if len(shape) == 1 else shape[0], int(width))
    return _Stored(grid_shape, np.dtype(np.float64), lambda: _gridded(path, name, events, grid_shape, dt))


def _number(path: Path, name: str, data: h5py.Group, key: str) -> float:
    """An attribute that must be a number above 0."""
    value = data.attrs.get(key)
    if not isinstance(value, (int, float, np.integer, np.floating)) or not 0 < value < np.inf:
        raise DataError(f"{path}: {key} of {name!r} must be a number above 0, is {brief(value)}")
    return float(value)


def _gridded(path: Path, name: str, events: Mapping[str, _Stored], shape: tuple[int, ...], dt: float) -> NDArray[Any]:
    """Events on a grid (T, B, N); those of one channel in one step add up, each 1 or its value."""
    idx, time, *value = (np.atleast_2d(_real(path, f"{name}.{f}", stored).read()) for f, stored in events.items())
    if not (np.isfinite(idx) & (idx == np.floor(idx))).all():
        raise DataError(f"{path}: idx of {name!r} must be whole numbers, found {idx[idx != np.floor(idx)].flat[0]}")
    grid = np.zeros(shape)
    sample, event = np.nonzero(idx >= 0)
    channel, moment = idx[sample, event].astype(np.int64), time[sample, event]
    step = np.floor(moment / dt + WHOLE_STEPS)
    outside = (channel >= shape[2]) | ~((step >= 0) & (step < shape[0]))
    if outside.any():
        at = np.flatnonzero(outside)[0]
        raise DataError(
            f"{path}: {name!r} has an event of channel {channel[at]} at {moment[at]} s, outside of its own bounds"
        )
    np.add.at(grid, (step.astype(np.int64), sample, channel), value[0][sample, event] if value else 1.0)
    return grid


def _real(path: Path | str, name: str, stored: _Stored) -> _Stored:
    if stored.dtype.kind not in "biuf":
        raise DataError(f"{path}: {name!r} must hold real numbers, not {stored.dtype}")
    return stored


def _shape(node: nir.Input) -> tuple[int, ...]:
    return tuple(int(n) for n in np.atleast_1d(next(iter(node.input_type.values()))))


def _repeats(graph: nir.NIRGraph, node: nir.Input) -> int | None:
    """Steps for which an Input may be given once, None where it must be given for each."""
    steps = graph.metadata.get(dialect.STEPS)
    return None if steps is None or not node.metadata.get(dialect.HELD) else int(steps)


def _shaped(path: Path | str, name: str, stored: _Stored, shape: tuple[int, ...], repeats: int | None) -> FloatArray:
    """(T, B, width) of an array with or without samples, flat or not; or without steps, where it `repeats` for some."""
    _real(path, name, stored)
    width, given = int(np.prod(shape)), stored.shape
    once = False
    for form in dict.fromkeys([shape, (width,), *([()] if width == 1 else [])]):
        if given and given[1:] == form:
            once = repeats is not None
            steps, samples = (given[0], 1) if repeats is None else (repeats, given[0])
            break
        if len(given) > 1 and given[2:] == form:
            steps, samples = given[:2]
            break
    else:
        axes = ", ".join(map(str, shape))
        first = "T" if repeats is None else "samples"
        raise DataError(f"{path}: {name!r} has shape {given}, must have ({first}, {axes}) or (T, samples, {axes})")
    if not math.prod(given):
        raise DataError(f"{path}: {name!r} is empty, its shape is {given}")
    needed = math.prod(given) * stored.dtype.itemsize + steps * samples * width * np.dtype(np.float64).itemsize
    what = f"{path}: {name!r} of the shape {steps, samples, width}"
    require_memory(needed, what, "give fewer samples or steps, or longer ones (--dt)", DataError)
    read = stored.read().reshape(1 if once else steps, samples, width)
    flat: FloatArray = np.ascontiguousarray(np.broadcast_to(read, (steps, samples, width)), np.float64)
    if not np.isfinite(flat).all():
        step, sample, channel = np.argwhere(~np.isfinite(flat))[0]
        raise DataError(
            f"{path}: {name!r} is {flat[step, sample, channel]} at step {step}, sample {sample}, channel {channel}"
        )
    return flat


def _few(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
