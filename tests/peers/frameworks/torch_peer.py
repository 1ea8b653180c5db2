"""What the three peers share: they are PyTorch modules that are called once per step."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def fired(
    modules: Mapping[str, nn.Module], x: NDArray[np.float64], step: Callable[[Tensor], object]
) -> dict[str, NDArray[np.bool_]]:
    """Spikes (T, B, N) of neuron modules by name, while `step` is called on each x[t] (B, *shape)."""
    kept: dict[str, list[Tensor]] = {name: [] for name in modules}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _arguments: Any, output: Any) -> None:
            spikes = output[0] if isinstance(output, tuple) else output  # some give their state with them
            kept[name].append(spikes.detach().clone())

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        with torch.no_grad():
            for frame in x:
                step(torch.tensor(frame))
    finally:
        for handle in handles:
            handle.remove()
    return {name: torch.stack(frames).flatten(2).numpy() != 0 for name, frames in kept.items()}


def draw(net: nn.Module, seed: int, gain: float) -> nn.Module:
    """Float64 weights of PyTorch's usual distribution times `gain`, the same for every version of PyTorch."""
    rng = np.random.default_rng(seed)
    net = net.double()
    with torch.no_grad():
        for parameter in net.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 9
            bound = gain / np.sqrt(fan_in)
            parameter.copy_(torch.tensor(rng.uniform(-0.5 * bound, bound, tuple(parameter.shape))))
    return net


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what nirtorch and the peers print and warn about their own ways."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logging.disable(level)
