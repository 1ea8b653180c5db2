"""Small data sets that the tests make themselves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from spikescr.data import Features

Maker = Callable[..., Path]


def pooled(features: Features, parts: int = 8) -> np.ndarray:
    """Average each of `parts` stretches of a recording."""
    means = [
        [
            frames[min(part * length // parts, length - 1) :][: max(1, length // parts)].mean(axis=0)
            for part in range(parts)
        ]
        for frames, length in zip(features.values, features.steps, strict=True)
    ]
    return np.array(means).reshape(len(features), -1)


@pytest.fixture
def make_folder(tmp_path: Path) -> Maker:
    """Make a folder in the layout of Speech Commands: per name a noise burst, its length and level from the name."""

    def make(names: list[str], *, rate: int = 8000, lists: dict[str, list[str]] | None = None) -> Path:
        root = tmp_path / "words"
        for number, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(number).standard_normal(rate // 4 + 10 * number)
            soundfile.write(path, 0.1 * noise, rate)
        for list_name, entries in (lists or {}).items():
            (root / list_name).write_text("".join(f"{entry}\n" for entry in entries))
        return root

    return make
