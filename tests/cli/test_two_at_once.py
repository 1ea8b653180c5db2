"""Two commands at once in a run folder or a job: the second keeps out, and nothing of the first's is lost."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import Command, spikescr
from helpers import write_tones

TRAIN = ["--data", "folder:tones", "steps=20", "model.heads=2", "model.width=16", "batch_size=16", "threads=1"]
BUSY = "another spikescr command is at work here; wait for it or choose another folder (--run)"


@contextmanager
def at_work(*arguments: str, cwd: Path, until: Callable[[], bool]) -> Iterator[Command]:
    """A command that is stopped when `until` is true, so that it is at work as long as it takes; killed at the end."""
    command = Command(*arguments, cwd=cwd)
    try:
        deadline = time.monotonic() + 120
        while not until():
            assert command.returncode is None, command.stderr
            assert time.monotonic() < deadline
            time.sleep(0.01)
        command.send_signal(signal.SIGSTOP)
        yield command
    finally:
        command.kill()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained network, exported, and in integers."""
    root = tmp_path_factory.mktemp("work")
    write_tones(root / "tones", takes=4)
    for words in (["train", *TRAIN, "epochs=2"], ["export"], ["quantize"]):
        run = spikescr(*words, cwd=root)
        assert run.returncode == 0, run.stderr
    return root


def test_no_one_trains_in_a_stage_that_a_job_trains(root: Path) -> None:
    stage = root / "job" / "stage-020"
    words = ["distill", *(word for word in TRAIN if word != "steps=20"), "--curriculum", "20,10", "epochs=500"]
    with at_work(*words, "--run", "job", cwd=root, until=(stage / "metrics.csv").exists):
        run = spikescr("train", *TRAIN, "epochs=1", "--run", "job/stage-020", cwd=root)
        assert (run.returncode, run.stderr) == (1, f"error: job: {BUSY}\n")
        run = spikescr("export", "--run", "job/stage-020", cwd=root)
        assert (run.returncode, run.stderr) == (1, f"error: job: {BUSY}\n")
    assert json.loads((stage / "config.json").read_text())["epochs"] == 500


def test_no_one_trains_in_a_trial_of_a_sweep(root: Path) -> None:
    trial = root / "sweep" / "10-seed0"
    words = ["distill", *(word for word in TRAIN if word != "steps=20"), "--sweep", "20,10;10", "--budget", "500"]
    begun = (trial / "stage-010" / "metrics.csv").exists
    with at_work(*words, "--seeds", "1", "--run", "sweep", cwd=root, until=begun):
        given = ["--curriculum", "20,10", "epochs=1"]
        for other in (
            ["train", *TRAIN, "epochs=1", "--run", "sweep/10-seed0/stage-010"],
            ["distill", *(word for word in TRAIN if word != "steps=20"), *given, "--run", "sweep/20-10-seed0"],
        ):
            run = spikescr(*other, cwd=root)
            assert (run.returncode, run.stderr) == (1, f"error: sweep: {BUSY}\n")


def test_training_keeps_out_while_its_network_in_integers_is_simulated(root: Path) -> None:
    shutil.copytree(root / "runs/latest", root / "runs/busy")
    made = root / "runs/busy/loihi2"
    words = ["simulate", "--precision", "loihi2", "--backend", "lava", "--chunk-size", "1", "--run", "runs/busy"]
    with at_work(*words, cwd=root, until=(made / "simulation/chunks/000000.npz").exists):
        run = spikescr("train", *TRAIN, "epochs=1", "--run", "runs/busy", cwd=root)
        assert (run.returncode, run.stderr) == (1, f"error: runs/busy: {BUSY}\n")
    assert (made / "model.nir").exists()


def test_the_network_is_not_replaced_while_it_is_quantized(root: Path) -> None:
    shutil.copytree(root / "runs/latest", root / "runs/tuned")
    before = (root / "runs/tuned/model.safetensors").read_bytes()
    folder = root / "runs/tuned"
    words = ["quantize", "--finetune", "500", "--run", "runs/tuned"]

    def tuning() -> bool:
        return spikescr_holds(folder)

    with at_work(*words, cwd=root, until=tuning):
        run = spikescr("train", *TRAIN, "epochs=1", "--run", "runs/tuned", cwd=root)
        assert (run.returncode, run.stderr) == (1, f"error: runs/tuned: {BUSY}\n")
    assert (folder / "model.safetensors").read_bytes() == before


def spikescr_holds(folder: Path) -> bool:
    """Whether a process holds a lock on a folder, as the kernel tells."""
    inode = folder.stat().st_ino
    return any(f":{inode} " in line for line in Path("/proc/locks").read_text().splitlines())


@pytest.mark.slow
def test_finetuning_that_was_ended_continues_to_the_same_bytes(root: Path) -> None:
    written = {}
    for name in ("whole", "ended"):
        shutil.copytree(root / "runs/latest", root / "runs" / name)
        words = ["quantize", "--bits", "5", "--finetune", "6", "--lr", "0.002", "--run", f"runs/{name}"]
        made = root / "runs" / name / "loihi2"
        if name == "ended":
            command = Command(*words, cwd=root)
            deadline = time.monotonic() + 120
            while not list(made.glob("finetuning/checkpoints/00001-*")):
                assert command.returncode is None, command.stderr
                assert time.monotonic() < deadline
                time.sleep(0.01)
            command.send_signal(signal.SIGTERM)
            assert command.wait(timeout=120) == 128 + signal.SIGTERM, command.stderr
            assert "continue with the same command and --resume" in command.stderr
            words.append("--resume")
        run = spikescr(*words, cwd=root)
        assert run.returncode == 0, run.stderr
        assert not (made / "finetuning").exists()
        report = json.loads((made / "quantization.json").read_text())
        written[name] = (made / "model.safetensors").read_bytes(), report["finetuning"]
        assert len(report["finetuning"]) == 7
    assert written["whole"] == written["ended"]
