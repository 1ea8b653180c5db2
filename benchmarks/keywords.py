"""Words by people whom training never heard: SpikeSCR, other spiking networks and a plain CNN, on the same recordings.

    python benchmarks/keywords.py [--data folder:PATH] [--noise DIR] [--recipe NAME] [--seeds N]
        [--networks NAME,NAME] [--epochs N] [--keep DIR] [--quick] [--json FILE]

Every network is trained with the recipe `commands` or that of --recipe (speed, shift in time and noise; the noise of
DIR/train, without --noise made here), the best epoch by validation is kept, and the test recordings are heard as they
are, with the noise of DIR/test (without --noise made here) at 20, 10 and 0 dB, 20 dB quieter, and 100 ms later. All
conditions are written as 16-bit files first, so that every network hears the same. Noise is scaled so that its mean
square over a recording is 10^(-x/10) of the recording's. Spiking networks are executed event by event; of the CNN the
multiplications by what is not 0 count likewise, and as "dense" all of them; "adaptive" is SpikeSCR with adaptive
neurons, "spikes" that on events and paying for operations (the recipe `commands-spikes`), "spikes_free" the same that
pays nothing, "spikes_lif" this with plain neurons, "causal" and "causal_spikes" those whose attention waits for
nothing, "spikcommander" as in the recipe `commands-spikcommander`, "axonal" DCLS with one delay per neuron,
"100_steps" and "1L-16-256" SpikeSCR finer and wider, "no_masks", "no_speed", "no_time_shift" and "no_noise" without
one augmentation. The front end is in no figure; `spikescr simulate` tells it. Accuracies are means over seeds,
intervals (Wilson, 95 %) of all answers together; operations and energy are those of the recordings as they are.

What a network gave with a seed is kept in DIR (default runs/keywords) as soon as it is known, under a digest of
everything that it follows from; a later call with the same settings reads it, and continues a training that was
killed. Seed by seed, networks in the order named; tables and FILE hold what there is after each.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Before torch, see there.
import spikescr  # noqa: F401  # isort: skip
import click
import numpy as np
import soundfile
import torch
from ds_cnn import TrainedCNN, count_macs, train_cnn
from rich.console import Console
from rich.table import Table

from spikescr.data import DataSet, Item, load, open_data
from spikescr.data.audio import Waveform, loudest_stretch, read_recording
from spikescr.data.coder import PLANES
from spikescr.data.noise import Noise, open_noise
from spikescr.files import write_text
from spikescr.runs import LOIHI2, RunFolder
from spikescr.sim.counting.energy import CONSTANTS
from spikescr.training.assess import wilson
from spikescr.training.augment_sound import mix
from spikescr.training.config import TrainConfig
from spikescr.training.loop import train
from spikescr.training.recipes import read_recipe, resolve
from spikescr.workflows.evaluate import evaluate_run
from spikescr.workflows.execution import Request, simulate_recordings
from spikescr.workflows.export import export_run
from spikescr.workflows.quantize import quantize_run
from spikescr.workflows.verify import verify_run

SNRS = (20, 10, 0)
QUIETER_DB, LATER_S = 20, 0.1
CONDITIONS = ("accuracy", *(f"snr{snr}" for snr in SNRS), "quiet", "shifted")
FP32, INT8 = (CONSTANTS.costs[f"horowitz2014-45nm-{kind}"] for kind in ("fp32", "int8"))
EVENTS = f"model.inputs={80 * PLANES}"
SPIKING: dict[str, tuple[str, ...]] = {
    "spikescr": (),
    "causal": ("model.attention=causal",),
    "adaptive": ("model.neuron=adaptive",),
    "spikcommander": ("model.family=spikcommander", "model.window=40", "model.dropout=0.0"),
    "spikes": ("model.neuron=adaptive", "front_end=spikes", EVENTS, "synop_penalty=0.1"),
    "spikes_free": ("model.neuron=adaptive", "front_end=spikes", EVENTS),
    "spikes_lif": ("front_end=spikes", EVENTS),
    "causal_spikes": ("model.neuron=adaptive", "model.attention=causal", "front_end=spikes", EVENTS),
    "dcls": ("model.family=dcls",),
    "axonal": ("model.family=dcls", "model.delays=axonal"),
    "adlif": ("model.family=adlif",),
    "adlif_spikes": ("model.family=adlif", "front_end=spikes", EVENTS),
    "recurrent": ("model.family=recurrent",),
    "100_steps": ("steps=100",),
    "1L-16-256": ("model.heads=16", "model.width=256"),
    "no_masks": ("augmentation.probability=0", "augmentation.shift=0"),
    "no_speed": ("augmentation.speed=0",),
    "no_time_shift": ("augmentation.time_shift_s=0",),
    "no_noise": ("augmentation.noise_probability=0",),
}
"""Changes of the recipe."""
NETWORKS = ("spikescr", "spikes", "spikescr_int8", "ds_cnn", "dcls", "recurrent")
VERIFIED = 64
"""Recordings of which every spike is compared with PyTorch's."""
FINETUNING_EPOCHS = 10
"""Of SpikeSCR in integers."""


