"""`spikescr` as a process of its own, without the seconds of importing torch: it is forked from one that has.

Such a command has its own process id, folder, environment, signals, standard streams and exit status, as when a shell
starts it. What it has not is a start from nothing: what a command imports, and that its result does not depend on the
seed of hashes, is tested where the installed script is started (test_main, test_surroundings, test_extras).
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path

PRELOADED = [
    "accelerate", "h5py", "librosa.filters", "nir", "numba", "rich.progress", "torch",
    "spikingjelly.activation_based.neuron", "spikescr.cli", "spikescr.export.to_nir", "spikescr.sim.fast.backend",
    "spikescr.training.loop", "spikescr.workflows",
]  # fmt: skip


def _execute(words: list[str], cwd: Path, environment: dict[str, str], streams: tuple[Path, Path]) -> None:
    gc.freeze()  # a collection of garbage would copy every page of what the fork server has imported
    for number, path in enumerate(streams, 1):
        stream = os.open(path, os.O_WRONLY | os.O_TRUNC)
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["spikescr", *words]
    multiprocessing.set_start_method(None, force=True)  # nobody has chosen one yet, as Lava insists
    from spikescr.cli import main

    main(prog_name="spikescr")


class Command:
    """A command that runs; what it prints is kept in files, so that it never waits for a reader.

    Attributes:
        pid: Of its process.
    """

    def __init__(self, *words: str | Path, cwd: Path) -> None:
        folder = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._stdout, self._stderr = folder / "stdout", folder / "stderr"
        self._stdout.touch()
        self._stderr.touch()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        given = [str(word) for word in words], cwd, dict(os.environ), (self._stdout, self._stderr)
        self._process = context.Process(target=_execute, args=given)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative where a signal ended it; None while it runs."""
        return self._process.exitcode

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._stdout.read_text()

    @property
    def stderr(self) -> str:
        """What it has complained about so far."""
        return self._stderr.read_text()

    def wait(self, timeout: float) -> int:
        """Waits for its end; its exit status.

        Raises:
            subprocess.TimeoutExpired: it takes longer than `timeout` seconds.
        """
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("spikescr", timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends it a signal, if it runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it, also where it is stopped."""
        self._process.kill()
        self.wait(timeout=60)


def spikescr(*words: str | Path, cwd: Path, timeout: float = 300) -> Command:
    """Runs a command to its end."""
    command = Command(*words, cwd=cwd)
    try:
        command.wait(timeout=timeout)
    finally:
        command.kill()
    return command


def may_write(folder: Path) -> bool:
    """Whether another process may write to a run folder now."""
    code = (
        "import sys; from pathlib import Path; from spikescr.errors import SpikescrError; "
        "from spikescr.runs import RunFolder\n"
        "try:\n    with RunFolder(Path(sys.argv[1])).locked():\n        pass\n"
        "except SpikescrError as error:\n    assert 'at work here' in str(error)\n    sys.exit(3)"
    )
    found = subprocess.run([sys.executable, "-c", code, folder], timeout=60, check=False)
    assert found.returncode in (0, 3)
    return found.returncode == 0
