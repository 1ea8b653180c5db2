from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers import calibrated_model
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

from spikescr.data import Features
from spikescr.model import readout
from spikescr.model.config import ModelConfig
from spikescr.training.assess import BINS, Answers, answer, assess, reliability, wilson

CLASSES = ("a", "b", "c", "d")


def drawn(seed: int, count: int = 200) -> Answers:
    """Readouts of random networks: sums over 5 to 30 steps of probabilities; class d is never the label."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(5, 31, count)
    y = np.array([rng.dirichlet([0.5] * 4, n).sum(axis=0) for n in steps])
    return Answers(y, rng.integers(0, 3, count), steps)


def test_figures_agree_with_scikit_learn() -> None:
    answers = drawn(0)
    found = assess(answers, CLASSES, [None] * 200)
    labels, predicted = answers.labels, answers.predicted
    np.testing.assert_array_equal(found.confusion, confusion_matrix(labels, predicted, labels=range(4)))
    precision, recall, _, support = precision_recall_fscore_support(labels, predicted, labels=[0, 1, 2])
    assert [share.name for share in found.classes] == ["a", "b", "c"]  # nobody says d: it has no accuracy
    np.testing.assert_allclose([share.precision for share in found.classes], precision)
    np.testing.assert_allclose([share.accuracy for share in found.classes], recall)
    assert [share.recordings for share in found.classes] == support.tolist()
    assert found.correct == int((labels == predicted).sum()) == round(found.accuracy * 200)
    probabilities = np.exp(answers.y) / np.exp(answers.y).sum(axis=1, keepdims=True)
    assert found.loss == pytest.approx(log_loss(labels, probabilities, labels=range(4)), rel=1e-9)
    assert found.speakers is None


def test_a_class_that_no_answer_names_has_no_precision() -> None:
    answers = Answers(np.array([[3.0, 1.0], [2.0, 1.0]]), np.array([0, 1]), np.array([4, 3]))
    found = assess(answers, ("a", "b"), [None, None])
    assert [(share.accuracy, share.precision) for share in found.classes] == [(1.0, 0.5), (0.0, None)]


def test_speakers() -> None:
    answers = drawn(1)
    who = [f"s{i % 3}" for i in range(200)]
    found = assess(answers, CLASSES, who).speakers
    assert found is not None
    right = answers.predicted == answers.labels
    expected = [(f"s{k}", len(right[k::3]), int(right[k::3].sum()), right[k::3].mean()) for k in range(3)]
    assert [(s.name, s.recordings, s.correct, s.accuracy) for s in found] == expected
    assert assess(answers, CLASSES, [None, *who[1:]]).speakers is None


@given(st.integers(0, 2**32 - 1), st.integers(1, 300))
def test_calibration_error_is_that_of_its_definition(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    confidence = np.clip(rng.uniform(0, 1.1, count), 0, 1).round(int(rng.integers(1, 8)))
    right = rng.uniform(size=count) < confidence
    found = reliability(confidence, right)
    ece, gaps, counts = 0.0, [0.0], []
    for k in range(BINS):
        low, high = k / BINS, (k + 1) / BINS
        within = [i for i in range(count) if low < confidence[i] <= high or (k == 0 and confidence[i] == 0)]
        counts.append(len(within))
        if within:
            gap = abs(np.mean([right[i] for i in within]) - np.mean([confidence[i] for i in within]))
            gaps.append(gap)
            ece += len(within) / count * gap
    assert found.ece == pytest.approx(ece, abs=1e-12)
    assert found.mce == pytest.approx(max(gaps), abs=1e-12)
    assert [b.recordings for b in found.bins] == counts
    assert sum(counts) == count


def test_confidence_in_two_readings() -> None:
    answers = Answers(np.array([[3.0, 1.0], [0.5, 1.5]]), np.array([0, 0]), np.array([4, 2]))
    found = answers.confidence()
    np.testing.assert_allclose(found["softmax"], [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1))])
    np.testing.assert_allclose(found["time_mean"], [0.75, 0.75])


@given(st.integers(1, 500), st.floats(0, 1))
def test_interval_is_wilsons(count: int, share: float) -> None:
    correct = round(share * count)
    expected = binomtest(correct, count).proportion_ci(method="wilson")
    assert wilson(correct, count) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_answers_keep_the_order_whatever_the_batches() -> None:
    sizes = ModelConfig(inputs=20, classes=4, heads=2, width=16, kernel=7, dropout=0.5)
    model, x, steps = calibrated_model(sizes, samples=9, window=30, dtype=torch.float64)
    values = x.transpose(0, 1).contiguous().numpy()
    labels = np.arange(9) % 4
    features = Features(values, steps.numpy(), labels, tuple(f"r{i}" for i in range(9)))
    with torch.no_grad():
        expected = readout(model(x, steps), steps).numpy()
    assert expected.std(axis=0).min() > 0.01
    for batch_size in (2, 9):
        found = answer(model.train(), features, batch_size)
        np.testing.assert_allclose(found.y, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(found.labels, labels)
        np.testing.assert_array_equal(found.steps, steps.numpy())


def test_everything_goes_into_json() -> None:
    found = json.loads(json.dumps(assess(drawn(2), CLASSES, ["s"] * 200).as_json()))
    assert found["speakers"][0]["recordings"] == 200
    assert len(found["reliability"]["softmax"]["bins"]) == BINS