@dataclass(frozen=True)
class Trial:
    """A network trained with one seed.

    Attributes:
        right: Right answers by condition.
        recordings: Of each condition.
        parameters: Weights and biases.
        ac: Additions for a recording.
        mac: Multiplications with additions for a recording, of what is not 0.
        seconds: Of training.
        dense: All multiplications of layers that do them whatever arrives; None of a spiking network.
        differing: Spikes of Lava that are not PyTorch's, of the first VERIFIED recordings; None where not compared.
    """

    right: dict[str, int]
    recordings: int
    parameters: int
    ac: float
    mac: float
    seconds: float
    dense: float | None = None
    differing: int | None = None


def write_conditions(items: Sequence[Item], noise: Noise, rate: int, window_s: float, folder: Path) -> dict[str, str]:
    """Write the recordings in every condition; returns data sets by condition."""
    rng = np.random.default_rng(0)
    written = {condition: folder / condition for condition in CONDITIONS}
    for item in items:
        waveform, own = read_recording(item.path)
        waveform = loudest_stretch(waveform, round(window_s * own))
        if own != rate:
            raise click.UsageError(f"{item.path}: is at {own} Hz, others at {rate}")
        for condition, heard in _heard(waveform, noise, rate, round(window_s * rate), rng).items():
            path = (written[condition] / item.name).with_suffix(".wav")
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, heard / max(1.0, float(np.abs(heard).max())), rate, subtype="PCM_16")
    return {condition: f"folder:{path}" for condition, path in written.items()}


def _heard(waveform: Waveform, noise: Noise, rate: int, window: int, rng: np.random.Generator) -> dict[str, Waveform]:
    heard = {"accuracy": waveform, "quiet": waveform * 10 ** (-QUIETER_DB / 20)}
    heard["shifted"] = np.pad(waveform, (round(LATER_S * rate), 0))[:window]
    for snr in SNRS:
        heard[f"snr{snr}"] = mix(waveform, noise.draw(rng, len(waveform)), snr)
    return heard


def try_spiking(config: TrainConfig, dataset: DataSet, conditions: dict[str, str], run: RunFolder) -> Trial:
    """Train a spiking network, and let it hear every condition."""
    result = train(config, dataset, run, resume=True)
    export_run(run)
    audit = simulate_recordings(run, Request(data=conditions["accuracy"], split="all")).audit
    right = {}
    for condition, data in conditions.items():
        assessment = evaluate_run(run, data=data, split="all").assessment
        assert assessment is not None
        right[condition] = assessment.correct
    totals = audit.counts.totals()
    per = audit.samples
    differing = verify_run(run, data=conditions["accuracy"], split="all", limit=VERIFIED).differing
    counts = totals["ac"] / per, totals["mac"] / per
    return Trial(right, per, result.parameters, *counts, result.seconds, differing=differing)


def try_integers(run: RunFolder, conditions: dict[str, str], trained: Trial, epochs: int) -> Trial:
    """Quantize a trained network, fine-tune it, and execute it on every condition."""
    quantize_run(run, epochs=epochs, resume=True)
    right, totals, per = {}, {}, 1
    for condition, data in conditions.items():
        request = Request(precision=LOIHI2, data=data, split="all")
        audit = simulate_recordings(run.of_precision(LOIHI2), request).audit
        assert audit.accuracy is not None
        right[condition] = round(audit.accuracy * audit.samples)
        if condition == "accuracy":
            totals, per = audit.counts.totals(), audit.samples
    return Trial(right, per, trained.parameters, totals["ac"] / per, totals["mac"] / per, trained.seconds)


