"""Safetensors files of ours: named tensors, and one JSON object in the metadata. Both are checked before they are used.

What a file may hold is declared: a pydantic model for the object (strict: no text for numbers, no NaN), name, type and
shape for each tensor, which follow from the object. Nothing is allocated before all of that fits.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open

from spikescr.errors import CheckpointError
from spikescr.schemas import PARSED, brief, faults, printable
from spikescr.sizes import require_memory
from spikescr.strangers import require_regular_file

if TYPE_CHECKING:
    from torch import Tensor

METADATA_KEY = "spikescr"
"""One key alone: safetensors writes several in no fixed order, and equal runs are to give equal files."""

_SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1, "BOOL": 1}

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Entry:
    """A tensor's type, as safetensors names it ("F32"), and shape."""

    kind: str
    shape: tuple[int, ...]

    @staticmethod
    def from_tensor(tensor: Tensor) -> Entry:
        """Those of a tensor, one without content too."""
        kinds = {"torch.float64": "F64", "torch.float32": "F32", "torch.int64": "I64", "torch.int8": "I8"}
        return Entry(kinds[str(tensor.dtype)], tuple(tensor.shape))

    def __str__(self) -> str:
        return f"{self.kind} {self.shape}"


class TensorFile:
    """An open file; `entries` are its tensors as its header tells, `remedy` is what messages advise."""

    def __init__(self, path: Path, remedy: str, file: Any) -> None:
        self.path = path
        self.remedy = remedy
        self._file = file
        self.entries = {name: self._entry(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)

    def _entry(self, name: str) -> Entry:
        part = self._file.get_slice(name)
        return Entry(part.get_dtype(), tuple(part.get_shape()))

    def fault(self, message: str) -> CheckpointError:
        """An error that names the file and what to do."""
        return CheckpointError(f"{self.path}: {message}; {self.remedy}")

    def describe(self, schema: type[Model], what: str, version: int) -> Model:
        """The metadata's object.

        Args:
            schema: what it may hold.
            what: the kind of file, for messages.
            version: its `format`.

        Raises:
            CheckpointError: there is none, of another version, or it does not fit.
        """
        text = (self._file.metadata() or {}).get(METADATA_KEY, "")
        require_memory(PARSED * len(text), f"what {self.path} says of itself", self.remedy, CheckpointError)
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict) or "format" not in content:
            raise CheckpointError(
                f"{self.path} is no {what}: it was not written by spikescr (its metadata has no JSON object "
                f"'{METADATA_KEY}' with a format); {self.remedy}"
            )
        if content["format"] != version:
            raise CheckpointError(
                f"{self.path} has {what} format {brief(content['format'])}, this version of spikescr reads "
                f"{version}; use the version that wrote it or {self.remedy}"
            )
        try:
            return schema.model_validate_json(text, strict=True)
        except ValidationError as error:
            raise self.fault(faults(error)) from error

    def require(self, expected: Mapping[str, Entry]) -> None:
        """Compares names, types and shapes with what the metadata promise.

        Raises:
            CheckpointError: naming the first tensor that is missing, too many or of another type or shape.
        """
        for name in sorted(expected.keys() | self.entries.keys()):
            if name not in self.entries:
                raise self.fault(f"{name} is missing")
            if name not in expected:
                raise self.fault(f"{printable(name)} does not belong to the model")
            if self.entries[name] != expected[name]:
                raise self.fault(f"{name} must be {expected[name]}, is {self.entries[name]}")

    def read(self) -> dict[str, Tensor]:
        """All tensors, in memory of their own.

        Raises:
            CheckpointError: they need more memory than is allowed, or hold what no training leaves: numbers that are
                none, negative variances or counts.
        """
        size = sum(math.prod(entry.shape) * _SIZES.get(entry.kind, 8) for entry in self.entries.values())
        require_memory(2 * size, f"{self.path}", "take a smaller network", CheckpointError)
        tensors = {name: self._file.get_tensor(name).clone() for name in self.entries}
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise self.fault(f"{name} holds values that are no numbers")
            if re.search(r"(running_var|num_batches_tracked|exp_avg_sq|/step)$", name) and bool((tensor < 0).any()):
                raise self.fault(f"{name} holds negative values")
        return tensors


@contextmanager
def open_tensors(path: Path, remedy: str) -> Iterator[TensorFile]:
    """Opens a file for reading; it is the same one until the block ends, whatever takes its place.

    Args:
        path: of the file.
        remedy: what messages advise, as an imperative.

    Raises:
        CheckpointError: it is no regular file, damaged, or no safetensors file.
    """
    require_regular_file(path, CheckpointError)
    try:
        with safe_open(path, framework="pt") as file:
            yield TensorFile(path, remedy, file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}); {remedy}") from error
