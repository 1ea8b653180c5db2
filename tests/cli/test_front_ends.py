"""A network on events of sound, through all that is done with a network: its first layer accumulates alone."""

from __future__ import annotations

import pytest
from helpers import write_tones

from spikescr.data import open_data
from spikescr.data.coder import PLANES
from spikescr.runs import LOIHI2, RunFolder
from spikescr.sim.counting import before
from spikescr.sim.counting.energy import CONSTANTS, HOROWITZ_45NM
from spikescr.training.config import Augmentation, TrainConfig
from spikescr.training.loop import train
from spikescr.workflows.energy import open_audit
from spikescr.workflows.evaluate import evaluate_run
from spikescr.workflows.execution import Request, simulate_recordings
from spikescr.workflows.export import export_run
from spikescr.workflows.quantize import quantize_run
from spikescr.workflows.report import write_report
from spikescr.workflows.verify import verify_run

MODEL = {"inputs": 2 * PLANES * 10, "classes": 2, "layers": 1, "heads": 2, "width": 16, "mlp_ratio": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Trained, exported and simulated."""
    root = tmp_path_factory.mktemp("spikes")
    config = TrainConfig(
        data=f"folder:{write_tones(root / 'tones', takes=3)}",
        steps=20,
        frames_per_step=2,
        normalise="recording",
        front_end="spikes",
        epochs=3,
        batch_size=8,
        surrogate_alpha=1.0,
        threads=1,
        augmentation=Augmentation(bands=2, shift=1, gain_db=6),
        model=MODEL,
    )
    folder = RunFolder(root / "run")
    train(config, open_data(config.data), folder)
    export_run(folder)
    simulate_recordings(folder, Request(split="all"))
    return folder


def test_nothing_is_multiplied(run: RunFolder) -> None:
    audit = open_audit(run.path)
    assert audit.counts.totals()["mac"] == 0
    figures = before.figures(audit, HOROWITZ_45NM)
    assert figures is not None
    coding = figures["stages"][-1]
    assert coding["stage"] == "spike coding"
    assert coding["multiplications"] == pytest.approx(PLANES * 10 * 2 * audit.valid.mean())
    assert coding["additions"] == 2 * coding["multiplications"]


@pytest.mark.lava
def test_the_network_says_the_same_everywhere(run: RunFolder) -> None:
    verification = verify_run(run)
    assert verification.differing == 0
    assessment = evaluate_run(run, split="all").assessment
    assert assessment is not None
    audit = open_audit(run.path)
    assert assessment.correct == sum(p == label for p, label in zip(audit.predicted, audit.labels, strict=True))


def test_in_integers_its_input_stays_spikes(run: RunFolder) -> None:
    quantize_run(run, epochs=0)
    audit = simulate_recordings(run.of_precision(LOIHI2), Request(precision=LOIHI2)).audit
    assert audit.counts.totals()["mac"] == 0
    assert audit.counts.totals()["ac"] > 0


def test_its_report_draws_events(run: RunFolder) -> None:
    page, text = write_report([run.path], CONSTANTS, HOROWITZ_45NM.name)
    assert "per step and mel band" in page.read_text()
    assert "spike coding" in text.read_text()
