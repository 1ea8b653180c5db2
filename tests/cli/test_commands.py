"""The recipe commands from training to verification, on words that are tones."""

from __future__ import annotations

import json
from pathlib import Path

import nir
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from helpers import write_tones

from spikescr.cli import main
from spikescr.runs import RunFolder
from spikescr.workflows.evaluate import evaluate_run

SMALL = ["model.heads=2", "model.width=16", "model.inputs=40", "steps=20", "batch_size=8", "threads=1", "epochs=20"]


def invoke(*arguments: str | Path) -> str:
    found = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert found.exit_code == 0, found.stderr
    return found.stdout


@pytest.mark.slow
@pytest.mark.lava
def test_commands_is_trained_exported_and_verified_and_hears_quiet_words(tmp_path: Path) -> None:
    tones, run = write_tones(tmp_path / "tones"), RunFolder(tmp_path / "run")
    hum = tmp_path / "hum"
    hum.mkdir()
    soundfile.write(hum / "hum.wav", 0.1 * np.random.default_rng(0).standard_normal(8000), 8000)
    noise = f"augmentation.noise=folder:{hum}"
    invoke("train", "commands", "--data", f"folder:{tones}", "--run", run.path, noise, *SMALL)
    invoke("export", "--to", "nir", "--run", run.path)
    invoke("verify", "--run", run.path, "--limit", "4", "--stall-seconds", "90")
    report = json.loads(run.verification.read_text())
    assert report["differing_spikes"] == 0
    assert min(layer["spikes"] for layer in report["layers"]) > 0
    assert json.loads(nir.read(run.graph).metadata["spikescr.data"])["preprocessing"]["normaliser"] == {
        "range_db": 60.0
    }

    quiet = tmp_path / "quiet"
    for path in tones.rglob("*.wav"):
        waveform, rate = soundfile.read(path)
        (quiet / path.parent.name).mkdir(parents=True, exist_ok=True)
        soundfile.write(quiet / path.parent.name / path.name, 0.1 * waveform, rate, subtype="PCM_24")
    loud, soft = (evaluate_run(run, data=f"folder:{folder}", split="all").assessment for folder in (tones, quiet))
    assert loud is not None
    assert soft is not None
    assert loud.accuracy > 0.8
    assert soft.confusion == loud.confusion
