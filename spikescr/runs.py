"""The run folder: where each command finds what the ones before it made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from spikescr.errors import SpikescrError
from spikescr.files import finish, is_unfinished
from spikescr.locks import hold

DEFAULT_RUN = Path("runs/latest")
DEFAULT_JOB = Path("runs/curriculum")
RECORD = "curriculum.json"
SWEEP = "sweep.json"
"""Name of the record of a sweep, whose folder holds those of curricula."""
LOIHI2 = "loihi2"
"""Name of the folder of a run's network in integers, itself a run folder."""
FINETUNING = "finetuning"
"""Name of the folder in it for states and metrics of fine-tuning."""
_STAGE = re.compile(r"stage-\d{3,}")


@dataclass(frozen=True)
class _Folder:
    path: Path

    def create(self) -> None:
        """Makes the folder where it is not there yet, and sees to it that files can be made in it.

        Raises:
            SpikescrError: it cannot be made or written to; the message says why.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpikescrError(f"{self.path} cannot be made a run folder: {error.strerror}") from error
        try:
            TemporaryFile(dir=self.path).close()
        except OSError as error:
            raise SpikescrError(
                f"{self.path} cannot be written to: {error.strerror}; choose another folder (--run)"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other commands out of this folder and all inside it, while one writes to it.

        The folder is made where it is not there yet, and goes again when nothing was written. What a command that was
        killed had finished, but not put in its place yet, is put there first.

        Raises:
            SpikescrError: another command is at work in it, in a folder inside it or in the one that it belongs to; or
                it cannot be made or written to.
        """
        fresh = not self.path.exists()
        self.create()
        try:
            _recover(self._wholes())
            with hold(self.path, self._wholes(), exclusive=True):
                finish(self.path)
                yield
        finally:
            if fresh:
                with suppress(OSError):  # it is not empty
                    self.path.rmdir()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keeps what this folder holds as it is, while one reads several files of it; others may read too.

        Raises:
            SpikescrError: another command writes to it or to the folder that it belongs to.
        """
        if not self.path.is_dir():
            yield  # there is nothing to read, as `require` will say
            return
        self.recover()
        with hold(self.path, self._wholes(), exclusive=False):
            yield

    def recover(self) -> None:
        """Puts in its place what a command that was killed had ready, here and in what this folder is a part of.

        Raises:
            SpikescrError: another command is at work in it.
        """
        _recover((*self._wholes(), self.path))

    def _wholes(self) -> list[Path]:
        """The folders that this one is a part of: the run of a network in integers, the job of a stage, a sweep."""
        wholes, path = list[Path](), self.path.resolve()
        while (
            path.name in (LOIHI2, FINETUNING)
            or _STAGE.fullmatch(path.name)
            or any((path.parent / record).exists() for record in (RECORD, SWEEP))
        ):
            path = path.parent
            wholes.insert(0, path)
        return wholes


def _recover(paths: Iterable[Path]) -> None:
    for path in paths:
        if is_unfinished(path):
            with _Folder(path).locked():
                pass


@dataclass(frozen=True)
class JobFolder(_Folder):
    """A folder of a curriculum: a run folder for each stage, and a record of what is done."""

    path: Path = DEFAULT_JOB

    @property
    def record(self) -> Path:
        """What the job is and which stages are done, JSON."""
        return self.path / RECORD

    def stage(self, steps: int) -> RunFolder:
        """The run folder of the stage with so many steps per second."""
        return RunFolder(self.path / f"stage-{steps:03d}")

    @property
    def command(self) -> str:
        """The command that makes its content."""
        return "spikescr distill" + ("" if self.path == DEFAULT_JOB else f" --run {self.path}")


@dataclass(frozen=True)
class RunFolder(_Folder):
    """A folder of one training run and of what is derived from it.

    config.json      train     the training's configuration
    metrics.csv      train     one row per epoch
    times.csv        train     when each epoch ended
    precision.json   train     what mixed precision changed, where it was used
    left-out.csv     train     recordings that cannot be read, where there are some
    checkpoints/     train     states from which a training continues
    model.safetensors train    best weights, with all that it takes to use them
    model.nir        export    the graph
    simulation/      simulate  what an execution of the graph gave
    verify.json      verify    comparison of spikes
    early-exit.json  early-exit  when an answer is settled, so that simulate --until-sure may end a recording
    report.html      report    a page about all this; report.md, the same numbers
    listening.json   listen    how confident the network must be of a word, by --fit
    evaluation/      evaluate  accuracy, confusion, confidence on a split
    loihi2/          quantize  the network in integers: model.safetensors, model.nir, quantization.json; a run folder
    finetuning/      quantize  in loihi2/: states and metrics of fine-tuning

    Of a curriculum's stage, `distill` makes what `train` makes otherwise.
    """

    path: Path = DEFAULT_RUN

    @property
    def config(self) -> Path:
        """Configuration of the training, JSON."""
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        """One row per epoch, CSV."""
        return self.path / "metrics.csv"

    @property
    def times(self) -> Path:
        """When each epoch ended, CSV; equal trainings have equal metrics and unequal times."""
        return self.path / "times.csv"

    @property
    def precision(self) -> Path:
        """Spikes that mixed precision changed, JSON; not there after a training in float32."""
        return self.path / "precision.json"

    @property
    def left_out(self) -> Path:
        """Recordings that could not be read for the training, CSV; not there where all could."""
        return self.path / "left-out.csv"

    @property
    def checkpoints(self) -> Path:
        """Folder of states from which a training continues."""
        return self.path / "checkpoints"

    @property
    def checkpoint(self) -> Path:
        """Best weights."""
        return self.path / "model.safetensors"

    @property
    def graph(self) -> Path:
        """The exported graph."""
        return self.path / "model.nir"

    @property
    def simulation(self) -> Path:
        """Folder of what `simulate` writes."""
        return self.path / "simulation"

    @property
    def audit(self) -> Path:
        """All that a simulation counted, in the folder of simulations."""
        return self.simulation / "audit.npz"

    @property
    def evaluation(self) -> Path:
        """Folder of what `evaluate` writes."""
        return self.path / "evaluation"

    @property
    def verification(self) -> Path:
        """What `verify` writes, JSON."""
        return self.path / "verify.json"

    @property
    def early_exit(self) -> Path:
        """When an answer is settled, JSON."""
        return self.path / "early-exit.json"

    @property
    def report(self) -> Path:
        """The page that `report` writes."""
        return self.path / "report.html"

    @property
    def report_text(self) -> Path:
        """The same as Markdown."""
        return self.path / "report.md"

    @property
    def listening(self) -> Path:
        """What `listen --fit` found, JSON."""
        return self.path / "listening.json"

    @property
    def is_in_integers(self) -> bool:
        """Whether it is another run folder's, for its network in integers."""
        return self.path.name == LOIHI2

    @property
    def in_integers(self) -> RunFolder:
        """The run folder of its network in integers; itself where it is that."""
        return self if self.is_in_integers else RunFolder(self.path / LOIHI2)

    @property
    def finetuning(self) -> RunFolder:
        """Folder, of a network in integers, of states and metrics of its fine-tuning."""
        return RunFolder(self.path / FINETUNING)

    def of_precision(self, precision: str) -> RunFolder:
        """The run folder that holds the network of a precision."""
        return self.in_integers if precision == LOIHI2 else self

    @property
    def quantization(self) -> Path:
        """What `quantize` chose and measured, JSON."""
        return self.path / "quantization.json"

    def make_command(self, path: Path) -> str:
        """The command that makes one of this folder's files, or what lies in its folder of simulations."""
        if self.is_in_integers and path in (self.checkpoint, self.graph, self.quantization):
            parent = self.path.parent
            return "spikescr quantize" + ("" if parent == DEFAULT_RUN else f" --run {parent}")
        if self.path.name == FINETUNING:
            return f"spikescr quantize --run {self.path.parent.parent}"
        if path == self.listening:
            return f"spikescr listen {self.path} --fit"
        commands = {
            self.config: "train",
            self.metrics: "train",
            self.times: "train",
            self.precision: "train",
            self.left_out: "train",
            self.checkpoint: "train",
            self.graph: "export --to nir",
            self.simulation: "simulate",
            self.verification: "verify",
            self.early_exit: "early-exit",
            self.evaluation: "evaluate",
        }
        command = commands[self.simulation if self.simulation in path.parents else path]
        if command == "train" and (self.path.parent / RECORD).exists():
            return JobFolder(self.path.parent).command
        return f"spikescr {command}" + ("" if self.path == DEFAULT_RUN else f" --run {self.path}")

    def require(self, path: Path) -> Path:
        """Returns one of this folder's files, or its folder of simulations, if it is there.

        Raises:
            SpikescrError: it is not; the message has the command that makes it.
        """
        self.recover()
        if not path.exists():
            raise SpikescrError(f"{path} does not exist; make it with: {self.make_command(path)}")
        return path

    @property
    def results(self) -> tuple[str, ...]:
        """Names of what is made from the graph."""
        reports = (self.report, self.report_text)
        made = (self.verification, self.early_exit, self.simulation, self.listening, *reports)
        return tuple(path.name for path in made)

    @property
    def derived(self) -> tuple[str, ...]:
        """Names of all that is made from the checkpoint, so that none of an old network stands beside a new one."""
        return (self.graph.name, self.evaluation.name, LOIHI2, *self.results)
