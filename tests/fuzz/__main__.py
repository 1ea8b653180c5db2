"""Damages files for as long as it is told; see the package."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # a child of fork has no threads

from fuzz.corpus import corpus  # noqa: E402
from fuzz.draws import Drawn, Draws, Guided, Seeded  # noqa: E402
from fuzz.trial import KINDS, Outcome, attempt, fault_of  # noqa: E402


def main() -> int:
    """Exit status 1 where a fault was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--corpus", type=Path, help="Folder of valid files, made where it is not there.")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"), help="Folder for files that show a fault.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS), help="Separated by commas.")
    parser.add_argument("--engine", choices=["seeds", "hypothesis", "atheris"], default="seeds")
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    with tempfile.TemporaryDirectory(prefix="fuzz-corpus-") as temporary:
        files = corpus((options.corpus or Path(temporary)).resolve())
        _warm(files)
        run = _Run(files, kinds, options.keep, options.minutes)
        {"seeds": run.seeded, "hypothesis": run.drawn, "atheris": run.guided}[options.engine](options.seed)
        return run.report()


class _OverError(BaseException):
    """The time is over; hypothesis takes no such exception for a fault."""


class _Run:
    def __init__(self, files: Path, kinds: list[str], keep: Path, minutes: float) -> None:
        self.files, self.kinds, self.keep = files, kinds, keep
        self.begin = time.monotonic()
        self.end = self.begin + 60 * minutes
        self.count = 0
        self.slowest = 0.0
        self.faults: dict[str, list[Outcome]] = defaultdict(list)

    def seeded(self, seed: int) -> None:
        """Kind after kind, each trial from a seed of its own."""
        while time.monotonic() < self.end:
            self.one(self.kinds[self.count % len(self.kinds)], Seeded(seed * 10**9 + self.count))

    def drawn(self, seed: int) -> None:
        """Choices of hypothesis, a hundred at a time: of a fault it seeks the smallest, which is the last file kept."""
        import hypothesis
        from hypothesis import strategies as st

        def one(data: st.DataObject) -> None:
            draws = Drawn(data)
            fault = self.one(draws.one(self.kinds), draws)
            if time.monotonic() > self.end:  # not before: it would be another number of draws than at first
                raise _OverError
            assert not fault, fault

        tried = hypothesis.settings(
            max_examples=100, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
        )
        while time.monotonic() < self.end:
            with contextlib.suppress(AssertionError, ExceptionGroup, _OverError):
                hypothesis.seed(seed)(tried(hypothesis.given(st.data())(one)))()
            seed += 1

    def guided(self, seed: int) -> None:
        """Until its time is over; atheris varies what reaches code that nothing reached before."""
        import atheris

        def one(data: bytes) -> None:
            draws = Guided(data)
            self.one(draws.one(self.kinds), draws)

        atheris.Setup([sys.argv[0], f"-max_total_time={int(self.end - self.begin)}", f"-seed={seed + 1}"], one)
        atheris.Fuzz()

    def one(self, kind: str, draws: Draws) -> str:
        """One trial; its fault. The file of a fault is kept."""
        outcome = attempt(self.files, kind, draws, self.keep)
        self.count += 1
        self.slowest = max(self.slowest, outcome.seconds)
        if outcome.fault:
            if outcome.fault not in self.faults:
                print(f"{kind}, trial {self.count - 1}: {outcome.fault}\n  {outcome.command}", flush=True)
            self.faults[outcome.fault].append(outcome)
        return outcome.fault

    def report(self) -> int:
        """Prints what was done and every fault with its story."""
        seconds = time.monotonic() - self.begin
        for fault, outcomes in self.faults.items():
            print(f"\n== {fault} ({len(outcomes)} times)\n{outcomes[0].command}\n{outcomes[0].story}")
        print(
            f"\n{self.count} inputs in {seconds:.0f} s, {60 * self.count / seconds:.0f} per minute, slowest "
            f"{self.slowest:.1f} s; {sum(map(len, self.faults.values()))} faults of {len(self.faults)} kinds"
        )
        return bool(self.faults)


def _warm(files: Path) -> None:
    """Imports what the commands import, so that each child has it; runs each command once on a valid file."""
    import spikescr.cli.energy
    import spikescr.cli.export
    import spikescr.cli.fit
    import spikescr.cli.inspect
    import spikescr.cli.report
    import spikescr.cli.simulate
    import spikescr.export.deploy
    import spikescr.export.to_netx
    import spikescr.sim.fast.backend
    import spikescr.training.state  # noqa: F401

    graph, state = files / "graphs/chain.nir", next((files / "run/checkpoints").glob("*.safetensors"))
    with tempfile.TemporaryDirectory() as out:
        run = shutil.copytree(files / "run", Path(out) / "run")
        for command in (
            ["inspect", graph, "--values"],
            ["fit", graph],
            ["simulate", graph, "--input", files / "inputs/array.npy", "--out", f"{out}/out"],
            ["simulate", files / "graphs/image.nir", "--input", files / "graphs/image.npy", "--out", f"{out}/image"],
            ["export", "--to", "netx", "--graph", graph, "--out", f"{out}/a.net"],
            ["export", "--to", "nir", "--run", run],
            ["state"],
            ["energy", files / "run"],
            ["report", shutil.copytree(files / "run", Path(out) / "other")],
        ):
            fault = fault_of([str(word) for word in command], state)
            if fault:
                raise RuntimeError(f"a valid file fails: {command}: {fault}")
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        raise RuntimeError(f"{threads} threads: children of fork would wait for the others' locks for good")


if __name__ == "__main__":
    sys.exit(main())
