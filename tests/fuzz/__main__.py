"""Damages files for as long as it is told; see the package."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib.util
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from types import FunctionType

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # a child of fork has no threads

from fuzz.corpus import corpus  # noqa: E402
from fuzz.draws import Drawn, Draws, Guided, Seeded  # noqa: E402
from fuzz.trial import (  # noqa: E402
    BYTES,
    KINDS,
    SECONDS,
    Judge,
    Outcome,
    attempt,
    fault_of,
    in_process,
    judged,
    placed,
    sources,
)
from spikescr.training.memory import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD  # noqa: E402


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
    if options.engine == "atheris" and importlib.util.find_spec("atheris") is None:
        parser.error("--engine atheris needs the package atheris, 3.0 or later: pip install atheris")
    kinds = options.kinds.split(",")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts it behind `&` has it ignored
    with tempfile.TemporaryDirectory(prefix="fuzz-corpus-") as temporary:
        parts = {part for kind in kinds for part in KINDS[kind].parts}
        files = corpus((options.corpus or Path(temporary)).resolve(), parts)
        _warm(files, kinds)
        run = _Run(files, kinds, options.keep, options.minutes)
        with contextlib.suppress(KeyboardInterrupt):  # what was found until then is told
            {"seeds": run.seeded, "hypothesis": run.drawn, "atheris": run.guided}[options.engine](options.seed)
        return run.report()


class _OverError(BaseException):
    """The time is over; hypothesis takes no such exception for a fault."""


class _Run:
    def __init__(self, files: Path, kinds: list[str], keep: Path, minutes: float) -> None:
        self.files, self.keep = files, keep
        self.kinds = [kind for kind in kinds for _ in range(KINDS[kind].share)]
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
        """Until its time is over; atheris varies what reaches code that nothing reached before. It ends the process.

        Commands run in this process: what a child reaches, atheris does not see. Its own limits end the run at the
        first command that takes too much or ten times too long: it goes by the clock, and the machine may be busy.
        """
        import atheris

        def one(data: bytes) -> None:
            draws = Guided(data)
            self.one(draws.one(self.kinds), draws, judge=in_process)
            if time.monotonic() > self.end:
                status = self.report()
                sys.stdout.flush()
                os._exit(status)

        for function in [each for each in gc.get_objects() if _is_watched(each)]:
            atheris.instrument_func(function)
        begun = Path("/proc/self/statm").read_text().split()[1]
        megabytes = (int(begun) * resource.getpagesize() + BYTES) // 2**20
        with tempfile.TemporaryDirectory() as seeds:
            for number in range(50):
                (Path(seeds) / str(number)).write_bytes(random.Random(seed + number).randbytes(400))
            limits = [f"-timeout={10 * SECONDS}", f"-rss_limit_mb={megabytes}", f"-artifact_prefix={self.keep}/"]
            self.keep.mkdir(parents=True, exist_ok=True)
            atheris.Setup([sys.argv[0], f"-seed={seed + 1}", "-max_len=1000", *limits, seeds], one)
            atheris.Fuzz()

    def one(self, kind: str, draws: Draws, judge: Judge = judged) -> str:
        """One trial; its fault. The file of a fault is kept."""
        outcome = attempt(self.files, kind, draws, self.keep, judge)
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


def give_back() -> None:
    """Freed memory goes back to the system again: a training that ran here asked the C library to keep all of it.

    Else what one damage takes, 600 MB of zeros in an archive, stays for good and is copied into every child.
    """
    library = ctypes.CDLL(None)
    for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        library.mallopt(parameter, 128 * 1024)  # as mallopt(3) has it
    library.malloc_trim(0)


def _is_watched(each: object) -> bool:
    """Whether it is a function of ours; what Numba compiles must stay as it is."""
    return (
        isinstance(each, FunctionType)
        and (each.__module__ or "").startswith("spikescr.")
        and ".kernels" not in each.__module__
    )


def _warm(files: Path, kinds: list[str]) -> None:
    """Runs each command once on each valid file that it reads: what it imports and compiles, each child has then."""
    for name in kinds:
        for words in KINDS[name].commands:
            of_each = any(place in word for word in words for place in ("{file}", "{input}"))
            for source in sources(files, KINDS[name])[: None if of_each else 1]:
                with tempfile.TemporaryDirectory() as folder:
                    file, command = placed(files, source, words, Path(folder))
                    fault = fault_of(command, file)
                if fault:
                    raise RuntimeError(f"a valid file fails: {' '.join(command)}: {fault}")
    give_back()
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        raise RuntimeError(f"{threads} threads: children of fork would wait for the others' locks for good")


if __name__ == "__main__":
    sys.exit(main())
