"""Helpers shared by the tests: small networks in which every layer fires, and what their layers do."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from spikescr.model import (
    LIF,
    AdaptiveConfig,
    AnyModelConfig,
    CommanderConfig,
    DelaysConfig,
    ModelConfig,
    Network,
    RecurrentConfig,
    SequenceBatchNorm,
    build,
    valid_mask,
)
from spikescr.model.parametric import ParametricLIF

SMALL = ModelConfig(inputs=12, classes=5, layers=1, heads=2, width=16, mlp_ratio=2, kernel=7)
_TINY = {"inputs": 6, "classes": 4}


def _variant(**switches: object) -> ModelConfig:
    return ModelConfig(**_TINY, heads=2, width=8, kernel=5, **switches)


VARIANTS: dict[str, AnyModelConfig] = {
    "no position": _variant(position="none"),
    "sinusoidal": _variant(position="sinusoidal", layers=2),
    "sinusoidal_lif": _variant(position="sinusoidal_lif"),
    "causal": _variant(attention="causal", layers=2),
    "causal, no position": _variant(attention="causal", position="none"),
    "no SGU": _variant(gating_unit=False),
    "no separable convolution": _variant(gating_unit=False, separable_convolution=False),
    "parametric": _variant(neuron="parametric"),
    "dcls": DelaysConfig(**_TINY, layers=2, width=10, taps=5),
    "axonal": DelaysConfig(**_TINY, layers=2, width=10, taps=5, delays="axonal"),
    "dcls parametric": DelaysConfig(**_TINY, layers=1, width=10, taps=3, neuron="parametric"),
    "adlif": AdaptiveConfig(**_TINY, layers=2, width=10),
    "adaptive": _variant(neuron="adaptive"),
    "adaptive, causal": _variant(neuron="adaptive", attention="causal", position="none", gating_unit=False),
    "dcls adaptive": DelaysConfig(**_TINY, layers=1, width=10, taps=3, neuron="adaptive"),
    "commander": CommanderConfig(
        **_TINY, heads=2, width=8, kernel=5, window=12, mlp_ratio=2, spiking_input=True, across=3
    ),
    "commander, two layers": CommanderConfig(**_TINY, layers=2, heads=2, width=8, kernel=5, window=12),
    "commander, local": CommanderConfig(
        **_TINY, heads=2, width=8, global_attention=False, convolution=False, embedding=False, refinement=False
    ),
    "commander, convolution": CommanderConfig(
        **_TINY, heads=2, width=8, local_attention=False, global_attention=False, kernel=5
    ),
    "recurrent": RecurrentConfig(**_TINY, layers=2, width=10),
    "recurrent parametric": RecurrentConfig(**_TINY, width=10, neuron="parametric"),
}
"""Every ablation and baseline, as small as it can be."""
LOWEST_RATE, HIGHEST_RATE = 0.04, 0.65


def structured_input(
    channels: int, *, samples: int, window: int, seed: int, counts: bool = False, padding: int = 3
) -> tuple[Tensor, Tensor]:
    """Band energies that wander over the channels, as formants do; steps of each sample its own.

    Args:
        channels: C.
        samples: B.
        window: T.
        seed: of everything drawn.
        counts: spike counts (integers) instead of real values.
        padding: steps by which T exceeds the longest sample.

    Returns:
        x (T, B, C) float32, zero on padded steps; steps (B,).
    """
    generator = torch.Generator().manual_seed(seed)
    longest = window - padding
    steps = torch.randint((longest + 1) // 2, longest + 1, (samples,), generator=generator)
    steps[0] = longest
    time = torch.arange(window)[:, None, None]
    start, slope = (torch.rand(2, samples, 1, generator=generator) - 0.5) * channels * 0.5
    centre = channels / 2 + start + slope * torch.sin(time * 6.0 / window)
    energy = 2.0 * torch.exp(-0.5 * ((torch.arange(channels) - centre) / (channels / 6)) ** 2)
    x = energy + 0.4 * torch.randn(window, samples, channels, generator=generator)
    if counts:
        x = torch.poisson(energy, generator=generator)
    return x * valid_mask(steps, window, x.dtype), steps


def spikes_by_layer(model: nn.Module, x: Tensor, steps: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Spikes (T, B, N) of every LIF layer by module name, in the order in which they fire, and the logits (T, B, K)."""
    spikes: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: spikes.update({name: output.detach()}))
        for name, module in model.named_modules()
        if isinstance(module, LIF)
    ]
    try:
        with torch.no_grad():
            logits = model(x, steps)
    finally:
        for hook in hooks:
            hook.remove()
    return spikes, logits


