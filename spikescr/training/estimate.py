"""What a training will take, measured with a few steps on made-up input of the real shape."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from spikescr.data import open_data
from spikescr.data.digits import CLASSES, RATE, takes, voices
from spikescr.data.features import fit_to_sounds
from spikescr.data.frontend import FrontEnd
from spikescr.data.kinds import KINDS
from spikescr.data.noise import MadeNoise
from spikescr.data.sounds import Sounds
from spikescr.data.timing import window_steps
from spikescr.files import expanded
from spikescr.model import build, readout
from spikescr.model.backends import install, pick
from spikescr.training.config import TrainConfig
from spikescr.training.loop import using_threads
from spikescr.training.memory import require_room
from spikescr.training.precision import products
from spikescr.training.sources import Waveforms

SAMPLE_STEPS = 3200
"""Steps of all recordings together with which is measured: half a second on a laptop, some hundred megabytes."""
REPEATS = 2


@dataclass(frozen=True)
class Recordings:
    """How many there are to train on and to validate with, and of how many classes."""

    train: int
    valid: int
    classes: int


@dataclass(frozen=True)
class Estimate:
    """What a training will take, as if every recording filled the window.

    Attributes:
        parameters: Of the network.
        activations: Bytes that are kept for the backward pass of a batch.
        weights: Bytes that weights, gradients and AdamW take.
        data: Bytes that the network input of all recordings takes.
        seconds: On this machine, as the clock tells.
        disk: Bytes of a run folder: a state (weights, the best ones, AdamW's two moments) and the best weights.
    """

    parameters: int
    activations: int
    weights: int
    data: int
    seconds: float
    disk: int

    @property
    def memory(self) -> int:
        """Bytes in all."""
        return self.activations + self.weights + self.data


def count_recordings(spec: str, seed: int) -> Recordings:
    """As they are there; of a published data set that is not there, as published.

    SHD's validation speakers are then counted with the others.

    Raises:
        DataError: what is there cannot be used.
    """
    kind, _, place = spec.partition(":")
    if kind == "digits":
        spoken = Counter(take.split for take in takes(voices()))
        return Recordings(spoken["train"], spoken["valid"], len(CLASSES))
    there = place != "" and expanded(Path(place)).exists()
    if kind in KINDS and (published := KINDS[kind].published) and not there:
        return Recordings(published.recordings["train"], published.recordings.get("valid", 0), published.classes)
    dataset = open_data(spec, seed=seed)
    return Recordings(len(dataset.split("train")), len(dataset.split("valid")), len(dataset.classes))


def estimate(
    config: TrainConfig,
    recordings: Recordings,
    *,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> Estimate:
    """Runs a few optimisation steps, of fewer recordings where a batch is large, and extrapolates.

    Args:
        config: the training.
        recordings: how many there are.
        device: where to run, as torch names it.
        clock: tells seconds; `time.process_time` those of the processor, which other work does not disturb.
    """
    place = torch.device(device)
    sizes = type(config.model).model_validate(config.model.model_dump() | {"classes": recordings.classes})
    require_room(sizes)
    window = window_steps(config.window_s, config.steps)
    teacher_window = teacher_passes = 0
    if (taught := config.distillation) is not None:
        teacher_window = window_steps(config.window_s, taught.teacher_steps)
        drawn = config.augmentation is not None and taught.teacher_input == "augmented"
        teacher_passes = config.epochs if drawn else 1
    batch = max(2, min(config.batch_size, SAMPLE_STEPS // window))
    with using_threads(config.threads), torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.manual_seed(config.seed)
        model = build(sizes).to(place)
        install(model, pick(place))
        optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
        labels = torch.randint(sizes.classes, (batch,), device=place)

        def timed(run: Callable[[], object]) -> float:
            return _seconds(run, clock, place)

        def forward(steps: int) -> Tensor:
            valid = torch.full((batch,), steps, device=place)
            with products(model, config.precision if model.training else "fp32"):
                return readout(model(torch.rand(steps, batch, sizes.inputs, device=place), valid), valid)

        def step() -> None:
            loss = functional.cross_entropy(forward(window), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        kept = _kept_for_backward(lambda: forward(window), {p.data_ptr() for p in model.parameters()})
        step_s = timed(step)
        model.eval()
        with torch.no_grad():
            evaluation_s = timed(lambda: forward(window))
            teacher_s = timed(lambda: forward(teacher_window)) if teacher_window else 0.0
    sound = _Sound()
    if config.augmentation is not None and config.augmentation.of_sound:
        sound = _sound(config, batch, clock)
    parameters = sum(p.numel() for p in model.parameters())
    kind = config.data.partition(":")[0]
    per_epoch = recordings.train * (step_s + sound.seconds) + recordings.valid * evaluation_s
    kept_inputs = recordings.valid if sound.bytes else recordings.train + recordings.valid
    inputs = kept_inputs * window + recordings.train * teacher_window
    return Estimate(
        parameters=parameters,
        activations=round(kept / batch * config.batch_size),
        weights=4 * 4 * parameters,
        data=inputs * sizes.inputs * (1 if config.spiking or (kind in KINDS and KINDS[kind].signal == "spikes") else 4)
        + recordings.train * sound.bytes,
        seconds=(config.epochs * per_epoch + teacher_passes * recordings.train * teacher_s) / batch,
        disk=5 * 4 * parameters,
    )


@dataclass(frozen=True)
class _Sound:
    """What altering waveforms takes: seconds for a batch, bytes for each recording of the training split."""

    seconds: float = 0.0
    bytes: int = 0


def _sound(config: TrainConfig, batch: int, clock: Callable[[], float]) -> _Sound:
    """Alters made-up recordings that fill the window."""
    assert config.augmentation is not None
    front_end = FrontEnd.design(
        RATE,
        steps=config.steps,
        window_s=config.window_s,
        bands=config.bands,
        frames_per_step=config.frames_per_step,
    )
    samples = front_end.window_samples(RATE)
    waveform = np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    sounds = Sounds((waveform,) * batch, RATE, np.full(batch, front_end.window_steps), np.zeros(batch, dtype=np.int64))
    noise = MadeNoise(RATE, [waveform]) if config.augmentation.noise is not None else None
    preprocessing = fit_to_sounds(sounds, front_end, config.normalise, spiking=config.spiking)
    source = Waveforms(sounds, preprocessing, config.augmentation, noise, seed=config.seed)
    return _Sound(_seconds(lambda: source.batch(torch.arange(batch), 1), clock, torch.device("cpu")), 4 * samples)


def _seconds(run: Callable[[], object], clock: Callable[[], float], place: torch.device) -> float:
    """The shortest of some runs, after one that does not count."""

    def timed() -> float:
        began = clock()
        run()
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        return clock() - began

    timed()
    return min(timed() for _ in range(REPEATS))


def _kept_for_backward(run: Callable[[], Tensor], parameters: set[int]) -> int:
    """Bytes of the tensors that autograd keeps of a forward pass, each storage once, without the parameters."""
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()
    del result
    return sum(size for place, size in sizes.items() if place not in parameters)
