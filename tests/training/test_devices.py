from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from click.testing import CliRunner

from spikescr.cli import main
from spikescr.errors import UsageError
from spikescr.runs import RunFolder
from spikescr.training.devices import Devices
from spikescr.training.state import Checkpoints, load_state

SMALL = ["steps=20", "window_s=0.5", "batch_size=9", "threads=1", "model.heads=2", "model.width=16", "model.kernel=7"]
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


def spikescr_train(tones: Path, folder: Path, *arguments: str) -> list[str]:
    return ["spikescr", "train", "--data", f"folder:{tones}", "--run", str(folder), *SMALL, *arguments]


def accelerate_launch(*arguments: str) -> subprocess.Popen[str]:
    """The command of `spikescr train --help`, on a port of its own."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen([*launcher, *arguments], stdout=pipe, stderr=pipe, text=True, env=environment)


@pytest.mark.slow
def test_the_command_of_the_help_trains_in_two_processes_as_one_would(tones: Path, tmp_path: Path) -> None:
    one, two = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")
    several = ["--multi_gpu", "--num_processes", "2", "-m"]
    help_text = CliRunner().invoke(main, ["train", "--help"]).stdout
    assert f"accelerate launch {' '.join(several)} spikescr train" in help_text
    process = accelerate_launch(*several, *spikescr_train(tones, two.path, "epochs=2"))
    alone = CliRunner().invoke(main, spikescr_train(tones, one.path, "epochs=2")[1:])
    out, err = process.communicate(timeout=240)
    assert (process.returncode, alone.exit_code) == (0, 0), err
    assert out.count("best epoch") == out.count("validation accuracy") == 1
    warned = [line for line in err.splitlines() if line.startswith(("warning", "note"))]
    assert warned == alone.stderr.splitlines()  # of both, only the first process
    assert {path.name for path in two.path.rglob("*")} == {path.name for path in one.path.rglob("*")}
    rows = [list(csv.DictReader(run.metrics.read_text().splitlines())) for run in (one, two)]
    assert len(rows[0]) == len(rows[1]) == 2
    for row, other in zip(*rows, strict=True):
        assert {k: float(v) for k, v in row.items()} == pytest.approx({k: float(v) for k, v in other.items()}, rel=1e-3)
    state = safetensors.torch.load_file(Checkpoints(two.checkpoints).paths()[0])
    assert json.loads(two.config.read_text()) == json.loads(one.config.read_text())
    assert load_state(Checkpoints(two.checkpoints).paths()[0]).environment.processes == 2
    for name, tensor in safetensors.torch.load_file(Checkpoints(one.checkpoints).paths()[0]).items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
def test_sigterm_to_the_launcher_saves_the_state_and_ends_all_processes(tones: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    several = ["--multi_gpu", "--num_processes", "2", "-m"]
    process = accelerate_launch(*several, *spikescr_train(tones, run.path, "epochs=100000"))
    deadline = time.monotonic() + 240
    while not run.metrics.exists():
        assert process.poll() is None, process.communicate(timeout=300)
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert err.count("note: finishing the current step; once more ends at once\n") == 1
    (stopped,) = [line for line in err.splitlines() if line.startswith("note: stopped after epoch")]
    assert stopped.endswith(f"continue with: spikescr train --run {run.path} --resume")
    assert out.count("best epoch") == 1
    latest = Checkpoints(run.checkpoints).latest()
    assert latest is not None
    progressed = load_state(latest).progressed
    assert f"after epoch {len(progressed.epochs)} of 100000, step {progressed.step} of" in stopped
    assert len(workers) >= 2
    assert [pid for pid in workers if Path(f"/proc/{pid}").exists()] == []


def test_a_launcher_that_starts_one_process_of_several_is_told(tones: Path, tmp_path: Path) -> None:
    process = accelerate_launch(
        "--cpu", "--num_processes", "2", "-m", *spikescr_train(tones, tmp_path / "run", "epochs=1")
    )
    out, err = process.communicate(timeout=240)
    assert "error: accelerate launch --cpu started one process, however many were asked for; start them" in err
    assert (process.returncode, out) == (1, "")
    assert not (tmp_path / "run").exists()
