"""One forward pass, recorded: hooks on modules for where we are, a function mode for what is done between them."""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from spikingjelly.activation_based import functional, layer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from spikescr.errors import ExportError
from spikescr.export.record import names
from spikescr.export.record.calls import Call, Fault, Problem, Record, Ref, Value, leaves, mapped
from spikescr.export.record.neurons import is_neuron
from spikescr.export.record.step import FIRST, Axes, Time
from spikescr.export.record.writes import overlay, positions
from spikescr.model.recurrent import RecurrentLIF
from spikescr.model.rotary import Rotary

SAMPLES = 2
"""Samples that are recorded: with fewer, no mixing would be seen; more say nothing new."""
_WHOLE: dict[type[nn.Module], str] = {layer.Delay: "delay", RecurrentLIF: "recurrent", Rotary: "rotary"}
"""Modules with steps that are known as a whole, beside neurons, and their names."""
_HERE = str(Path(__file__).parent)
_TORCH = str(Path(torch.__file__).parent)
_JELLY = str(Path(functional.__file__).parents[1])
_USERS = tuple(f"{_JELLY}/{part}/" for part in ("model", "examples"))
"""SpikingJelly's networks are a user's code, its layers are not."""


def record(module: nn.Module, example: Tensor, time: Time = "steps", axes: Axes = FIRST) -> Record:
    """Run a float64 copy of a module once, in eval mode, and record what it does.

    Args:
        module: left as it is.
        example: (T, B, ...), or (B, ...) where `time` is "held"; the first two samples are taken, one alone twice.
        time: "steps": the module gets all steps at once; "loop": one at a time, by calls of its own; "held": an input
            without steps, which the module itself repeats or goes over.
        axes: where the module wants steps and samples, see `copied`.

    Raises:
        ExportError: The module fails on that input.
    """
    axis = 0 if time == "held" else 1
    if example.ndim <= axis + 1:
        raise ExportError(f"an example of shape {tuple(example.shape)} has no features behind its steps and samples")
    batch = example.detach().cpu().to(torch.float64)
    batch = batch.narrow(axis, 0, min(SAMPLES, batch.shape[axis]))
    if batch.shape[axis] < SAMPLES:
        batch = torch.cat([batch] * SAMPLES, axis)
    network = copied(module, axes)
    recorder = Recorder(network)
    with torch.no_grad(), recorder:
        parts = list(batch) if time == "loop" else [batch]
        inputs = tuple(recorder.enter(part) for part in parts)
        outputs, starts = [], []
        for part in parts:
            starts.append(len(recorder.calls))
            outputs.append(recorder.run(part))
    return Record(
        calls=recorder.calls,
        values=recorder.values,
        inputs=inputs,
        outputs=tuple(outputs),
        time=time,
        steps=0 if time == "held" else batch.shape[0],
        samples=batch.shape[axis],
        example=batch,
        starts=tuple(starts),
        problems=recorder.problems,
    )


def copied(module: nn.Module, axes: Axes = FIRST) -> nn.Module:
    """A float64 copy on the CPU, in eval mode, every state at its start.

    Args:
        module: left as it is.
        axes: of steps and of samples in what it takes; the copy takes (T, B, ...) all the same.
    """
    try:
        network = copy.deepcopy(module)
    except (TypeError, RuntimeError) as error:
        raise ExportError(f"{type(module).__name__} cannot be copied: {error}; give a fresh module") from error
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # SpikingJelly's GPU kernels: no news on a CPU
    network = network.cpu().double().eval()
    functional.reset_net(network)
    if axes != FIRST:
        network.register_forward_pre_hook(lambda _, given: (given[0].movedim((0, 1), axes), *given[1:]))
    return network


