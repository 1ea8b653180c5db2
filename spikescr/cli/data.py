"""`spikescr data`: fetch the published data sets, check a copy, draw a recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from spikescr.cli.console import notices, output
from spikescr.cli.options import max_memory
from spikescr.cli.text import si
from spikescr.data.kinds import KINDS
from spikescr.errors import SpikescrError
from spikescr.progress import tell

if TYPE_CHECKING:
    from spikescr.data.inspection import Report, SplitReport

EPILOG = """\b
Examples:
  spikescr data get shd
      the Spiking Heidelberg Digits, into data/shd; again, to continue after an interruption
  spikescr data check shd:data/shd
      reads every recording; statistics, and all that is wrong
  spikescr data show shd:data/shd --recording train/000007 --out seven.png
      one recording before and after augmentation
  spikescr data spikes words --split train --out words/ssc_train.h5
      recordings of sound as the cochlea of the Heidelberg data sets hears them
"""

GET_EPILOG = """\b
Examples:
  spikescr data get shd
  spikescr data get gsc --to /big/disk/gsc
  spikescr data get ssc --mirror https://compneuro.net/datasets
What is fetched: shd and ssc, the HDF5 files of the Heidelberg data sets (zenkelab.org); gsc, Speech Commands v2
(Google). All three are CC BY 4.0. Each file is checked against its published checksum before it is unpacked.
"""

CHECK_EPILOG = """\b
Examples:
  spikescr data check shd:data/shd
  spikescr data check gsc:data/gsc
  spikescr data check folder:my/words
Exit status 1 when anything is wrong. Copies of shd, ssc and gsc are also compared with the published numbers.
"""

SHOW_EPILOG = """\b
Examples:
  spikescr data show shd:data/shd --recording train/000007 --out seven.png
  spikescr data show digits --recording de_acht/belinda-0_nohash_0.wav --out acht.png --steps 100
The augmentation is the data set's own of the paper, for other data the default of training. Sound is normalised by
this recording alone. Needs matplotlib.
"""

SPIKES_EPILOG = """\b
Example: a data set of one's own that is trained on, and evaluated, like SSC.
  spikescr data spikes words --split train --out spikes/ssc_train.h5
  spikescr data spikes words --split valid --out spikes/ssc_valid.h5
  spikescr data spikes words --split test --out spikes/ssc_test.h5
  spikescr train ssc-100 --data ssc:spikes
The model: Cramer et al., IEEE TNNLS 33, 2744 (2022): basilar membrane, hair cells, bushy cells, 700 units.
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """Fetch the published data sets, check a copy, draw a recording, turn sound into spikes.

    Data sets are named as for training: digits (embedded), shd:PATH, ssc:PATH, gsc:PATH, folder:PATH.
    """


@command.command(epilog=GET_EPILOG)
@click.argument("name", type=click.Choice([name for name, kind in KINDS.items() if kind.published]))
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), help="Folder. Default: data/NAME.")
@click.option("--mirror", help="Address of a folder with the same files, instead of the publisher's.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30,
    show_default=True,
    help="Seconds without a byte after which a server is given up; so is one that sends less than 1 kB/s.",
)
def get(name: str, folder: Path | None, mirror: str | None, timeout: float) -> None:
    """Download a published data set, check it and unpack it.

    An interrupted download is kept and continued by the same command.
    """
    from spikescr.data.inspection import default_folder
    from spikescr.data.published import fetch

    folder = folder or default_folder(name)
    published = KINDS[name].published
    assert published is not None
    fetch(name, folder, published, mirror=mirror, timeout_s=timeout, on_bytes=_on_bytes)
    console = output()
    console.print(f"{name} is in {folder}")
    console.print(f"check it:    spikescr data check {name}:{folder}", soft_wrap=True)
    console.print(f"train on it: spikescr train {name}-100 --data {name}:{folder}", soft_wrap=True)


