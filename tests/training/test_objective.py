from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikescr.model import readout
from spikescr.training.config import TrainConfig
from spikescr.training.objective import label_loss


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(2, 5))
def test_mean_is_minus_the_logarithm_of_the_labels_mean_probability(seed: int, window: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(window, 4, classes, generator=generator, dtype=torch.float64)
    steps = torch.randint(1, window + 1, (4,), generator=generator)
    labels = torch.randint(0, classes, (4,), generator=generator)
    losses = label_loss(readout(logits, steps), labels, "mean").tolist()
    for sample, loss in enumerate(losses):
        likely = 0.0
        for row in logits[: int(steps[sample]), sample].tolist():
            likely += math.exp(row[labels[sample]]) / sum(map(math.exp, row)) / int(steps[sample])
        assert loss == pytest.approx(-math.log(likely + 1e-6), rel=1e-9)


def test_sure_and_wrong_steps_still_learn_by_the_mean_and_hardly_by_the_sum() -> None:
    gradients = {}
    for loss in ("sum", "mean"):
        logits = torch.zeros(5, 1, 3)
        logits[:, :, 1] = 9.0
        logits.requires_grad_()
        label_loss(readout(logits, torch.tensor([5])), torch.tensor([0]), loss).sum().backward()  # type: ignore[arg-type]
        assert logits.grad is not None
        gradients[loss] = float(logits.grad[0, 0, 0])
    assert gradients["mean"] < -0.1
    assert 0 > gradients["sum"] > -1e-3


def test_a_loss_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="loss"):
        TrainConfig(loss="median")  # type: ignore[arg-type]
