"""Modules of users: made by a function of theirs, given their weights, with an example of what they take."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spikescr.errors import CheckpointError, DataError, ExportError, SpikescrError, UsageError
from spikescr.sizes import require_memory
from spikescr.strangers import DAMAGE, open_regular, require_regular_file

if TYPE_CHECKING:
    from torch import nn

FORMS = "FILE.py:factory or package.module:factory"


def load_module(spec: str, weights: Path | None = None) -> nn.Module:
    """Imports a user's code, which runs, and calls a function of it for a module.

    Args:
        spec: "FILE.py:factory" or "package.module:factory"; the factory takes no arguments and gives the module. What
            is a module already is taken as it is.
        weights: its state_dict, .safetensors, or .pt or .pth of tensors alone (`weights_only=True`).

    Raises:
        UsageError: the spec is of another form, or there is no such file, package or name.
        ExportError: the user's code fails, or gives something else.
        CheckpointError: the weights cannot be read, or belong to another module.
    """
    from torch import nn

    path, colon, name = spec.rpartition(":")
    if not colon or not path or not name:
        raise UsageError(f"{spec}: a module is given as {FORMS}")
    source = _imported(path, spec)
    found: Any = source
    for part in name.split("."):
        if not hasattr(found, part):
            raise UsageError(f"{spec}: there is no {part} in {path}")
        found = getattr(found, part)
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise UsageError(
                f"{spec}: is of type {type(found).__name__}; a function without arguments that gives a module is wanted"
            )
        try:
            found = found()
        except Exception as error:
            raise ExportError(f"{spec}: fails with {type(error).__name__}: {_line(error)}") from error
    if not isinstance(found, nn.Module):
        raise ExportError(f"{spec}: gives what is of type {type(found).__name__}, no torch.nn.Module")
    if weights is not None:
        _load(found, weights, spec)
    return found


def example_input(shape: str | None, path: Path | None) -> NDArray[np.float64]:
    """An example of what a module takes.

    Args:
        shape: "4,1,3,32,32": numbers from 0 to 1, always the same ones.
        path: of an array, .npy.

    Raises:
        UsageError: neither or both are given, or the shape is none.
        DataError: the file is no array of numbers.
    """
    if (shape is None) == (path is None):
        raise UsageError(
            "give the input's shape, such as 4,1,3,32,32 for steps, samples, features (--shape), or a file (--example)"
        )
    if path is not None:
        return read_array(path)
    assert shape is not None
    try:
        sizes = tuple(int(part) for part in shape.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise UsageError(
            f"shape {shape}: give whole numbers above 0 with commas between them, such as 4,1,3,32,32 (--shape)"
        )
    require_memory(
        8 * int(np.prod(sizes, dtype=float)), f"an example of shape {sizes}", "give a smaller one", UsageError
    )
    return np.random.default_rng(0).random(sizes)


def read_array(path: Path) -> NDArray[np.float64]:
    """An array of real numbers, .npy.

    Raises:
        DataError: the file is none.
    """
    with open_regular(path) as file:
        try:
            array = np.lib.format.read_array(file, allow_pickle=False)
        except DAMAGE as error:
            raise DataError(f"{path}: cannot be read as .npy: {_line(error)}") from error
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise DataError(f"{path}: must hold finite real numbers, it holds {array.dtype}")
    return array.astype(np.float64)


def _imported(path: str, spec: str) -> ModuleType:
    if path.endswith(".py"):
        file = Path(path)
        if not file.is_file():
            raise UsageError(f"{path}: there is no such file; a module is given as {FORMS}")
        found = importlib.util.spec_from_file_location(file.stem, file)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        before = sys.modules.get(file.stem)
        sys.modules[file.stem] = module  # dataclasses and pickles of its own look it up
        sys.path.insert(0, str(file.resolve().parent))
        try:
            found.loader.exec_module(module)
        except SpikescrError:
            raise
        except Exception as error:
            if before is None:
                del sys.modules[file.stem]
            else:
                sys.modules[file.stem] = before
            raise ExportError(f"{spec}: importing it fails with {type(error).__name__}: {_line(error)}") from error
        finally:
            sys.path.pop(0)
        return module
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name and (path == error.name or path.startswith(f"{error.name}.")):
            raise UsageError(f"{spec}: there is no module {error.name}; a module is given as {FORMS}") from error
        raise ExportError(f"{spec}: importing it fails with {type(error).__name__}: {_line(error)}") from error
    except Exception as error:
        raise ExportError(f"{spec}: importing it fails with {type(error).__name__}: {_line(error)}") from error
    finally:
        sys.path.pop(0)


def _load(module: nn.Module, path: Path, spec: str) -> None:
    import safetensors
    import safetensors.torch
    import torch

    require_regular_file(path, CheckpointError)
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of what the error then tells
                state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such file") from error
    except (safetensors.SafetensorError, pickle.UnpicklingError, *DAMAGE) as error:
        raise CheckpointError(
            f"{path}: is no safetensors file and no .pt of tensors alone ({_line(error)}); save the state_dict"
        ) from error
    for key in ("state_dict", "model", "net"):  # as training scripts pack it
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: does not fit {spec}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