def try_cnn(config: TrainConfig, dataset: DataSet, conditions: dict[str, str]) -> Trial:
    """Train the CNN, and let it hear every condition."""
    trained: TrainedCNN = train_cnn(config, dataset)
    right, recordings, macs, dense = {}, 0, 0.0, 0.0
    for condition, data in conditions.items():
        features = load(open_data(data, known=dataset.classes).split("all"), trained.preprocessing)
        right[condition] = int((trained.answers(features).numpy() == features.labels).sum())
        recordings = len(features)
        if condition == "accuracy":
            macs, dense = count_macs(trained.network, torch.from_numpy(features.values).transpose(0, 1))
    return Trial(right, recordings, trained.parameters, 0.0, macs, trained.seconds, dense)


def summarise(trials: Sequence[Trial]) -> dict[str, Any]:
    """The figures of a network, from its seeds."""
    count = sum(trial.recordings for trial in trials)
    right = {condition: sum(trial.right[condition] for trial in trials) for condition in CONDITIONS}
    ac, mac = (float(np.mean([getattr(trial, kind) for trial in trials])) for kind in ("ac", "mac"))
    return {
        **{condition: correct / count for condition, correct in right.items()},
        "interval": {condition: wilson(correct, count) for condition, correct in right.items()},
        "parameters": trials[0].parameters,
        "ac": ac,
        "mac": mac,
        "energy_j": FP32.joules(ac, mac),
        "energy_int8_j": INT8.joules(ac, mac),
        "energy_dense_j": None if trials[0].dense is None else FP32.joules(0.0, trials[0].dense),
        "differing": sum(trial.differing for trial in trials if trial.differing is not None),
        "verified": sum(min(VERIFIED, trial.recordings) for trial in trials if trial.differing is not None),
        "train_seconds": float(np.mean([trial.seconds for trial in trials])),
        "seeds": [asdict(trial) for trial in trials],
    }


