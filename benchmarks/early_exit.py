"""Accuracy against executed energy when recordings end as soon as their answer is settled, of one or more trained runs.

    python benchmarks/early_exit.py [--run DIR]... [--quick] [--json FILE] [--png FILE]

Every run folder (default: runs/latest) has a trained network and its graph. Rules (a lead of the running readout, and
in how many steps in a row: docs/energy.md) are tried on the validation recordings; those of which no other executes
less and is as right make the curve, which is then measured on the test recordings. Two are named: the one that executes
least and loses no right answer of validation, and the one that loses at most one of a hundred. Executed is Q (K^T V),
event by event; what comes after a recording's end is not counted. `agreement` says how many answers are those after the
last step: the recordings for which ending early is free of loss whatever their label. `answered after` is the mean time
from the first step to the answer, the latency of the network included.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from spikescr.files import write_text
from spikescr.provenance import versions
from spikescr.quantities import percent, si
from spikescr.runs import DEFAULT_RUN, RunFolder
from spikescr.sim.counting.early_exit import ExitRule, Progress, Tradeoff, fit, front, leave, measure, rules
from spikescr.sim.counting.energy import HOROWITZ_45NM
from spikescr.sim.program import IntArray, Program, Sink
from spikescr.training.assess import wilson
from spikescr.workflows.deployed import choose_recordings, open_deployed
from spikescr.workflows.early_exit import follow

LOSSES = (0.0, 0.01)
NEVER = ExitRule(float("inf"), 1)
FEW = 128


@dataclass(frozen=True)
class Measured:
    """A rule on validation and test recordings; answered: mean seconds to the answer, of test."""

    name: str
    valid: Tradeoff
    test: Tradeoff
    right: int
    answered: float

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "name": self.name, "valid": self.valid.as_json(), "test": self.test.as_json(), "right": self.right,
            "answered_s": self.answered,
        }  # fmt: skip


def answered(program: Program, progress: Progress, rule: ExitRule) -> float:
    """Mean seconds from a recording's first step to its answer."""
    late, exits = program.of_type(Sink)[0].latency or 0, leave(progress, rule)
    steps = [min(step, valid - 1) + late + 1 for step, valid in zip(exits.step, progress.valid, strict=True)]
    return float(sum(steps)) / len(steps) * program.dt


def measured(
    program: Program, name: str, rule: ExitRule, valid: tuple[Progress, IntArray], test: tuple[Progress, IntArray]
) -> Measured:
    """One rule on both splits."""
    right = int((leave(test[0], rule).predicted == test[1]).sum())
    return Measured(
        name, measure(*valid, rule, HOROWITZ_45NM), measure(*test, rule, HOROWITZ_45NM), right,
        answered(program, test[0], rule),
    )  # fmt: skip


def of_run(run: RunFolder, limit: int | None) -> dict[str, list[Measured]]:
    """`named`: to the end, no loss, one point; `curve`: all rules of the front."""
    deployed = open_deployed(run.require(run.graph))
    valid, test = (
        follow(deployed, choose_recordings(deployed, data=None, split=split, limit=limit, recording=None))
        for split in ("valid", "test")
    )
    program = deployed.program
    chosen = fit(*valid, HOROWITZ_45NM, LOSSES)
    names = ("to the end", *(f"{percent(loss, 0)} lost in validation" for loss in LOSSES))
    named = [NEVER, *(each.rule for each in chosen)]
    curve = front([measure(*valid, rule, HOROWITZ_45NM) for rule in rules(valid[0])])
    return {
        "named": [measured(program, name, rule, valid, test) for name, rule in zip(names, named, strict=True)],
        "curve": [measured(program, "", each.rule, valid, test) for each in curve],
    }


def draw(found: dict[str, dict[str, list[Measured]]], recordings: int, file: Path) -> None:
    """Accuracy against energy of the test recordings, a line for each run, bars of 95 % at the named rules."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (name, rows) in enumerate(found.items()):
        points = [(1e9 * each.test.joules, 100 * each.test.accuracy) for each in rows["curve"]]
        axes.plot(*zip(*points, strict=True), "-", color=f"C{number}", label=name)
        for each, mark in zip(rows["named"], "so^", strict=True):
            low, high = wilson(each.right, recordings)
            y = 100 * each.test.accuracy
            bar = [[y - 100 * low], [100 * high - y]]
            axes.errorbar(1e9 * each.test.joules, y, yerr=bar, fmt=mark, color=f"C{number}", capsize=3)
    axes.set(xlabel="Executed energy for a recording (nJ)", ylabel="Accuracy, test (%)")
    axes.set_title("square: to the end; circle: no loss in validation; triangle: 1 % lost", fontsize="small")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=150)


@click.command()
@click.option("--run", "folders", multiple=True, type=click.Path(path_type=Path), help="Run folder; several times.")
@click.option("--quick", is_flag=True, help=f"The first {FEW} recordings of each split.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write everything to this file.")
@click.option("--png", "picture", type=click.Path(path_type=Path), help="Draw the curves.")
def main(folders: tuple[Path, ...], quick: bool, file: Path | None, picture: Path | None) -> None:
    """Print what ending early saves and costs."""
    console, found, recordings = Console(width=None if os.isatty(1) else 130), {}, 0
    for folder in folders or (DEFAULT_RUN,):
        found[folder.name] = of_run(RunFolder(folder), FEW if quick else None)
    table = Table(title="Test recordings, ended when their answer is settled", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("run", "rule", "lead", "held", "accuracy", "agreement", "settled", "steps", "answered after",
                   "executed", "of the whole"):  # fmt: skip
        table.add_column(column, justify="left" if column in ("run", "rule") else "right")
    for name, rows in found.items():
        whole = rows["named"][0].test
        recordings = round(rows["named"][0].right / whole.accuracy) if whole.accuracy else 0
        for each in rows["named"]:
            rule = each.test.rule
            lead, hold = ("", "") if rule == NEVER else (f"{rule.lead:.3g}", str(rule.hold))
            table.add_row(
                name, each.name, lead, hold,
                percent(each.test.accuracy, 2), percent(each.test.agreement, 2), percent(each.test.settled),
                f"{each.test.step:.1f}", si(each.answered, "s"), si(each.test.joules, "J"),
                percent(each.test.joules / whole.joules),
            )  # fmt: skip
        table.add_section()
    console.print(table)
    if picture is not None:
        draw(found, recordings, picture)
        console.print(f"wrote {picture}")
    if file is not None:
        rows = {
            name: {kind: [each.as_json() for each in part] for kind, part in runs.items()}
            for name, runs in found.items()
        }
        told = {"runs": rows, "recordings": recordings, "cost": HOROWITZ_45NM.name}
        write_text(file, json.dumps(told | {"versions": versions("spikescr", "numpy")}, indent=1) + "\n")


if __name__ == "__main__":
    main()
