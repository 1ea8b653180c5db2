"""A training that is killed at random, again and again, against an undisturbed one: equal weights, equal metrics?

    python benchmarks/resume.py [--quick] [--kills N] [--json FILE] [--data DATA] [--curriculum N,N] [-- KEY=VALUE ...]

Signals are drawn from SIGKILL, SIGTERM and SIGINT, moments from the whole life of a process, its start included; after
each one, `spikescr train --resume` continues, with --curriculum `spikescr distill --resume`. Exit status 1 where a file
differs, or where the training was over before it was killed so many times.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console

from spikescr.files import sha256, write_text
from spikescr.provenance import versions

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
COMPARED = ("model.safetensors", "metrics.csv", "config.json", "curriculum.json")


def command(folder: Path, *words: str) -> list[str]:
    """The training's command line: the subcommand, then its arguments."""
    return [sys.executable, "-m", "spikescr", words[0], "--run", str(folder), *words[1:]]


def hashes(folder: Path) -> dict[str, str]:
    """Of all that must be equal, by path in the folder."""
    return {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*") if path.name in COMPARED}


def undisturbed(folder: Path, words: list[str]) -> tuple[float, float]:
    """Trains without a kill; seconds until the first epoch was done, and until the end."""
    begin, first = time.monotonic(), None
    with subprocess.Popen(command(folder, *words), stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if first is None and any(folder.rglob("metrics.csv")):
                first = time.monotonic() - begin
            time.sleep(0.01)
    if process.returncode or first is None:
        raise click.ClickException(f"the undisturbed training ended with status {process.returncode}")
    return first, time.monotonic() - begin


@click.command()
@click.option("--kills", type=int, default=10, show_default=True)
@click.option("--quick", is_flag=True, help="Three kills.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to this file.")
@click.option("--data", default="digits", show_default=True)
@click.option("--curriculum", help="Steps of the stages of a curriculum; without it, one training.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of signals and moments.")
@click.argument("changes", nargs=-1)
def main(
    kills: int,
    quick: bool,
    file: Path | None,
    data: str,
    curriculum: str | None,
    seed: int,
    changes: tuple[str, ...],
) -> None:
    """Kill a training at random and compare what it leaves with an undisturbed one's."""
    kills = 3 if quick else kills
    words = ["train"] if curriculum is None else ["distill", "--curriculum", curriculum]
    words += ["--data", data, "threads=1", *changes]
    chance = random.Random(seed)
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        whole, killed = (Path(scratch) / name for name in ("undisturbed", "killed"))
        first, seconds = undisturbed(whole, words)
        log = []
        while len(log) < kills:
            after = chance.uniform(0.5 * first, first + (seconds - first) / kills)
            with subprocess.Popen(command(killed, *words, "--resume"), stdout=subprocess.DEVNULL) as process:
                try:
                    process.wait(after)
                    break
                except subprocess.TimeoutExpired:
                    number = chance.choice(SIGNALS)
                    process.send_signal(number)
            states = [path.stem for path in sorted(killed.rglob("checkpoints/*.safetensors"))]
            log.append({"signal": number.name, "after_s": after, "status": process.returncode, "states": states})
            console.print(f"{number.name} after {after:.1f} s, status {process.returncode}, states {' '.join(states)}")
        # Of what was not trained before the kills, at most all of it; loading and a busy machine come on top.
        limit = 60 + 10 * seconds
        subprocess.run(command(killed, *words, "--resume"), stdout=subprocess.DEVNULL, check=True, timeout=limit)
        expected, found = hashes(whole), hashes(killed)
        equal = {name: expected.get(name) == found.get(name) for name in sorted(expected | found)}
    verdicts = (f"{name} {'equal' if same else 'DIFFERS'}" for name, same in equal.items())
    console.print(f"{len(log)} kills; {', '.join(verdicts)}")
    if file is not None:
        result = {"kills": log, "equal": equal, "seed": seed, "versions": versions("spikescr", "torch", "numpy")}
        write_text(file, json.dumps(result, indent=1) + "\n")
    if len(log) < kills:
        raise click.ClickException(f"the training was over after {len(log)} of {kills} kills: give it more epochs")
    sys.exit(0 if all(equal.values()) else 1)


if __name__ == "__main__":
    main()
