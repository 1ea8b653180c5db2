"""English digits by people and by espeak-ng: what training on both together gives, also on people it never heard.

    python benchmarks/digits.py --people DIR [--epochs N] [--seeds N] [--keep DIR] [--quick] [--json FILE]

DIR: recordings of zero to nine by people, as Google Speech Commands has them, with both lists. The recipe `commands` is
trained on takes of the first two people, of all of them, on generated voices, and on these together; the best epoch is
chosen by the validation takes of those who are in the training. Tested on the test list, on every take of the people
beyond the first two ("strangers", where the training has none of them), and on generated voices that no training heard.
All is brought to the people's rate first, so that no empty band tells who speaks. Answers of all seeds together;
intervals: Wilson, 95 %.
Trainings are kept in DIR of --keep; a later call with the same epochs reads them, or continues one that was killed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before torch, see there.
import spikescr  # noqa: F401  # isort: skip
import click
import librosa
import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from spikescr.data import Item, open_data
from spikescr.data.audio import read_rate, read_recording
from spikescr.data.dataset import SPLITS
from spikescr.data.folder import LISTS
from spikescr.files import write_text
from spikescr.runs import RunFolder
from spikescr.training.assess import wilson
from spikescr.training.config import TrainConfig
from spikescr.training.loop import train
from spikescr.training.recipes import read_recipe, resolve
from spikescr.workflows.evaluate import evaluate_run

FIRST = 2
"""People of the small training."""
ENGLISH = "en_"


@dataclass(frozen=True)
class Take:
    """A recording as one of a training's folder: its word, and which split of it."""

    item: Item
    word: str
    split: str
    generated: bool = False


def read_takes(people: str) -> list[Take]:
    """All recordings: those of people, and the embedded data set's English ones."""
    takes = []
    for spec, generated in ((people, False), ("digits", True)):
        dataset = open_data(spec)
        for split in SPLITS:
            for item in dataset.split(split):
                word = dataset.classes[item.label]
                if not generated or word.startswith(ENGLISH):
                    takes.append(Take(item, word.removeprefix(ENGLISH if generated else ""), split, generated))
    return takes


def write_folder(takes: Iterable[Take], rate: int, folder: Path) -> str:
    """Write recordings as a data set with its lists, at one rate; returns its name for `open_data`."""
    lists: dict[str, list[str]] = {split: [] for split in LISTS}
    for take in takes:
        name = f"{take.word}/{Path(take.item.name).name}"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        wave, own = read_recording(take.item.path)
        heard = wave if own == rate else librosa.resample(wave, orig_sr=own, target_sr=rate)
        soundfile.write(path, heard / max(1.0, float(np.abs(heard).max())), rate, subtype="PCM_16")
        if take.split in lists:
            lists[take.split].append(name)
    for split, names in lists.items():
        write_text(folder / LISTS[split], "".join(f"{name}\n" for name in names))
    return f"folder:{folder}"


def plan(takes: Sequence[Take]) -> tuple[dict[str, list[Take]], dict[str, list[Take]]]:
    """The trainings' recordings, and those of each test."""
    speakers = sorted({str(take.item.speaker) for take in takes if not take.generated})
    first = speakers[:FIRST]
    people = [take for take in takes if not take.generated]
    made = [take for take in takes if take.generated]
    few = [take for take in people if take.item.speaker in first]
    trainings = {
        "generated voices": made,
        f"{FIRST} people": few,
        f"{FIRST} people and generated": few + made,
        f"{len(speakers)} people": people,
        f"{len(speakers)} people and generated": people + made,
    }
    tests = {
        "test list": [take for take in people if take.split == "test"],
        "strangers": [take for take in people if take.item.speaker not in first],
        "generated": [take for take in made if take.split == "test"],
    }
    return trainings, tests


@click.command()
@click.option("--people", type=click.Path(path_type=Path, exists=True), required=True, help="Folder with their digits.")
@click.option("--epochs", type=click.IntRange(1), default=20, show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="0 to N - 1.")
@click.option("--keep", type=click.Path(path_type=Path), default=Path("runs/digits"), show_default=True)
@click.option("--quick", is_flag=True, help="An epoch, every tenth recording.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures there.")
def main(people: Path, epochs: int, seeds: int, keep: Path, quick: bool, json_file: Path | None) -> None:
    """Train digits on people, on generated voices and on both."""
    takes = read_takes(f"folder:{people.resolve()}")[:: 10 if quick else 1]
    rate = read_rate(next(take.item.path for take in takes if not take.generated))
    trainings, tests = plan(takes)
    keep = keep.resolve() / ("quick" if quick else f"epochs-{epochs}")
    written = {name: write_folder(chosen, rate, keep / "heard" / name) for name, chosen in tests.items()}
    sets = {name: write_folder(chosen, rate, keep / "trained" / name) for name, chosen in trainings.items()}
    recipe, changes = read_recipe("train", "commands"), [f"epochs={1 if quick else epochs}"]
    results: dict[str, dict[str, Any]] = {}
    for seed in range(seeds):
        for name, chosen in trainings.items():
            config = resolve(recipe, TrainConfig, changes, options={"seed": seed}, data=sets[name])
            run = RunFolder(keep / "runs" / f"{name} {seed}")
            train(config, open_data(sets[name]), run, resume=True)
            trained = sum(take.split == "train" for take in chosen)
            row = results.setdefault(name, {"trained": trained, "right": Counter()})
            for test in _unheard(chosen, tests):
                assessment = evaluate_run(run, data=written[test], split="all").assessment
                assert assessment is not None
                row["right"][test] += assessment.correct
        for row in results.values():
            row["accuracy"] = {test: right / len(tests[test]) / (seed + 1) for test, right in row["right"].items()}
            row["interval"] = {
                test: wilson(right, len(tests[test]) * (seed + 1)) for test, right in row["right"].items()
            }
        _show(results, f"{config.epochs} epochs, seeds 0 to {seed}", tests)
        if json_file is not None:
            about = {"epochs": config.epochs, "seeds": seed + 1, "tests": {test: len(of) for test, of in tests.items()}}
            write_text(json_file, json.dumps({"about": about, "trainings": results}, indent=1) + "\n")


def _unheard(chosen: Iterable[Take], tests: dict[str, list[Take]]) -> list[str]:
    """The tests of which no recording is in a training: all people's knows the strangers."""
    known = {take for take in chosen if take.split != "test"}
    return [test for test, takes in tests.items() if known.isdisjoint(takes)]


def _show(results: dict[str, dict[str, Any]], about: str, tests: dict[str, list[Take]]) -> None:
    table = Table(title=f"Digits, right, % (95 % interval): {about}")
    table.add_column("trained on")
    table.add_column("recordings", justify="right")
    for test, takes in tests.items():
        table.add_column(f"{test} ({len(takes)})", justify="right")
    for name, row in results.items():
        cells = []
        for test in tests:
            if test in row["accuracy"]:
                low, high = row["interval"][test]
                cells.append(f"{100 * row['accuracy'][test]:.1f} ({100 * low:.1f} to {100 * high:.1f})")
            else:
                cells.append("")
        table.add_row(name, str(row["trained"]), *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
