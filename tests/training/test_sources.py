"""What a training sees of its recordings: the same whoever asks, in whatever order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spikescr.data import DataSet, fit_and_load, load, open_data
from spikescr.data.frontend import FrontEnd
from spikescr.data.preprocessing import RecordingNormaliser
from spikescr.errors import UsageError
from spikescr.runs import RunFolder
from spikescr.training.config import Augmentation, TrainConfig
from spikescr.training.loop import train
from spikescr.training.running import Progress
from spikescr.training.sources import ahead, fit_source, open_source

MASKS = {"probability": 0.5, "bands": 3, "time_share": 0.25, "shift": 2}


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> str:
    import soundfile

    folder = tmp_path_factory.mktemp("noise")
    soundfile.write(folder / "hum.wav", np.sin(np.arange(4000.0)), 8000)
    return f"folder:{folder}"


def altered(config: TrainConfig, noise: str, **changes: object) -> TrainConfig:
    of_sound = Augmentation(**MASKS, noise=noise, speed=0.1, time_shift_s=0.05, gain_db=3)
    return config.model_copy(update={"augmentation": of_sound, "normalise": "recording", **changes})


def test_waveforms_that_nothing_alters_give_the_spectra(config: TrainConfig, dataset: DataSet) -> None:
    masks = Augmentation(**MASKS)
    for changes in ({"normalise": "training"}, {"normalise": "recording"}, {"front_end": "spikes"}):
        plain = config.model_copy(update={"augmentation": masks, **changes})
        preprocessing, spectra = fit_source(plain, dataset)
        hardly = masks.model_copy(update={"gain_db": 1e-12})
        same, waveforms = fit_source(plain.model_copy(update={"augmentation": hardly}), dataset)
        assert same == preprocessing
        chosen = torch.tensor([3, 17, 0, 29])
        for one, other in zip(spectra.batch(chosen, 2), waveforms.batch(chosen, 2), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_recording_is_seen_the_same_in_any_company(config: TrainConfig, dataset: DataSet, noise: str) -> None:
    source = fit_source(altered(config, noise), dataset)[1]
    x, steps, labels = source.batch(torch.arange(12), 3)
    for sample in (0, 5, 11):
        alone, length, label = source.batch(torch.tensor([sample]), 3)
        assert (length[0], label[0]) == (steps[sample], labels[sample])
        assert torch.equal(alone[:, 0], x[: int(length), sample])
        assert not x[int(length) :, sample].any()
    assert not torch.equal(source.batch(torch.arange(12), 4)[0], x)


def test_batches_made_ahead_are_those_made_one_by_one(config: TrainConfig, dataset: DataSet, noise: str) -> None:
    source = fit_source(altered(config, noise), dataset)[1]
    batches = list(torch.arange(30).split(7))
    made = list(ahead(source, batches, 1))
    assert len(made) == len(batches)
    for chosen, inputs in zip(batches, made, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(source.batch(chosen, 1), inputs, strict=True))
    assert list(ahead(source, [], 1)) == []


def test_what_goes_wrong_while_making_ahead_is_raised(dataset: DataSet, config: TrainConfig, noise: str) -> None:
    source = fit_source(altered(config, noise), dataset)[1]
    with pytest.raises(IndexError):
        list(ahead(source, [torch.tensor([0]), torch.tensor([10_000])], 1))


def test_a_source_opened_later_is_the_same(config: TrainConfig, dataset: DataSet, noise: str) -> None:
    for settings in (altered(config, noise), altered(config, noise, normalise="training"), config):
        preprocessing, source = fit_source(settings, dataset)
        again = open_source(dataset, preprocessing, settings.augmentation, seed=settings.seed)
        assert torch.equal(again.batch(torch.arange(6), 2)[0], source.batch(torch.arange(6), 2)[0])


def test_teacher_and_student_hear_the_same_waveform(
    config: TrainConfig, dataset: DataSet, noise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[np.ndarray] = []
    log_mel = FrontEnd.log_mel

    def listening(self: FrontEnd, waveform: np.ndarray, rate: int) -> np.ndarray:
        heard.append(waveform)
        return log_mel(self, waveform, rate)

    sources = [fit_source(altered(config, noise, steps=steps), dataset)[1] for steps in (20, 30)]
    monkeypatch.setattr(FrontEnd, "log_mel", listening)
    for source in sources:
        source.batch(torch.arange(4), 1)
    for one, other in zip(heard[:4], heard[4:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_several_frames_make_a_step(tones: Path) -> None:
    """The frames of a step are those that more steps would have had, and masks are of frames and bands."""
    dataset = open_data(f"folder:{tones}")
    coarse, together = fit_and_load(dataset, steps=20, window_s=0.5, bands=8, frames_per_step=2, normalise="recording")
    fine = coarse.front_end.model_copy(update={"steps": 40, "frames_per_step": 1})
    assert coarse.normaliser == RecordingNormaliser()
    apart = load(dataset.split("train"), coarse.model_copy(update={"front_end": fine}))
    whole = apart.steps % 2 == 0  # else the last step's second frame is counted too
    assert whole.any()
    np.testing.assert_array_equal(together.values[whole].reshape(-1, 20, 8), apart.values[whole])
    augmentation = Augmentation(probability=1, bands=4, time_share=0.5, shift=0)
    source = open_source(dataset, coarse, augmentation, seed=0)
    x = source.batch(torch.arange(30), 1)[0].unflatten(2, (2, 8))  # (T, B, F, bands)
    hidden_bands = (x == 0).all(0).all(1)
    assert hidden_bands.any()
    halves = (x == 0).all(3)
    assert (halves[:, :, 0] != halves[:, :, 1]).any(), "no mask ends within a step"


def test_spikes_have_no_waveform(config: TrainConfig, tmp_path: Path) -> None:
    from helpers import write_heidelberg

    dataset = open_data(f"shd:{write_heidelberg(tmp_path / 'shd', 'shd', {'train': 24, 'test': 8})}")
    spiking = config.model_copy(update={"model": config.model.model_copy(update={"inputs": 140})})
    for changes, message in (
        (
            {"augmentation": Augmentation(kind="drop", noise="made")},
            "waveforms is for recordings of sound",
        ),
        ({"normalise": "recording"}, "frames_per_step, normalise and front_end are for recordings of sound"),
        ({"frames_per_step": 2}, "frames_per_step, normalise and front_end are for recordings of sound"),
    ):
        with pytest.raises(UsageError, match=message):
            fit_source(spiking.model_copy(update=changes), dataset)


def test_a_training_on_altered_waveforms_continues_as_if_undisturbed(
    config: TrainConfig, dataset: DataSet, noise: str, tmp_path: Path
) -> None:
    settings = altered(config, noise)
    whole = train(settings, dataset, RunFolder(tmp_path / "whole"))
    steps: list[Progress] = []
    stopped = train(settings, dataset, RunFolder(tmp_path / "cut"), on_step=steps.append, stop=lambda: len(steps) == 6)
    assert stopped.interrupted
    resumed = train(settings, dataset, RunFolder(tmp_path / "cut"), resume=True)
    assert resumed.epochs == whole.epochs
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]
