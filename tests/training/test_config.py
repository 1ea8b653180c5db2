from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from spikescr.schemas import faults
from spikescr.training import TrainConfig


def test_all_faults_are_told_in_one_line() -> None:
    with pytest.raises(ValidationError, match="3 validation errors") as caught:
        TrainConfig.model_validate({"epochs": 0, "momentum": 0.9, "model": {"width": 100}})
    assert faults(caught.value) == (
        "epochs: Input should be greater than or equal to 1 (got 0); "
        "model: width 100 must be an even number of channels for each of 8 heads (rotary positions turn pairs); "
        "momentum: Extra inputs are not permitted (got 0.9)"
    )


def test_json_round_trip() -> None:
    config = TrainConfig(augmentation=None, threads=3, lr=0.1)
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
    assert TrainConfig.model_validate_json("{}") == TrainConfig()


def test_configuration_needs_no_torch() -> None:
    code = "import sys, spikescr.training; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=300).returncode == 0