class Recorder(TorchFunctionMode):
    """The function mode and the hooks of one pass."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls: list[Call] = []
        self.values: list[Value] = []
        self.problems: list[Problem] = []
        self._tensors: dict[int, tuple[Tensor, int]] = {}
        self._storages: dict[int, list[Tensor]] = {}
        self._written: set[int] = set()
        self._modules: list[tuple[str, nn.Module]] = []
        self._inside: list[nn.Module] = []
        self._states: dict[nn.Module, list[tuple[str, Any, int]]] = {}
        self._hooks = ExitStack()

    def __enter__(self) -> Recorder:
        for path, module in self.network.named_modules():
            before = module.register_forward_pre_hook(self._enters(path), prepend=True, with_kwargs=True)
            after = module.register_forward_hook(self._leaves(), with_kwargs=True)
            self._hooks.callback(before.remove)
            self._hooks.callback(after.remove)
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.close()
        super().__exit__(*error)

    def enter(self, tensor: Tensor) -> int:
        """Follow a tensor from here on."""
        return self._new(tensor, None)

    def run(self, tensor: Tensor) -> Any:
        """Call the network; what came out, values as `Ref`."""
        try:
            found = self.network(tensor)
        except Exception as error:
            path = self._modules[-1][0] if self._modules else ""
            where = f" in {path}" if path else ""
            raise ExportError(
                f"{type(self.network).__name__} fails on an input of shape {tuple(tensor.shape)}{where}: "
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            ) from error
        finally:
            self._modules.clear()
            self._inside.clear()
        return mapped(found, self._referred)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        keywords = kwargs or {}
        name = names.plain(func)
        if self._inside:
            return func(*args, **keywords)
        if name in names.MAKES:
            return self._made(name, func, args, keywords)
        if getattr(func, "__name__", "") in {"__radd__", "__rmul__"}:
            func, args = getattr(torch, name), (args[1], args[0])
        tensors = [item for item in leaves((args, keywords)) if isinstance(item, Tensor)]
        for tensor in tensors:
            self._check_written(tensor, name)
        if not any(id(tensor) in self._tensors for tensor in tensors):
            return func(*args, **keywords)
        arguments, named = mapped(args, self._referred), mapped(keywords, self._referred)
        versions = [tensor._version for tensor in tensors]
        found = func(*args, **keywords)
        if name == "iter":
            found = list(found)
        elif name in {"float", "half", "bfloat16", "to", "type", "type_as"} and isinstance(found, Tensor):
            found = found.to(torch.float64) if found.is_floating_point() else found
        written = [t for t, version in zip(tensors, versions, strict=True) if t._version != version]
        if written:
            self._write(func, name, written[0], arguments, named)
            return found
        if any(isinstance(item, Tensor) for item in leaves(found)):
            if isinstance(found, Tensor) and found is args[0]:
                return found
            self._call(name, func, None, arguments, named, found)
        elif name in names.READS:
            self._refuse(
                "data",
                name,
                "the module reads numbers of a tensor: its way depends on data",
                "compute with tensors, without if, float() or numpy on activations",
            )
        return iter(found) if name == "iter" else found

    def _made(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """A tensor that does not depend on the input; zeros are followed: the state before the first step is one."""
        found = func(*args, **keywords)
        if name in names.ZEROS and found.is_floating_point() and found.ndim and not bool(found.any()):
            likes = tuple(item for item in leaves(mapped(args, self._referred)) if isinstance(item, Ref))
            self._call("zeros", None, None, likes, {}, found)
        return found

    def _enters(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not self._inside:
                self._modules.append((path, module))
                if is_neuron(module) or isinstance(module, tuple(_WHOLE)):
                    self._check_state(module)
                    self._inside.append(module)

        return hook

    def _leaves(self) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], found: Any) -> None:
            if self._inside and self._inside[-1] is module:
                self._inside.pop()
                self._states[module] = _state(module)
                name = next((name for kind, name in _WHOLE.items() if isinstance(module, kind)), "neuron")
                self._call(name, None, module, mapped(args, self._referred), mapped(kwargs, self._referred), found)
            if not self._inside and self._modules and self._modules[-1][1] is module:
                self._modules.pop()

        return hook

    def _check_state(self, module: nn.Module) -> None:
        """A state must be as the module left it: a graph resets its neurons before a sample alone."""
        before, now = self._states.get(module), _state(module)
        if before is not None and any(a[1] is not b[1] or a[2] != b[2] for a, b in zip(before, now, strict=True)):
            self._refuse(
                "structure",
                type(module).__name__,
                "its state is changed from outside between two of its calls",
                "reset neurons between samples alone, not in forward",
            )

    def _new(self, tensor: Tensor, maker: int | None) -> int:
        number = len(self.values)
        self.values.append(Value(number, tuple(tensor.shape), maker))
        self._tensors[id(tensor)] = (tensor, number)  # the tensor is kept, so that its id stays its own
        self._storages.setdefault(tensor.untyped_storage().data_ptr(), []).append(tensor)
        return number

    def _referred(self, item: Any) -> Any:
        if isinstance(item, Tensor) and id(item) in self._tensors:
            return Ref(self._tensors[id(item)][1])
        return item

    def _call(
        self,
        name: str,
        function: Callable[..., Any] | None,
        module: nn.Module | None,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        found: Any,
        *,
        writes: bool = False,
    ) -> None:
        number = len(self.calls)
        made = [item for item in leaves(found) if isinstance(item, Tensor)]
        results = tuple(self._new(tensor, number) for tensor in made)
        path, owner = self._where()
        structure = mapped(found, self._referred)
        self.calls.append(
            Call(number, name, function, module, path, owner, arguments, keywords, results, structure, _line(), writes)
        )

    def _write(
        self,
        function: Callable[..., Any],
        name: str,
        target: Tensor,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> None:
        """A tensor was written in place: it is a new value, and so is every other that shares its storage."""
        shared = self._storages.get(target.untyped_storage().data_ptr(), [])
        others = [tensor for tensor in shared if tensor is not target and id(tensor) in self._tensors]
        self._written.add(target.untyped_storage().data_ptr())
        before = {id(tensor): self._tensors[id(tensor)][1] for tensor in others}
        self._call(name, function, None, arguments, keywords, target, writes=True)
        value = Ref(self._tensors[id(target)][1])
        there = positions(target)
        for tensor in {id(other): other for other in others}.values():
            arguments = (Ref(before[id(tensor)]), value, positions(tensor), there)
            self._call("overlay", overlay, None, arguments, {}, tensor)

    def _check_written(self, tensor: Tensor, name: str) -> None:
        if id(tensor) not in self._tensors and self._written:
            try:
                pointer = tensor.untyped_storage().data_ptr()
            except (RuntimeError, NotImplementedError):  # no memory of its own, so no views
                return
            if pointer in self._written and pointer:
                self._refuse(
                    "operation",
                    name,
                    "reads a tensor of which a view was written in place",
                    "write into the tensor itself, or collect the parts and torch.stack them",
                )

    def _refuse(self, fault: Fault, operation: str, reason: str, remedy: str) -> None:
        path, owner = self._where()
        self.problems.append(Problem(fault, path, owner, operation, _line(), reason, remedy))

    def _where(self) -> tuple[str, str]:
        if not self._modules:
            return "", type(self.network).__name__
        path, module = self._modules[-1]
        return path, type(module).__name__


def _state(module: nn.Module) -> list[tuple[str, Any, int]]:
    """What a module of SpikingJelly keeps from call to call: name, object, how often it was written in place."""
    kept: dict[str, Any] = getattr(module, "_memories", {})
    return [(name, item, item._version if isinstance(item, Tensor) else 0) for name, item in sorted(kept.items())]


def _line() -> str:
    """The innermost line of the user's code, "" where there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if frame.f_code is Recorder.run.__code__:
            return ""
        ours = file.startswith(_HERE) or file.startswith(_TORCH) or file.startswith("<")
        if not ours and (not file.startswith(_JELLY) or file.startswith(_USERS)):
            return f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