class Kept:
    """Results of networks by seed, as files under a digest of what they follow from."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        """Settings: all that is the same for every network."""
        self._folder, self._settings = folder, settings

    def run(self, name: str, config: TrainConfig) -> RunFolder:
        """Where a network is trained."""
        return RunFolder(self._folder / f"{name}-{config.seed}-{self._digest(config)}")

    def get(self, name: str, config: TrainConfig) -> Trial | None:
        """A result that is there."""
        file = self._file(name, config)
        return Trial(**json.loads(file.read_text())) if file.exists() else None

    def put(self, name: str, config: TrainConfig, trial: Trial) -> Trial:
        """Keeps a result, and returns it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_text(self._file(name, config), json.dumps(asdict(trial), indent=1) + "\n")
        return trial

    def _file(self, name: str, config: TrainConfig) -> Path:
        return self._folder / f"{name}-{config.seed}-{self._digest(config)}.json"

    def _digest(self, config: TrainConfig) -> str:
        # Without what is at its default: a setting that is new since, and not used, changes nothing.
        content = {**self._settings, "config": config.model_dump(mode="json", exclude_defaults=True)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _networks(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(value.split(","))
    known = (*SPIKING, "spikescr_int8", "ds_cnn")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(known)}")
    return names


@click.command()
@click.option("--data", default="digits", show_default=True, help="As for train; `digits` or folder:PATH.")
@click.option("--noise", type=click.Path(path_type=Path, exists=True), help="Folder with recordings in train and test.")
@click.option("--recipe", default="commands", show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="0 to N - 1.")
@click.option("--networks", default=",".join(NETWORKS), show_default=True, callback=_networks, help="In this order.")
@click.option("--epochs", type=click.IntRange(1), help="Instead of the recipe's.")
@click.option("--limit", type=click.IntRange(1), help="Only so many test recordings.")
@click.option("--keep", type=click.Path(path_type=Path), default=Path("runs/keywords"), show_default=True)
@click.option("--quick", is_flag=True, help="An epoch, 40 test recordings.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures there.")
def main(
    data: str,
    noise: Path | None,
    recipe: str,
    seeds: int,
    networks: tuple[str, ...],
    epochs: int | None,
    limit: int | None,
    keep: Path,
    quick: bool,
    json_file: Path | None,
) -> None:
    """Compare networks on words by people whom training never heard."""
    if data.startswith("folder:"):  # what is kept shall be found from elsewhere
        data = f"folder:{Path(data.removeprefix('folder:')).resolve()}"
    heard, unheard = (f"folder:{noise.resolve() / part}" if noise else "made" for part in ("train", "test"))
    changes = [f"augmentation.noise={heard}"]
    changes += [f"epochs={1 if quick else epochs}"] if quick or epochs else []
    dataset, content = open_data(data), read_recipe("train", recipe)
    items = dataset.split("test")
    chosen = items[:: -(-len(items) // (40 if quick else limit or len(items)))]
    finetuned = 1 if quick else FINETUNING_EPOCHS
    kept = Kept(keep, {"noise": unheard, "test": [item.name for item in chosen], "finetuned": finetuned})
    trials: dict[str, list[Trial]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        conditions: dict[str, str] = {}

        def hear(config: TrainConfig) -> dict[str, str]:
            """The conditions, once a network shall hear them."""
            if not conditions:
                source = open_noise(unheard, dataset.rate)
                written = write_conditions(chosen, source, dataset.rate, config.window_s, Path(temporary))
                conditions.update(written)
            return conditions

        def result(name: str, config: TrainConfig) -> Trial:
            """What a network gives, kept or found now."""
            known = kept.get(name, config)
            if known is not None:
                return known
            if name == "ds_cnn":
                return kept.put(name, config, try_cnn(config, dataset, hear(config)))
            run = kept.run("spikescr" if name == "spikescr_int8" else name, config)
            if name != "spikescr_int8":
                return kept.put(name, config, try_spiking(config, dataset, hear(config), run))
            trained = result("spikescr", config)
            return kept.put(name, config, try_integers(run, hear(config), trained, finetuned))

        for seed in range(seeds):
            for name in networks:
                more = SPIKING.get(name, ())
                config = resolve(content, TrainConfig, [*changes, *more], options={"seed": seed}, data=data)
                trials.setdefault(name, []).append(result(name, config))
                results = {of: summarise(found) for of, found in trials.items()}
                _show(results, f"{len(chosen)} test recordings, {config.epochs} epochs")
                if json_file is not None:
                    about = {"epochs": config.epochs, "recordings": len(chosen), "data": data, "noise": unheard}
                    write_text(json_file, json.dumps({"about": about, **results}, indent=1) + "\n")


def _show(results: dict[str, dict[str, Any]], about: str) -> None:
    table = Table(title=f"Right answers, %: {about}")
    table.add_column("network")
    table.add_column("seeds", justify="right")
    columns = ("as they are", "interval", *(f"{snr} dB" for snr in SNRS), "20 dB quieter", "100 ms later")
    more = ("parameters", "AC", "MAC", "FP32, uJ", "dense, uJ", "INT8, uJ", "training, s", "differing spikes")
    for column in (*columns, *more):
        table.add_column(column, justify="right")
    for name, row in results.items():
        low, high = row["interval"]["accuracy"]
        shares = [f"{100 * row[condition]:.1f}" for condition in CONDITIONS[1:]]
        figures = (f"{row['parameters']:,}", f"{row['ac']:,.0f}", f"{row['mac']:,.0f}")
        dense = "" if row["energy_dense_j"] is None else f"{1e6 * row['energy_dense_j']:.2f}"
        energy = (f"{1e6 * row['energy_j']:.2f}", dense, f"{1e6 * row['energy_int8_j']:.3f}")
        interval = f"{100 * low:.1f} to {100 * high:.1f}"
        table.add_row(
            name,
            str(len(row["seeds"])),
            f"{100 * row['accuracy']:.1f}",
            interval,
            *shares,
            *figures,
            *energy,
            f"{row['train_seconds']:.0f}",
            f"{row['differing']} in {row['verified']} recordings" if row["verified"] else "",
        )
    Console(width=240).print(table)


if __name__ == "__main__":
    main()
