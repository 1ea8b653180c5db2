from __future__ import annotations

from pathlib import Path

import pytest
from helpers import write_tones

from spikescr.data import DataSet, open_data


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two words of pure tones: 30 recordings to train on, 20 to validate."""
    return write_tones(tmp_path_factory.mktemp("data") / "tones")


@pytest.fixture(scope="session")
def dataset(tones: Path) -> DataSet:
    return open_data(f"folder:{tones}")
