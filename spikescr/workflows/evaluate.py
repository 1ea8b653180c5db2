"""Accuracy, confusion and confidence of a trained network on a split, written to its run folder."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikescr.checkpoint import load_checkpoint
from spikescr.data import Item, load
from spikescr.data.dataset import NO_LABEL
from spikescr.extras import require
from spikescr.files import replacing, replacing_together, sha256, write_text
from spikescr.provenance import versions
from spikescr.quantities import percent
from spikescr.runs import RunFolder
from spikescr.tables import ShortTable, ShowsTable
from spikescr.training.assess import Answers, Assessment, answer, assess
from spikescr.workflows.deployed import choose_recordings


@dataclass(frozen=True, repr=False)
class Evaluated(ShowsTable):
    """What a network gets right, or where there are no labels what it says; and the files that hold it.

    Attributes:
        assessment: None where a recording has no label.
        classes: Names.
        written: The files.
        answers: Name of each recording, the network's answer and its confidence (softmax).
    """

    assessment: Assessment | None
    classes: tuple[str, ...]
    written: tuple[Path, ...]
    answers: tuple[tuple[str, str, float], ...]

    def short_table(self) -> ShortTable:
        """Accuracy of each class, or the answers."""
        assessment = self.assessment
        if assessment is None:
            said = [(name, answer, percent(confidence)) for name, answer, confidence in self.answers]
            return ShortTable("Recordings without labels", ("recording", "answer", "confidence"), said, ())
        rows = [(c.name, str(c.recordings), str(c.correct), percent(c.accuracy)) for c in assessment.classes]
        low, high = assessment.interval
        title = f"{assessment.recordings} recordings, accuracy {percent(assessment.accuracy, 2)}"
        note = f"95 %: {percent(low, 2)} to {percent(high, 2)}; loss {assessment.loss:.4f}"
        return ShortTable(title, ("class", "recordings", "correct", "accuracy"), rows, (note,))


@dataclass(frozen=True)
class _Trained:
    """What the choice of recordings needs to know of a checkpoint."""

    path: Path
    classes: tuple[str, ...]
    data: str
    seed: int


def evaluate_run(
    run: RunFolder,
    *,
    data: str | None = None,
    split: str = "test",
    limit: int | None = None,
    batch_size: int = 64,
    tables: bool = False,
    picture: bool = False,
) -> Evaluated:
    """Runs the trained network over a split, in PyTorch and its own precision, and writes evaluation/SPLIT.json.

    Args:
        run: with a checkpoint.
        data: data set instead of the one trained on, of the same classes.
        split: train, valid, test or all.
        limit: the first so many recordings only.
        batch_size: recordings at once.
        tables: also write the confusion matrix and every answer as CSV; answers are written anyway where there are no
            labels, and then nothing else.
        picture: also draw confusion and reliability, where there are labels.

    Raises:
        SpikescrError: there is no checkpoint, or it cannot be used, or most of the recordings; those that cannot be
            read are left out, and named.
    """
    if picture:
        require("matplotlib", "a picture (--png)")
    run.require(run.checkpoint)
    with run.locked():
        model, info = load_checkpoint(run.checkpoint)
        trained = _Trained(run.checkpoint, info.classes, info.training.data, info.training.seed)
        items = choose_recordings(trained, data=data, split=split, limit=limit, recording=None)
        features = load(items, info.preprocessing)
        items = tuple(item for item in items if item.name not in features.left_out)
        answers = answer(model, features, batch_size)
        labelled = all(item.label != NO_LABEL for item in items)
        assessment = assess(answers, info.classes, [item.speaker for item in items]) if labelled else None
        name = run.evaluation.name
        names = [f"{name}/{split}{ending}" for ending in (".json", "-confusion.csv", "-answers.csv", ".png")]
        content = {
            "data": data or info.training.data,
            "split": split,
            "limit": limit,
            "left_out": dict(features.left_out) or None,
            "seed": info.training.seed,
            "steps_per_second": info.training.steps,
            "checkpoint": sha256(run.checkpoint),
            "versions": versions("spikescr", "torch", "spikingjelly", "numpy"),
            **({"recordings": len(items)} if assessment is None else assessment.as_json()),
        }
        with replacing_together(run.path, names) as stage:
            path = RunFolder(stage).evaluation / f"{split}.json"
            path.parent.mkdir()
            written = [path.name]
            write_text(path, json.dumps(content, indent=2) + "\n")
            if tables or assessment is None:
                written.append(_write_answers(path, items, answers, info.classes))
            if tables and assessment is not None:
                written.append(_write_confusion(path, assessment, info.classes))
            if picture and assessment is not None:
                written.append(_draw(path.with_suffix(".png"), assessment, info.classes))
    confidence = answers.confidence()["softmax"].tolist()
    said = tuple(
        (item.name, info.classes[answer], share)
        for item, answer, share in zip(items, answers.predicted.tolist(), confidence, strict=True)
    )
    return Evaluated(assessment, info.classes, tuple(run.evaluation / each for each in written), said)


def _write_confusion(path: Path, assessment: Assessment, classes: tuple[str, ...]) -> str:
    rows = [[name, *row] for name, row in zip(classes, assessment.confusion, strict=True)]
    return _write_table(path.with_name(f"{path.stem}-confusion.csv"), [["label", *classes], *rows])


def _write_answers(path: Path, items: tuple[Item, ...], answers: Answers, classes: tuple[str, ...]) -> str:
    """Every answer; of a recording without a label neither that nor whether it is right."""
    confidence = answers.confidence()
    rows: list[list[object]] = [["recording", "speaker", "label", "predicted", "right", *confidence]]
    for i, item in enumerate(items):
        label, predicted = int(answers.labels[i]), int(answers.predicted[i])
        numbers = [f"{values[i]:.6g}" for values in confidence.values()]
        known = ("", "") if label == NO_LABEL else (classes[label], int(label == predicted))
        rows.append([item.name, item.speaker or "", known[0], classes[predicted], known[1], *numbers])
    return _write_table(path.with_name(f"{path.stem}-answers.csv"), rows)


def _write_table(path: Path, rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())
    return path.name


def _draw(path: Path, assessment: Assessment, classes: tuple[str, ...]) -> str:
    """The confusion matrix, rows in shares of their class, and confidence against accuracy."""
    from matplotlib.figure import Figure

    counts = np.array(assessment.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(4.0, 0.3 * len(classes) + 1.5)
    figure = Figure(figsize=(side + 5, side + 0.8), layout="constrained")
    figure.suptitle(f"{assessment.recordings} recordings, accuracy {assessment.accuracy:.2%}")
    left, right = figure.subplots(1, 2, width_ratios=(side, 4))
    image = left.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    left.set_xticks(range(len(classes)), classes, rotation=90)
    left.set_yticks(range(len(classes)), classes)
    left.set_xlabel("answer")
    left.set_ylabel("label")
    for i, k in np.argwhere(counts > 0):
        left.text(k, i, counts[i, k], ha="center", va="center", fontsize=7, color="w" if shares[i, k] > 0.5 else "k")
    figure.colorbar(image, ax=left, label="share of the class", shrink=0.8)
    right.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    for name, calibration in assessment.reliability.items():
        points = [(b.confidence, b.accuracy) for b in calibration.bins if b.confidence is not None]
        right.plot(*zip(*points, strict=True), marker="o", label=f"{name.replace('_', ' ')}: ECE {calibration.ece:.3f}")
    right.set_box_aspect(1)
    right.set_xlim(0, 1)
    right.set_ylim(0, 1)
    right.set_xlabel("confidence")
    right.set_ylabel("accuracy")
    right.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return path.name
