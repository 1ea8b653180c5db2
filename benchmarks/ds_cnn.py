"""DS-CNN, the keyword network of MLPerf Tiny: what a plain convolutional network does with the same recordings.

Architecture: Y. Zhang et al., Hello Edge (arXiv 1711.07128), small size, as in MLPerf Tiny's reference (arXiv
2106.07597): a convolution of 10 x 4 with stride 2, four pairs of depthwise 3 x 3 and pointwise convolutions of 64
channels, each with batch normalisation and ReLU, the mean over the map, a linear layer. Input: 10 MFCCs of 40 mel
bands, 50 a second. Written for this benchmark.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikescr.data import DataSet, Features, load
from spikescr.data.preprocessing import Preprocessing
from spikescr.training.batches import shuffled
from spikescr.training.config import TrainConfig
from spikescr.training.draws import generator
from spikescr.training.sources import ahead, fit_source

STEPS, BANDS, COEFFICIENTS, CHANNELS = 50, 40, 10, 64
LR, WEIGHT_DECAY = 2e-3, 1e-4
BATCH = 64


class DSCNN(nn.Module):
    """Logits (B, K) for log-mel input (T, B, 40)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        # The orthonormal cosine transform (DCT-II) of a frame's bands: cepstral coefficients.
        place = math.pi / BANDS * (torch.arange(BANDS) + 0.5)
        cosines = torch.cos(torch.arange(COEFFICIENTS)[:, None] * place) * math.sqrt(2 / BANDS)
        cosines[0] /= math.sqrt(2)
        self.register_buffer("cosines", cosines, persistent=False)
        self.first = _layer(nn.Conv2d(1, CHANNELS, (10, 4), stride=2, padding=(4, 1), bias=False))
        self.pairs = nn.Sequential(
            *(
                nn.Sequential(
                    _layer(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS, bias=False)),
                    _layer(nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False)),
                )
                for _ in range(4)
            )
        )
        self.dropout = nn.Dropout(0.2)
        self.last = nn.Linear(CHANNELS, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        cepstra = (x.transpose(0, 1) @ self.cosines.T)[:, None]
        out: Tensor = self.last(self.dropout(self.pairs(self.first(cepstra)).mean((2, 3))))
        return out


def _layer(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU())


@dataclass(frozen=True, eq=False)
class TrainedCNN:
    """A trained network.

    Attributes:
        network: In eval mode, of the epoch that did best on the validation split.
        preprocessing: From a recording to its input.
        parameters: How many it has.
        seconds: Of training.
    """

    network: DSCNN
    preprocessing: Preprocessing
    parameters: int
    seconds: float

    def answers(self, features: Features) -> Tensor:
        """The classes (n,) that it names."""
        values = torch.from_numpy(features.values).transpose(0, 1)
        with torch.no_grad():
            return torch.cat([self.network(part).argmax(-1) for part in values.split(256, dim=1)])


def train_cnn(config: TrainConfig, dataset: DataSet) -> TrainedCNN:
    """Train on a data set with the augmentation, normalisation, epochs and seed of a configuration."""
    model = config.model.model_copy(update={"inputs": BANDS})
    augmentation = config.augmentation
    if augmentation is not None:  # masks and shifts as wide, in Hz, as those of the configuration
        share = BANDS / config.bands
        wide = {"bands": round(augmentation.bands * share), "shift": round(augmentation.shift * share)}
        augmentation = augmentation.model_copy(update=wide)
    changes = {"steps": STEPS, "frames_per_step": 1, "model": model, "augmentation": augmentation}
    config = config.model_copy(update=changes)
    torch.manual_seed(config.seed)
    preprocessing, source = fit_source(config, dataset)
    valid = load(dataset.split("valid"), preprocessing)
    network = DSCNN(len(dataset.classes))
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    began, best, weights = time.perf_counter(), -1.0, network.state_dict()
    trained = TrainedCNN(network, preprocessing, sum(p.numel() for p in network.parameters()), 0.0)
    window = preprocessing.front_end.window_steps
    for epoch in range(1, config.epochs + 1):
        network.train()
        batches = shuffled(source.steps, BATCH, generator(config.seed, 0, epoch))
        for number, (x, _, labels) in enumerate(ahead(source, batches, epoch)):
            done = (epoch - 1 + number / len(batches)) / config.epochs
            for group in optimizer.param_groups:
                group["lr"] = LR * (1 + math.cos(math.pi * done)) / 2
            whole = functional.pad(x, (0, 0, 0, 0, 0, window - len(x)))
            loss = functional.cross_entropy(network(whole), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        accuracy = float((trained.answers(valid) == torch.from_numpy(valid.labels)).float().mean())
        if accuracy >= best:
            best, weights = accuracy, {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(weights)
    return TrainedCNN(network.eval(), preprocessing, trained.parameters, time.perf_counter() - began)


def count_macs(network: DSCNN, values: Tensor) -> tuple[float, float]:
    """Multiplications with additions for a recording: by our own rule, and all that the layers have.

    Our simulator charges for what arrives: a weight times 0 is no operation, and padding is nothing. A CNN that is
    executed layer by layer does them all. Biases are neither; batch normalisation folds into the convolution before it.

    Args:
        network: In eval mode.
        values: Inputs (T, B, bands).

    Returns:
        Mean over the recordings of multiplications by what is not 0; and of all, padding included.
    """
    executed, every = 0.0, 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal executed, every
        there = (inputs[0] != 0).to(torch.float64)
        if isinstance(module, nn.Conv2d):
            ones = torch.ones_like(module.weight, dtype=torch.float64)
            places = functional.conv2d(there, ones, None, module.stride, module.padding, 1, module.groups)
            executed += float(places.sum())
            every += output[0, 0].numel() * module.weight.numel() * len(output)
        elif isinstance(module, nn.Linear):
            executed += float(there.sum()) * module.out_features
            every += module.weight.numel() * len(output)

    hooks = [module.register_forward_hook(count) for module in network.modules()]
    with torch.no_grad():
        for part in values.split(64, dim=1):
            network(part)
    for hook in hooks:
        hook.remove()
    return executed / values.shape[1], every / values.shape[1]