@command.command(epilog=CHECK_EPILOG)
@click.argument("spec")
@max_memory
def check(spec: str) -> None:
    """Read every recording of a data set; print statistics and all that is wrong."""
    from spikescr.data.inspection import inspect

    report = inspect(spec)
    _show_report(report)
    if report.problems:
        raise SpikescrError(f"{spec}: {len(report.problems)} problem(s), each in a line on standard output")


@command.command(epilog=SHOW_EPILOG)
@click.argument("spec")
@click.option("--recording", required=True, help="Its name, as in predictions.csv.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Picture to write.")
@click.option("--steps", type=click.IntRange(1), default=100, show_default=True, help="Steps per second.")
@click.option("--window", type=float, default=1.4, show_default=True, help="Seconds at most.")
@click.option("--draws", type=click.IntRange(1, 20), default=3, show_default=True, help="Augmented copies.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the augmentation.")
@max_memory
def show(spec: str, recording: str, out: Path, steps: int, window: float, draws: int, seed: int) -> None:
    """Draw a recording before and after augmentation, as it is in the first epochs of a training."""
    with notices().status("Loading torch"):
        from spikescr.workflows.recordings import draw_recording

    draw_recording(spec, recording, out, steps=steps, window_s=window, draws=draws, seed=seed)
    output().print(f"wrote {out}")


@command.command(epilog=SPIKES_EPILOG)
@click.argument("spec", metavar="FOLDER")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="HDF5 file to write.")
@click.option("--split", type=click.Choice(["train", "valid", "test", "all"]), default="all", show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the nerve fibres.")
@max_memory
def spikes(spec: str, out: Path, split: str, seed: int) -> None:
    """Write recordings as spikes, in the format of the Heidelberg data sets.

    FOLDER has a folder of recordings for each word; digits and gsc:PATH are taken too.
    """
    from spikescr.data import open_data
    from spikescr.data.to_spikes import write_spikes

    written = write_spikes(open_data(f"folder:{spec}" if Path(spec).is_dir() else spec), out, split=split, seed=seed)
    console = output()
    console.print(
        f"{written.recordings:,} recordings of {written.classes} words, {written.seconds:,.0f} s: "
        f"{written.spikes:,} spikes"
    )
    console.print(f"wrote {out}", soft_wrap=True)


def _on_bytes(name: str, done: int, total: int | None) -> None:
    of = "" if total is None else f" of {si(total, 'B')}"
    tell(name, done, total, f"{si(done, 'B')}{of}")


def _show_report(report: Report) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console = output()
    for problem in report.problems:
        console.print(f"problem: {problem}", soft_wrap=True)
    if not report.splits:
        return
    table = Table(title=f"{report.spec}: {len(report.classes)} classes", box=SIMPLE_HEAD)
    table.add_column("")
    for split in report.splits:
        table.add_column(split.name, justify="right")
    rows = [_column(split, report.classes) for split in report.splits]
    for label in rows[0]:
        if any(row[label] for row in rows):
            table.add_row(label, *(row[label] for row in rows))
    console.print(table)
    if not report.problems:
        console.print("no problem found")


def _column(split: SplitReport, classes: tuple[str, ...]) -> dict[str, str]:
    """What the table says of a split."""
    from spikescr.data.inspection import spread

    per_class = [split.labels[label] for label in range(len(classes))]
    durations, spikes = spread(split.durations_s), spread(split.spikes)
    return {
        "recordings": f"{split.labels.total():,}",
        "per class, fewest to most": f"{min(per_class, default=0):,} to {max(per_class, default=0):,}",
        "speakers": f"{len(split.speakers):,}" if split.speakers else "",
        "silent": f"{split.silent:,}" if split.silent else "",
        "seconds: shortest, median, longest": "{:.2f}, {:.2f}, {:.2f}".format(*durations) if durations else "",
        "spikes: fewest, median, most": "{:,.0f}, {:,.0f}, {:,.0f}".format(*spikes) if spikes else "",
    }
