"""A training that is killed at random, again and again, against an undisturbed one: equal weights, equal metrics?

    python benchmarks/resume.py [--quick] [--kills N] [--json FILE] [--data DATA] [-- options of spikescr train]

Signals are drawn from SIGKILL, SIGTERM and SIGINT, moments from the whole life of a process, its start included; after
each one, `spikescr train --resume` continues. Exit status 1 where a file differs.
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
from spikescr.runs import RunFolder

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
COMPARED = ("model.safetensors", "metrics.csv", "config.json")


def command(run: RunFolder, *options: str) -> list[str]:
    """The training's command line."""
    return [sys.executable, "-m", "spikescr", "train", "--run", str(run.path), *options]


def undisturbed(run: RunFolder, options: list[str]) -> tuple[float, float]:
    """Trains without a kill; seconds until the first epoch was done, and until the end."""
    begin, first = time.monotonic(), None
    with subprocess.Popen(command(run, *options), stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if first is None and run.metrics.exists():
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
@click.option("--seed", type=int, default=0, show_default=True, help="Of signals and moments.")
@click.argument("options", nargs=-1)
def main(kills: int, quick: bool, file: Path | None, data: str, seed: int, options: tuple[str, ...]) -> None:
    """Kill a training at random and compare what it leaves with an undisturbed one's."""
    kills = 3 if quick else kills
    arguments = ["--data", data, "--threads", "1", *options]
    chance = random.Random(seed)
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        whole, killed = (RunFolder(Path(scratch) / name) for name in ("undisturbed", "killed"))
        first, seconds = undisturbed(whole, arguments)
        log = []
        while len(log) < kills:
            after = chance.uniform(0.5 * first, first + 1.5 * (seconds - first) / kills)
            with subprocess.Popen(command(killed, *arguments, "--resume"), stdout=subprocess.DEVNULL) as process:
                try:
                    process.wait(after)
                    break
                except subprocess.TimeoutExpired:
                    number = chance.choice(SIGNALS)
                    process.send_signal(number)
            states = [path.stem for path in sorted(killed.checkpoints.glob("*.safetensors"))]
            log.append({"signal": number.name, "after_s": after, "status": process.returncode, "states": states})
            console.print(f"{number.name} after {after:.1f} s, status {process.returncode}, states {' '.join(states)}")
        subprocess.run(command(killed, *arguments, "--resume"), stdout=subprocess.DEVNULL, check=True)
        equal = {name: sha256(whole.path / name) == sha256(killed.path / name) for name in COMPARED}
    verdicts = (f"{name} {'equal' if same else 'DIFFERS'}" for name, same in equal.items())
    console.print(f"{len(log)} kills; {', '.join(verdicts)}")
    if file is not None:
        result = {"kills": log, "equal": equal, "seed": seed, "versions": versions("spikescr", "torch", "numpy")}
        write_text(file, json.dumps(result, indent=1) + "\n")
    sys.exit(0 if all(equal.values()) else 1)


if __name__ == "__main__":
    main()
