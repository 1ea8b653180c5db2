"""Mixed precision: matrix products in bfloat16 while training, and how many spikes that changes.

All else stays float32: batch normalisation, membranes, attention (sums of spikes), convolutions per channel, weights
among recurrent neurons, the head, the readout, weights and optimiser; and so do evaluation and every file.

bfloat16 has 8 significant bits: weights, values and their products are each rounded by up to 0.2 %. That alone
changes few spikes, but layers pass on what was changed and add to it: of all neuron-steps 2 to 3 % in trained 1L-8-128
networks (40 and 100 steps per second, spoken digits), 7 % in an untrained one. The default limit refuses those.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from spikescr.errors import SpikescrError
from spikescr.model import LIF, Current, Network, SequenceBatchNorm
from spikescr.training.batches import Split
from spikescr.training.config import Precision, TrainConfig
from spikescr.training.devices import Devices

RECORDINGS = 128
"""Of the validation split, at most, on which spikes are compared: some 10^7 neuron-steps of 1L-8-128."""


class Drift(BaseModel):
    """Spikes of a network with products in bfloat16 beside those of the same weights in float32.

    rate: share of neuron-steps where one fires and the other does not. firing_rate: spikes per neuron-step in float32.
    neuron_steps: neurons times valid steps. recordings: how many were run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rate: float = Field(ge=0, le=1)
    firing_rate: float = Field(ge=0)
    neuron_steps: int = Field(ge=1)
    recordings: int = Field(ge=1)


@contextmanager
def products(model: nn.Module, precision: Precision) -> Iterator[None]:
    """Lets a network compute its matrix products so while the block lasts; backward they are as they were forward."""
    layers = [module for module in model.modules() if isinstance(module, Current)]
    for layer in layers:
        layer.bf16 = precision == "bf16"
    try:
        yield
    finally:
        for layer in layers:
            layer.bf16 = False


def measure(
    model: Network, weights: Mapping[str, Tensor], split: Split, batch_size: int, devices: Devices, *, fresh: bool
) -> Drift:
    """Runs a network with these weights over some recordings of every length, in both precisions; leaves it alone.

    Args:
        model: whose copy is run, in eval mode.
        weights: and buffers.
        split: the validation split.
        batch_size: recordings at once.
        devices: all processes measure the same, and get the same.
        fresh: whether the running statistics tell nothing yet, with which hardly a neuron fires; those of the first
            batch take their place, as in training.
    """
    model = deepcopy(model).eval()
    model.load_state_dict(dict(weights))
    order = split.steps.argsort(stable=True)
    chosen = order[torch.linspace(0, len(order) - 1, min(RECORDINGS, len(order))).long()]
    device = next(model.parameters()).device
    counts = torch.zeros(3, dtype=torch.float64)  # differing, fired, all
    with torch.no_grad():
        for number, batch in enumerate(chosen.split(batch_size)):
            x, steps, _ = (part.to(device) for part in split.batch(batch))
            if fresh and number == 0:
                _take_statistics(model, x, steps)
            plain, reduced = (_spikes(model, x, steps, precision) for precision in ("fp32", "bf16"))
            for own, other in zip(plain, reduced, strict=True):
                counts += torch.tensor([(own != other).sum(), own.count_nonzero(), int(steps.sum()) * own.shape[-1]])
    counts = devices.sum(counts)
    differing, fired, total = counts.tolist()
    return Drift(
        rate=differing / total,
        firing_rate=fired / total,
        neuron_steps=int(total) // devices.processes,
        recordings=len(chosen),
    )


def require_few(drift: Drift, config: TrainConfig, when: str, kept: str) -> None:
    """Refuses a network that fires otherwise in bfloat16.

    Raises:
        SpikescrError: in more neuron-steps than `precision_limit`; the message says what is kept.
    """
    if drift.rate > config.precision_limit:
        raise SpikescrError(
            f"precision=bf16 changes {drift.rate:.2%} of neuron-steps {when} the training (firing rate "
            f"{drift.firing_rate:.2%}), more than precision_limit={config.precision_limit:g}: train with "
            f"precision=fp32, or raise precision_limit; {kept}"
        )


def as_json(drift: Mapping[str, Drift], config: TrainConfig) -> str:
    """The file of a run: precision, limit, what was measured and when."""
    measured = {when: measurement.model_dump() for when, measurement in drift.items()}
    content = {"precision": config.precision, "precision_limit": config.precision_limit} | measured
    return json.dumps(content, indent=2) + "\n"


def _spikes(model: Network, x: Tensor, steps: Tensor, precision: Precision) -> list[Tensor]:
    """Spikes (T, B, N) of all LIF layers, in the order in which they fire; padded steps are silent."""
    spikes: list[Tensor] = []
    lifs = [module for module in model.modules() if isinstance(module, LIF)]
    hooks = [lif.register_forward_hook(lambda _module, _inputs, output: spikes.append(output)) for lif in lifs]
    try:
        with products(model, precision):
            model(x, steps)
    finally:
        for hook in hooks:
            hook.remove()
    return spikes


def _take_statistics(model: Network, x: Tensor, steps: Tensor) -> None:
    """Sets the running statistics to those of x; everything else stays in eval mode."""
    norms = [module for module in model.modules() if isinstance(module, SequenceBatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    model(x, steps)
    for norm in norms:
        norm.eval()
