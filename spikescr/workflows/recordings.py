"""A recording before and after augmentation, as it is in the first epochs of a training."""

from __future__ import annotations

from pathlib import Path

import torch

from spikescr.data import open_data
from spikescr.data.inspection import find_item, single
from spikescr.data.picture import draw
from spikescr.errors import UsageError
from spikescr.extras import require
from spikescr.training.augment import augment
from spikescr.training.recipes import default_training


def draw_recording(
    spec: str, recording: str, out: Path, *, steps: int = 100, window_s: float = 1.4, draws: int = 3, seed: int = 0
) -> None:
    """Draws a recording as it is, and as the first epochs of a training augment it.

    Args:
        spec: the data set, as of `open_data`; its augmentation is the paper's, for other data training's default.
        recording: its name there.
        out: the picture; its suffix tells the format.
        steps: per second.
        window_s: seconds at most.
        draws: augmented copies.
        seed: of the augmentation.

    Raises:
        UsageError: there is no such recording, or no folder for the picture, or no such format.
        DataError: the data set cannot be used.
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib", "a picture")
    if not out.parent.is_dir():
        raise UsageError(f"{out}: there is no folder {out.parent}")
    dataset = open_data(spec)
    item, place = find_item(dataset, recording)
    x, counts = single(item, steps=steps, window_s=window_s)
    augmentation = default_training(spec).augmentation
    assert augmentation is not None
    panels = [("as it is", x)]
    for epoch in range(1, draws + 1):
        changed = augment(
            torch.from_numpy(x)[:, None], torch.tensor([len(x)]), augmentation, seed=seed, epoch=epoch, samples=[place]
        )
        panels.append((f"epoch {epoch}", changed[:, 0].numpy()))
    what = ", ".join(f"{name} {value}" for name, value in augmentation.model_dump().items())
    title = f"{recording}: {dataset.classes[item.label]}, {steps} steps/s, seed {seed}\n{what}"
    draw(out, title, panels, steps=steps, counts=counts)
