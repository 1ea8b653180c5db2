from __future__ import annotations

from pathlib import Path

import pytest
from helpers import write_tones

from spikescr.data import DataSet, open_data
from spikescr.model.config import ModelConfig
from spikescr.training.config import TrainConfig


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two words of pure tones: 30 recordings to train on, 20 to validate."""
    return write_tones(tmp_path_factory.mktemp("data") / "tones")


@pytest.fixture(scope="session")
def dataset(tones: Path) -> DataSet:
    return open_data(f"folder:{tones}")


@pytest.fixture(scope="session")
def config(dataset: DataSet) -> TrainConfig:
    """A training of a second: two epochs of four steps."""
    model = ModelConfig(inputs=20, heads=2, width=16, kernel=7)
    return TrainConfig(data=dataset.spec, steps=20, window_s=0.5, epochs=2, batch_size=8, threads=1, model=model)
