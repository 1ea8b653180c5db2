"""What a trained network gets right on a split: by class, by speaker, and how far its confidence can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch

from spikescr.data import Features
from spikescr.model import Network, readout
from spikescr.training.batches import Split, by_length

BINS = 15
"""Of equal width from 0 to 1, as in Guo et al., On calibration of modern neural networks, ICML 2017."""
Z = 1.959963984540054
"""Quantile of the normal distribution for 95 %."""

Numbers = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bin:
    """Recordings whose confidence lies in (low, high]; mean confidence and share of right answers, None without any."""

    low: float
    high: float
    recordings: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Reliability:
    """Confidence against correctness.

    ece: expected calibration error, the mean over recordings of |accuracy - confidence| of their bin. mce: the largest
    of them. confidence: mean over all recordings.
    """

    ece: float
    mce: float
    confidence: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Share:
    """Of how many recordings how many are right.

    name: a class or a speaker. precision: of a class, the share of the answers that name it which are right, None where
    none does; of a speaker None.
    """

    name: str
    recordings: int
    correct: int
    accuracy: float
    precision: float | None = None


@dataclass(frozen=True, eq=False)
class Answers:
    """Readouts y (n, K), sums of softmax outputs over valid steps; labels, valid steps (n,)."""

    y: Numbers
    labels: Integers
    steps: Integers

    @property
    def predicted(self) -> Integers:
        """The class of the largest readout, the first of equal ones (n,)."""
        predicted: Integers = self.y.argmax(axis=1)
        return predicted

    def confidence(self) -> dict[str, Numbers]:
        """Confidence in the answer (n,), in two readings.

        softmax: softmax of y, what training's cross-entropy takes for probabilities. time_mean: y over the valid steps,
        the mean of the probabilities at the steps.
        """
        shifted = np.exp(self.y - self.y.max(axis=1, keepdims=True))
        return {
            "softmax": (shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1),
            "time_mean": self.y.max(axis=1) / self.steps,
        }


@dataclass(frozen=True)
class Assessment:
    """What a network gets right.

    Attributes:
        recordings: How many.
        correct: Right answers.
        accuracy: Share of right answers.
        interval: Of 95 % about it (Wilson).
        loss: Mean cross-entropy.
        classes: Those with recordings.
        speakers: None where the data does not tell them.
        confusion: Rows are labels, columns answers.
        reliability: Confidence against correctness, by reading of the confidence.
    """

    recordings: int
    correct: int
    accuracy: float
    interval: tuple[float, float]
    loss: float
    classes: tuple[Share, ...]
    speakers: tuple[Share, ...] | None
    confusion: tuple[tuple[int, ...], ...]
    reliability: dict[str, Reliability]

    def as_json(self) -> dict[str, object]:
        """Plain lists, numbers and text."""
        return asdict(self)


def answer(model: Network, features: Features, batch_size: int) -> Answers:
    """Runs a network in eval mode, in its own precision, over recordings; keeps their order."""
    split = Split.from_features(features)
    y = torch.zeros(len(split), model.head.out_features, dtype=torch.float64)
    model.eval()
    with torch.no_grad():
        for chosen in by_length(split.steps, batch_size):
            x, steps, _ = split.batch(chosen)
            y[chosen] = readout(model(x, steps), steps).double()
    return Answers(y.numpy(), split.labels.numpy(), split.steps.numpy())


def assess(answers: Answers, classes: Sequence[str], speakers: Sequence[str | None]) -> Assessment:
    """Compares answers with labels.

    Args:
        answers: of n recordings, at least one.
        classes: names, in the order of the readouts.
        speakers: of each recording, None where it is not known.
    """
    right = answers.predicted == answers.labels
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, (answers.labels, answers.predicted), 1)
    largest = answers.y.max(axis=1)
    log_sum = largest + np.log(np.exp(answers.y - largest[:, None]).sum(axis=1))
    named = [who for who in speakers if who is not None]
    return Assessment(
        recordings=len(right),
        correct=int(right.sum()),
        accuracy=float(right.mean()),
        interval=wilson(int(right.sum()), len(right)),
        loss=float((log_sum - answers.y[np.arange(len(right)), answers.labels]).mean()),
        classes=tuple(_of_class(confusion, k, name) for k, name in enumerate(classes) if confusion[k].any()),
        speakers=_of_speakers(right, speakers) if len(named) == len(right) else None,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        reliability={name: reliability(confidence, right) for name, confidence in answers.confidence().items()},
    )


def wilson(correct: int, count: int) -> tuple[float, float]:
    """Interval of 95 % for a share (E. Wilson, Journal of the American Statistical Association 22, 209, 1927)."""
    share, scale = correct / count, 1 + Z**2 / count
    middle = (share + Z**2 / (2 * count)) / scale
    half = Z / scale * (share * (1 - share) / count + Z**2 / (4 * count**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def reliability(confidence: Numbers, right: npt.NDArray[np.bool_]) -> Reliability:
    """Confidence (n,), 0 to 1, against right answers (n,), in BINS bins."""
    edges = np.linspace(0, 1, BINS + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)
    bins, gaps, ece = [], [0.0], 0.0
    for k in range(BINS):
        within = place == k
        count = int(within.sum())
        mean = float(confidence[within].mean()) if count else None
        share = float(right[within].mean()) if count else None
        bins.append(Bin(float(edges[k]), float(edges[k + 1]), count, mean, share))
        if mean is not None and share is not None:
            gaps.append(abs(share - mean))
            ece += count / len(right) * gaps[-1]
    return Reliability(ece=ece, mce=max(gaps), confidence=float(confidence.mean()), bins=tuple(bins))


def _of_class(confusion: Integers, k: int, name: str) -> Share:
    count, named, correct = int(confusion[k].sum()), int(confusion[:, k].sum()), int(confusion[k, k])
    return Share(name, count, correct, correct / count, correct / named if named else None)


def _of_speakers(right: npt.NDArray[np.bool_], speakers: Sequence[str | None]) -> tuple[Share, ...]:
    who = np.array([str(name) for name in speakers])
    shares = []
    for name in sorted(set(who.tolist())):
        own = right[who == name]
        shares.append(Share(name, len(own), int(own.sum()), float(own.mean())))
    return tuple(shares)