def firing_rates(model: nn.Module, x: Tensor, steps: Tensor) -> dict[str, float]:
    """Spikes per neuron and valid step of every LIF layer, by module name."""
    spikes, _ = spikes_by_layer(model, x, steps)
    return {name: float(s.sum() / (steps.sum() * s.shape[-1])) for name, s in spikes.items()}


def assert_every_layer_fires(rates: dict[str, float]) -> None:
    """Fails where a comparison of spikes would prove nothing: a layer that is (almost) silent or (almost) saturated."""
    outside = {name: rate for name, rate in rates.items() if not LOWEST_RATE <= rate <= HIGHEST_RATE}
    assert rates, "no LIF layer"
    assert not outside, f"layers that fire too little or too much: {outside}"


def calibrated_model(
    config: AnyModelConfig = SMALL,
    seed: int = 0,
    *,
    samples: int = 6,
    window: int = 24,
    dtype: torch.dtype = torch.float64,
    counts: bool = False,
) -> tuple[Network, Tensor, Tensor]:
    """A network in which every LIF layer fires, unlike a freshly initialised one, with input that makes it.

    Weights are random; running statistics are those of the input; the affine parameters of the batch normalisations
    are random too (no gain is 1 and no shift is 0) and are moved until each LIF layer fires at 4 to 65 % of its steps.
    Membrane constants that are learnt are random. Weights and input are float32 numbers whatever `dtype` is, as in a
    checkpoint.

    Args:
        config: sizes.
        seed: of everything drawn.
        samples: B.
        window: T; the longest sample ends 3 steps before it.
        dtype: of the parameters and the input.
        counts: input of spike counts (integers) instead of real values.

    Returns:
        The model in eval mode; x (T, B, C); steps (B,), different from sample to sample.
    """
    x, steps = structured_input(config.inputs, samples=samples, window=window, seed=seed, counts=counts)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(config)
    for module in model.modules():
        if isinstance(module, ParametricLIF) and module.w is not None:
            nn.init.uniform_(module.w, -1.0, 1.5, generator=generator)
    norms = {name: m for name, m in model.named_modules() if isinstance(m, SequenceBatchNorm)}
    for norm in norms.values():
        nn.init.uniform_(norm.weight, 0.6, 1.4, generator=generator)
        nn.init.uniform_(norm.bias, -0.2, 0.6, generator=generator)
    by = 0.5 if config.neuron == "adaptive" else 0.15  # those take a small share of what moves them
    for _ in range(20):
        _take_statistics(model, norms, x, steps)
        rates = firing_rates(model, x, steps)
        if all(0.08 < rate < 0.5 for rate in rates.values()):
            break
        for name, rate in rates.items():
            _shift(model, name, by if rate <= 0.08 else -by if rate >= 0.5 else 0.0)
    assert_every_layer_fires(rates)
    return model.to(dtype), x.to(dtype), steps


def write_tones(root: Path, *, takes: int = 5) -> Path:
    """A folder in the layout of Google Speech Commands: two words, a low and a high tone; 6 speakers, 8 kHz.

    Two speakers are listed for validation, one for test; recordings last 0.3 to 0.6 s.
    """
    rng = np.random.default_rng(0)
    names: dict[str, list[str]] = {"validation_list.txt": [], "testing_list.txt": []}
    for word, hertz in (("high", 2000), ("low", 300)):
        (root / word).mkdir(parents=True)
        for speaker in range(6):
            for take in range(takes):
                time = np.arange(rng.integers(2400, 4801)) / 8000
                wave = 0.5 * np.sin(2 * np.pi * hertz * rng.uniform(0.9, 1.1) * time) + 0.01 * rng.normal(
                    size=len(time)
                )
                name = f"{word}/{speaker:08x}_nohash_{take}.wav"
                soundfile.write(root / name, wave, 8000)
                if speaker < 3:
                    names["testing_list.txt" if speaker == 0 else "validation_list.txt"].append(name)
    for name, lines in names.items():
        (root / name).write_text("\n".join(lines) + "\n")
    return root


