"""A command on a damaged file, in a child process with limits; what may come of it, and what is a fault."""

from __future__ import annotations

import faulthandler
import os
import re
import resource
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuzz.corpus import TRAIN
from fuzz.damage import damage
from fuzz.draws import Draws
from fuzz.watch import watch

SECONDS = 30
BYTES = 10**9


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        files: patterns in the corpus; one of them is damaged.
        commands: words of the command line, or of READERS; {file} is the damaged file, {folder} the folder at the top
            of the corpus that holds it, of which it is in a copy, {out} an empty folder.
        share: trials of this kind for one of the slowest.
    """

    files: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    share: int = 5

    @property
    def parts(self) -> set[str]:
        """Of the corpus, that its files and commands need."""
        used = (word.partition("{corpus}/")[2] for words in self.commands for word in words if "{corpus}/" in word)
        return {"inputs", *(file.split("/")[0] for file in (*self.files, *used))}


_ON_GRAPH = (
    ("inspect", "{file}"),
    ("inspect", "{file}", "--values"),
    ("fit", "{file}"),
    ("simulate", "{file}", "--input", "{input}", "--out", "{out}"),
    ("export", "--to", "netx", "--graph", "{file}", "--out", "{out}/a.net"),
)
KINDS = {
    "graphs": Kind(("graphs/*.nir",), _ON_GRAPH),
    "exported": Kind(("run/model.nir",), _ON_GRAPH, share=1),
    "inputs": Kind(("inputs/*",), (("simulate", "{corpus}/graphs/chain.nir", "--input", "{file}", "--out", "{out}"),)),
    "checkpoints": Kind(("run/model.safetensors",), (("export", "--to", "nir", "--run", "{folder}"),)),
    "integers": Kind(
        ("run/loihi2/model.safetensors", "run/loihi2/quantization.json", "run/loihi2/model.nir"),
        (
            ("simulate", "--run", "{folder}", "--precision", "loihi2", "--limit", "1"),
            ("fit", "--run", "{folder}/loihi2"),
        ),
        share=2,
    ),
    "states": Kind(("run/checkpoints/*.safetensors",), (("state", "{file}"),)),
    "resumed": Kind(("half/checkpoints/*.safetensors",), ((*TRAIN, "--resume"),), share=1),
    "records": Kind(("job/curriculum.json",), (("record", "{folder}"),)),
    "audits": Kind(("run/simulation/audit.npz",), (("energy", "{folder}"), ("report", "{folder}"))),
    "run folders": Kind(
        ("run/*.json", "run/*.csv", "run/simulation/*.json", "run/simulation/*.csv"),
        (
            ("report", "{folder}", "--no-recording"),
            ("energy", "{folder}"),
            ("curves", "{folder}", "--out", "{out}/a.svg"),
            ("simulate", "--run", "{folder}", "--limit", "1"),
        ),
        share=2,
    ),
    "chunks": Kind(
        ("begun/simulation/chunks/*",),
        (("simulate", "--run", "{folder}", "--limit", "4", "--chunk-size", "2", "--resume"),),
        share=2,
    ),
    "recordings": Kind(("sounds/*",), (("recording", "{file}"),)),
    "spikes": Kind(("shd/*",), (("data", "check", "shd:{folder}"),), share=2),
}


@dataclass(frozen=True)
class Outcome:
    """What a trial came to: fault is empty where all is as it should be."""

    command: str
    seconds: float
    fault: str
    story: str


Judge = Callable[[list[str], Path], Outcome]


def attempt(corpus: Path, name: str, draws: Draws, keep: Path | None = None, judge: Judge | None = None) -> Outcome:
    """Damages a file of a kind and runs one of its commands on it.

    Args:
        corpus: valid files.
        name: of KINDS.
        draws: decides everything.
        keep: folder for the damaged file where it shows a fault.
        judge: runs the command; default: `judged`, in a child process.
    """
    kind = KINDS[name]
    source, words = draws.one(sources(corpus, kind)), draws.one(kind.commands)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        file, command = placed(corpus, source, words, Path(temporary))
        damage(file, draws)
        outcome = (judge or judged)(command, file)
        if outcome.fault and keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            number = len(list(keep.iterdir()))
            shutil.copy(file, keep / f"{number:04}-{words[0]}-{file.name}")
        return outcome


def sources(corpus: Path, kind: Kind) -> list[Path]:
    """The valid files of a kind."""
    return sorted(path for pattern in kind.files for path in corpus.glob(pattern) if not path.name.startswith("."))


def placed(corpus: Path, source: Path, words: tuple[str, ...], folder: Path) -> tuple[Path, list[str]]:
    """Puts a copy of a file of the corpus, with all beside it that the command needs, into a folder.

    Returns:
        The copy, and the command line on it.
    """
    file = folder / source.relative_to(corpus)
    top = folder / source.relative_to(corpus).parts[0]
    if any("{folder}" in word for word in words):
        shutil.copytree(corpus / top.name, top)
    else:
        file.parent.mkdir(parents=True)
        shutil.copy(source, file)
    (folder / "out").mkdir()
    own = source.with_suffix(".npy")
    given = own if own.exists() else corpus / "inputs/array.npy"
    places = {"file": file, "folder": top, "out": folder / "out", "corpus": corpus, "input": given}
    return file, [word.format(**places) for word in words]


def in_process(command: list[str], damaged: Path) -> Outcome:
    """Runs a command line here, without limits."""
    begin = time.monotonic()
    first, _, rest = (fault_of(command, damaged) or "").partition("\n")
    return Outcome(" ".join(command), time.monotonic() - begin, first, rest)


def judged(command: list[str], damaged: Path) -> Outcome:
    """Runs a command line in a child process with limits of time and memory."""
    with tempfile.TemporaryFile() as out:
        pid = os.fork()
        if pid == 0:
            _child(command, damaged, out.fileno())
        end = watch(pid, SECONDS)
        out.seek(0)
        story = out.read().decode(errors="replace")
    words = " ".join(command)
    if os.WIFSIGNALED(end.status):
        fault = "time" if end.too_long else f"signal {signal.Signals(os.WTERMSIG(end.status)).name}"
        return Outcome(words, end.seconds, fault, story[-4000:])
    first, _, rest = story.partition("\n")
    return Outcome(words, end.seconds, *((first, rest) if os.WEXITSTATUS(end.status) else ("", story)))


def _child(command: list[str], damaged: Path, out: int) -> None:
    """Limits, the command, one line about the fault and its story; never returns."""
    os.setpgid(0, 0)  # all that it starts ends with it
    faulthandler.disable()
    os.dup2(out, 1)
    os.dup2(out, 2)
    status = 0
    try:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + BYTES, size + BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        fault = fault_of(command, damaged)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if fault is None and grown > BYTES:
            fault = f"memory: {grown / 1e9:.1f} GB"
        if fault is not None:
            os.write(1, fault.encode(errors="replace"))
            status = 1
    except BaseException:
        os.write(1, f"harness\n{traceback.format_exc()}".encode())
        status = 2
    finally:
        os._exit(status)


def fault_of(command: list[str], damaged: Path) -> str | None:
    """A line that names the fault, and its story; None where the command did as it should.

    That is: it succeeded, without NaN among its figures where what is damaged holds figures; or it said in one line,
    with exit status 1 or 2, what is wrong with a file, which it names.
    """
    if command[0] in READERS:
        return _read(command, damaged)
    from click.testing import CliRunner

    from spikescr.cli import main

    result = CliRunner().invoke(main, command)
    text, fault = result.stderr, None
    last = (text.strip() or "nothing").splitlines()[-1]
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        text = "".join(traceback.format_exception(result.exception))
        fault = _place(text)
    elif "--debug for the whole story" in last:
        text = CliRunner().invoke(main, ["--debug", *command]).stderr
        fault = _place(text)
    elif result.exit_code == 0:
        if damaged.suffix in (".npz", ".json", ".safetensors", ".csv") and re.search(r"\bnan\b", result.stdout):
            fault, text = "not a number among the figures", result.stdout
    elif result.exit_code not in (1, 2) or not last.startswith("error: "):
        fault = f"exit status {result.exit_code}: {last[:80]}"
    elif not any(word in text for word in (damaged.name, *command) if "/" in word or word == damaged.name):
        fault = f"names no file: {re.sub(r'[0-9./]+', '#', last)[:80]}"
    return fault and f"{fault}\n{text}"


def _load_state(path: Path) -> None:
    from spikescr.training.state import load_state

    load_state(path)


def _read_record(job: Path) -> None:
    from spikescr.runs import JobFolder
    from spikescr.training.distill import read_record

    read_record(JobFolder(job))


def _read_recording(path: Path) -> None:
    from spikescr.data.audio import read_recording

    read_recording(path)


READERS = {"state": _load_state, "record": _read_record, "recording": _read_recording}
"""What reads a file without a command of its own that ends soon."""


def _read(command: list[str], path: Path) -> str | None:
    from spikescr.errors import SpikescrError

    try:
        READERS[command[0]](Path(command[1]))
    except SpikescrError as error:
        return None if path.name in str(error) else f"names no file: {str(error)[:60]}\n{error}"
    except Exception as error:
        return f"{_place(traceback.format_exc())}\n{error!r}\n{traceback.format_exc()}"
    return None


def _place(story: str) -> str:
    """What was raised, and the last line of ours that it went through: faults of one place are one."""
    ours = re.findall(r'File "[^"]*?((?:spikescr|sim|export)/[^"]*)", line (\d+)', story)
    last = next((line for line in reversed(story.strip().splitlines()) if re.match(r"^[\w.]+(:|$)", line)), "?")
    return f"{last.split(':')[0]} at {':'.join(ours[-1]) if ours else '?'}"
