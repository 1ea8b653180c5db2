from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from spikescr.errors import UsageError
from spikescr.runs import RunFolder
from spikescr.training.devices import Devices

SCRIPT = Path(__file__).with_name("recording_gradients.py")


def launched(processes: int, tones: Path, folder: Path) -> list[list[list[int]]]:
    """Trains in so many processes; epoch and indices of each batch, process by process."""
    folder.mkdir()
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    found = subprocess.run(
        [sys.executable, *launcher, SCRIPT, f"folder:{tones}", folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
    )
    assert found.returncode == 0, found.stderr
    return [json.loads((folder / f"seen-{rank}.json").read_text()) for rank in range(processes)]


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(tones: Path, tmp_path: Path) -> None:
    ((*alone,),) = [launched(1, tones, tmp_path / "one")]
    together = launched(2, tones, tmp_path / "two")
    for number, batch in enumerate(alone[0]):
        epoch, *chosen = batch
        shares = [rank[number] for rank in together]
        assert {share[0] for share in shares} == {epoch}
        assert chosen[::2] == shares[0][1:]
        assert chosen[1::2] == shares[1][1:]
    for epoch in (1, 2):
        assert sorted(i for batch in alone[0] if batch[0] == epoch for i in batch[1:]) == list(range(30))
    gradients, expected = (
        safetensors.torch.load_file(tmp_path / name / "gradients.safetensors") for name in ("two", "one")
    )
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert largest > 1e-3
    for name, gradient in expected.items():
        assert float((gradients[name] - gradient).abs().max()) <= 1e-6 * largest, name
    one, two = (RunFolder(tmp_path / name / "run") for name in ("one", "two"))
    expected_weights = safetensors.torch.load_file(one.checkpoint)
    for name, weights in safetensors.torch.load_file(two.checkpoint).items():
        torch.testing.assert_close(weights, expected_weights[name], rtol=1e-3, atol=1e-4, msg=name)
    rows = [list(csv.DictReader(run.metrics.read_text().splitlines())) for run in (one, two)]
    assert len(rows[0]) == len(rows[1]) == 2
    for row, other in zip(*rows, strict=True):
        assert {k: float(v) for k, v in row.items()} == pytest.approx({k: float(v) for k, v in other.items()}, rel=1e-3)


def test_a_batch_that_is_smaller_than_the_processes_is_refused() -> None:
    devices = Devices()
    devices.processes = 4
    devices.require_batches(4)
    with pytest.raises(UsageError, match="4 processes cannot share a batch of 3 recordings: raise batch_size"):
        devices.require_batches(3)