def write_heidelberg(
    root: Path, name: str, counts: dict[str, int], *, classes: tuple[str, ...] = ("null", "fünf"), seed: int = 0
) -> Path:
    """A folder with the HDF5 files of SHD or SSC, laid out as published, of spikes that a small network can tell apart.

    Times are ascending float16, units uint16, both of variable length; labels, speakers and `extra/meta_info` as
    published. Recordings last 0.3 to 0.6 s and have some 800 spikes; a class is a sweep of its own slope.

    Args:
        root: The folder.
        name: "shd" or "ssc".
        counts: Split -> recordings; class and speaker (0 to 5; in SHD's test split 4 to 7) go round.
        classes: Their names.
        seed: Of everything drawn.
    """
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for split, count in counts.items():
        labels = np.arange(count) % len(classes)
        times, units = [], []
        for label in labels:
            seconds, spikes = rng.uniform(0.3, 0.6), int(rng.integers(600, 1000))
            t = np.sort(rng.uniform(0, seconds, spikes))
            place = 350 + 500 * (label / max(1, len(classes) - 1) - 0.5) * (2 * t / seconds - 1)
            times.append(t.astype(np.float16))
            units.append(np.clip(place + 40 * rng.normal(size=spikes), 0, 699).astype(np.uint16))
        write_heidelberg_file(
            root / f"{name}_{split}.h5",
            times,
            units,
            labels,
            classes,
            speakers=None
            if name == "ssc"
            else np.arange(count) // len(classes) % (4 if split == "test" else 6) + (4 if split == "test" else 0),
        )
    return root


def write_heidelberg_file(
    path: Path,
    times: list[np.ndarray],
    units: list[np.ndarray],
    labels: np.ndarray,
    classes: tuple[str, ...],
    speakers: np.ndarray | None = None,
) -> Path:
    """One HDF5 file in the layout of https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/."""
    with h5py.File(path, "w") as file:
        for field, arrays, dtype in (("times", times, np.float16), ("units", units, np.uint16)):
            dataset = file.create_dataset(f"spikes/{field}", (len(arrays),), h5py.vlen_dtype(dtype))
            for index, array in enumerate(arrays):
                dataset[index] = array
        file["labels"] = labels.astype(np.uint16)
        file["extra/keys"] = np.array([name.encode() for name in classes])
        if speakers is not None:
            file["extra/speaker"] = speakers.astype(np.uint16)
            who = int(speakers.max(initial=0)) + 1
            file["extra/meta_info/gender"] = np.array([b"male", b"female"] * who)[:who]
            file["extra/meta_info/age"] = np.arange(20, 20 + who, dtype=np.uint16)
            file["extra/meta_info/body_height"] = np.arange(160, 160 + who, dtype=np.uint16)
    return path


def _take_statistics(model: Network, norms: dict[str, SequenceBatchNorm], x: Tensor, steps: Tensor) -> None:
    """Sets the running statistics to those of x, without dropout; leaves the model in eval mode."""
    for module in model.modules():
        module.train(isinstance(module, SequenceBatchNorm))
    for norm in norms.values():
        norm.momentum = 1.0
    with torch.no_grad():
        model(x, steps)
    for norm in norms.values():
        norm.momentum = 0.1
    model.eval()


def _shift(model: Network, lif: str, by: float) -> None:
    """Moves the shifts of the batch normalisations that drive a LIF layer."""
    block, _, name = lif.removesuffix(".lif").rpartition(".")
    own = [f"{block}.{name}.current.norm" if block else f"{name}.current.norm"]
    drivers = {
        "q_rotated": ["q.current.norm"],
        "k_rotated": ["k.current.norm"],
        "attention": ["v.current.norm", "q.current.norm"],
        "gate_in": ["split.norm"],
        "gated": ["split.norm"],
        "positioned": ["sem.current.norm"],
        "first": [],  # residual sums alone drive it
        "near": ["q.current.norm", "k.current.norm"],
        "far": ["q.current.norm", "k.current.norm", "v.current.norm"],
        "filtered": [],
    }
    if name == "filtered":  # no normalisation is before it
        with torch.no_grad():
            model.get_submodule(f"{block}.filter.depthwise").weight.mul_(1 + 2 * by)
    for driver in [f"{block}.{d}".removeprefix(".") for d in drivers[name]] if name in drivers else own:
        bias = model.get_submodule(driver).bias
        assert isinstance(bias, Tensor)
        with torch.no_grad():
            half = len(bias) // 2
            part = {"gate_in": slice(half, None), "gated": slice(0, half)}.get(name, slice(None))
            bias[part if getattr(model.config, "gating_unit", False) else slice(None)] += by
