"""Several files written as one: whatever is killed when, what is there is of one writing."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

import spikescr
from spikescr.errors import SpikescrError
from spikescr.files import (
    finish,
    is_unfinished,
    remove_folder,
    replacing_together,
    sha256,
    unchanged,
    write_text,
    write_texts,
)
from spikescr.progress import silent
from spikescr.runs import JobFolder, RunFolder
from spikescr.sim import labels
from spikescr.training.config import CurriculumConfig
from spikescr.workflows import export, sweep
from spikescr.workflows.reproduce_report import Report, RowResult, write_report
from spikescr.workflows.running import Options
from spikescr.workflows.simulate_file import simulate_file

NAMES = ("audit.npz", "counts/a.csv", "report.html", "spikes", "summary.json")
MADE = ("audit.npz", "counts/a.csv", "spikes/0.h5", "summary.json")  # report.html is not made again


def put(folder: Path, what: str, names: tuple[str, ...]) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(what)


def rewrite(folder: Path) -> None:
    with replacing_together(folder, NAMES) as stage:
        put(stage, "new", MADE)


def state(folder: Path) -> dict[str, str]:
    """Content of all files that one sees."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and not str(path.relative_to(folder)).startswith(".")
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path, "old", (*MADE, "report.html", "spikes/1.h5", "config.json"))
    return tmp_path


OLD = dict.fromkeys((*MADE, "report.html", "spikes/1.h5", "config.json"), "old")
NEW = dict.fromkeys(MADE, "new") | {"config.json": "old"}


def killed_at(number: int, function: Callable[[], object]) -> bool:
    """Runs a function in another process that is gone before its event of this number; whether it ended before."""
    child = os.fork()
    if child == 0:
        seen = 0

        def count(event: str, _: object) -> None:
            nonlocal seen
            if event.startswith(("open", "os.", "shutil.")):
                seen += 1
                if seen > number:
                    os._exit(9)

        sys.addaudithook(count)
        function()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def test_it_replaces_all_and_removes_what_is_not_made_again(folder: Path) -> None:
    rewrite(folder)
    assert state(folder) == NEW
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_kill_at_any_moment_leaves_no_mixture_and_nothing_is_lost(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ends = set()
    for number in range(1000):
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        put(folder, "old", tuple(OLD))
        done = killed_at(number, lambda: rewrite(folder))
        found = state(folder)
        assert found.pop("config.json") == "old"
        assert len(set(found.values())) <= 1, f"event {number}: {found}"
        with RunFolder(folder).locked():  # as the next command does
            assert state(folder) in (OLD, NEW), f"event {number}"
            ends.add(state(folder) == NEW)
        assert not is_unfinished(folder)
        rewrite(folder)
        assert not [path for path in folder.iterdir() if path.name.startswith(".")], f"event {number}"
        if done:
            break
    assert done
    assert number > 20
    assert ends == {False, True}


def test_a_kill_while_finishing_is_no_worse(folder: Path) -> None:
    """The command after the killed one is killed too."""
    for number in range(1000):
        put(folder, "old", tuple(OLD))
        (folder / ".unfinished").mkdir()
        put(folder / ".unfinished", "new", MADE)
        write_text(
            folder / ".unfinished/.plan.json",
            '{"made": ["audit.npz", "counts/a.csv", "spikes", "summary.json"], "gone": ["report.html"]}',
        )
        done = killed_at(number, lambda: finish(folder))
        found = state(folder)
        assert found.pop("config.json") == "old"
        assert len(set(found.values())) <= 1, f"event {number}: {found}"
        finish(folder)
        assert state(folder) == NEW, f"event {number}"
        if done:
            break
    assert done


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("half way")])
def test_what_fails_half_way_changes_nothing(folder: Path, error: Exception) -> None:
    def fail() -> None:
        with replacing_together(folder, NAMES) as stage:
            put(stage, "new", MADE[:2])
            raise error

    with pytest.raises(type(error)):
        fail()
    assert state(folder) == OLD
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_an_error_names_the_file_that_was_to_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as found, replacing_together(folder, NAMES) as stage:
        write_text(stage / "summary.json", "{}")
    assert found.value.filename == str(folder / "summary.json")


def test_a_file_that_is_missing_is_put_in_its_place_by_who_asks_for_it(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for number in range(1000):
        put(tmp_path, "old", ("model.safetensors",))

        def rewrite() -> None:
            with replacing_together(tmp_path, ["model.safetensors"]) as stage:
                put(stage, "new", ("model.safetensors",))

        done = killed_at(number, rewrite)
        assert run.require(run.checkpoint).read_text() in ("old", "new")
        if done:
            break
    assert done


def test_what_a_killed_command_had_ready_is_what_the_next_reader_sees(tmp_path: Path) -> None:
    """`energy` of a folder of results, whenever `simulate --out` was killed while it put them there."""
    made = {}
    for name, x in (("old", np.ones((3, 1))), ("new", np.ones((5, 1)))):
        nodes = {
            "input": nir.Input(np.ones(1, int)),
            "fc": nir.Linear(np.ones((2, 1))),
            "output": nir.Output(np.array([2])),
        }
        graph = nir.NIRGraph(nodes, [("input", "fc"), ("fc", "output")])
        (tmp_path / name).mkdir()
        spikescr.simulate(graph, x, dt=1e-3).save(tmp_path / name / "audit.npz")
        (tmp_path / name / "summary.json").write_text(name)
        made[name] = spikescr.audit(tmp_path / name).energy("executed").tolist()
    folder = tmp_path / "out"
    ends = set()
    for number in range(1000):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "old", folder)

        def rewrite() -> None:
            with replacing_together(folder, ("audit.npz", "summary.json")) as stage:
                shutil.copytree(tmp_path / "new", stage, dirs_exist_ok=True)

        done = killed_at(number, rewrite)
        for path in (folder, folder / "audit.npz") if (folder / "audit.npz").exists() else (folder,):
            found = spikescr.audit(path).energy("executed").tolist()
            assert found in made.values(), f"event {number}"
        assert found == made[(folder / "summary.json").read_text()], f"event {number}"
        ends.add(found == made["new"])
        if done:
            break
    assert done
    assert ends == {False, True}


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        ("{", "damaged (JSONDecodeError("),
        ("[]", "damaged (TypeError("),
        ('{"made": []}', "damaged (KeyError('gone'))"),
        ('{"made": 1, "gone": []}', "damaged (TypeError("),
        ('{"made": ["../other"], "gone": []}', "'../other' leads out of the folder"),
        ('{"made": [], "gone": ["/etc/passwd"]}', "'/etc/passwd' leads out of the folder"),
        ('{"made": [], "gone": ["a/../../other"]}', "'a/../../other' leads out of the folder"),
        ('{"made": [], "gone": [""]}', "'' leads out of the folder"),
    ],
)
def test_a_plan_from_strangers_leads_nowhere(tmp_path: Path, plan: str, fault: str) -> None:
    """A run folder that came from elsewhere may hold anything under the name of a killed command's plan."""
    folder, other = tmp_path / "run", tmp_path / "other"
    (folder / ".unfinished").mkdir(parents=True)
    other.write_text("mine")
    (folder / ".unfinished/.plan.json").write_text(plan)
    with pytest.raises(SpikescrError, match=rf"^{folder}/.unfinished/.plan.json: {re.escape(fault)}.*remove {folder}"):
        RunFolder(folder).recover()
    assert other.read_text() == "mine"


def test_a_folder_that_is_removed_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "chunks"
    for number in range(1000):
        folder.mkdir(exist_ok=True)
        put(folder, "old", ("key.json", "000000.npz", "000001.npz"))
        done = killed_at(number, lambda: remove_folder(folder))
        assert not folder.exists() or len(list(folder.iterdir())) == 3
        remove_folder(folder)
        assert list(tmp_path.iterdir()) == [], f"event {number}"
        if done:
            break
    assert done


def test_a_checkpoint_takes_with_it_what_was_made_of_the_one_before(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    made = (
        "model.nir",
        "loihi2/model.nir",
        "simulation/audit.npz",
        "verify.json",
        "report.html",
        "evaluation/test.json",
    )
    put(tmp_path, "old", ("model.safetensors", "config.json", *made))
    with replacing_together(run.path, (run.checkpoint.name, *run.derived)) as stage:
        put(stage, "new", ("model.safetensors",))
    assert state(tmp_path) == {"model.safetensors": "new", "config.json": "old"}


def write_sweep(folder: Path, trials: int) -> None:
    done = [
        sweep.Trial(curriculum=(100,), seed=seed, valid_accuracy=0.5, right=1, recordings=2) for seed in range(trials)
    ]
    record = sweep.SweepRecord(config=CurriculumConfig(), curricula=((100,),), seeds=9, budget=1, trials=done)
    sweep.write_sweep(JobFolder(folder), record)


def write_reproduction(folder: Path, seeds: int) -> None:
    write_report(folder, Report((RowResult("row", "table", 0.9, "a paper", None, seeds, 9),), {}))


@pytest.mark.parametrize(
    ("write", "names"),
    [(write_sweep, ("sweep.json", "sweep.csv")), (write_reproduction, ("reproduce.json", "reproduce.csv"))],
)
def test_a_table_and_its_record_are_of_one_writing(
    write: Callable[[Path, int], None], names: tuple[str, str], tmp_path: Path
) -> None:
    """A curricula's sweep and a reproduction write both after every training; a kill between them mixed two."""
    whole = {}
    for trials in (1, 2):
        write(tmp_path, trials)
        whole[trials] = tuple((tmp_path / name).read_bytes() for name in names)
    for number in range(1000):
        write(tmp_path, 1)
        done = killed_at(number, lambda: write(tmp_path, 2))
        for recovered in (False, True):
            found = tuple(path.read_bytes() if (path := tmp_path / name).exists() else None for name in names)
            assert any(
                all(one in (None, other) for one, other in zip(found, each, strict=True)) for each in whole.values()
            ), f"event {number}"
            assert None not in found or not recovered
            with JobFolder(tmp_path).locked():  # as the next command does
                pass
        if done:
            break
    assert done


def test_a_picture_of_a_reproduction_goes_with_the_figures_that_it_shows(tmp_path: Path) -> None:
    (tmp_path / "reproduce.png").write_bytes(b"of fewer seeds")
    write_reproduction(tmp_path, 2)
    assert not (tmp_path / "reproduce.png").exists()


CHANGES: dict[str, Callable[[Path], object]] = {
    "replaced": lambda path: write_text(path, "two"),
    "written to": lambda path: path.write_bytes(b"three"),
    "removed": lambda path: path.unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_while_it_is_read_is_not_told_for_what_was_read(tmp_path: Path, change: str) -> None:
    """A hash that is taken after reading, minutes later say, was that of another network."""
    path = tmp_path / "model.nir"
    path.write_bytes(b"one")
    with unchanged(path) as digests:
        assert path.read_bytes() == b"one"
    assert digests == {"model.nir": sha256(path)}
    expected = FileNotFoundError if change == "removed" else SpikescrError
    with pytest.raises(expected, match=r"model\.nir"), unchanged(path):
        CHANGES[change](path)


def test_a_graph_that_is_replaced_while_it_is_exported_to_netx_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = np.ones(2)
    nodes = nir.Affine(np.eye(2), one), nir.LIF(2e-3 * one, one, 0 * one, one, 0 * one)
    graph = nir.NIRGraph.from_list(*nodes)
    nir.write(tmp_path / "model.nir", graph)

    def read(path: Path, **_: object) -> nir.NIRGraph:
        write_text(path, "of another command")
        return graph

    monkeypatch.setattr(export, "read_graph", read)
    with pytest.raises(SpikescrError, match=r"model\.nir: was changed while it was read; run again"):
        export.export_netx(tmp_path / "model.nir", tmp_path / "model.net", dt=1e-3)
    assert not (tmp_path / "model.net").exists()


@pytest.mark.parametrize("file", ["model.nir", "x.npy", "labels.npy"])
def test_a_file_that_is_replaced_while_a_simulation_reads_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """Else the audit would tell the hash of what was never run."""
    nir.write(tmp_path / "model.nir", nir.NIRGraph.from_list(nir.Linear(np.eye(2))))
    np.save(tmp_path / "x.npy", np.ones((3, 1, 2)))
    np.save(tmp_path / "labels.npy", np.zeros(1, int))
    names = [tmp_path / name for name in ("model.nir", "x.npy")]
    options = Options(dt=1e-3, readout="sum")
    simulate_file(*names, tmp_path / "out", options, silent, tmp_path / "labels.npy")
    before = {path.name: sha256(path) for path in (tmp_path / "out").iterdir()}
    read = labels.take_labels

    def take(*what: Any) -> Any:
        write_text(tmp_path / file, "of another command")
        return read(*what) if file != "labels.npy" else np.zeros(1, int)

    monkeypatch.setattr(labels, "take_labels", take)
    with pytest.raises(SpikescrError, match=rf"{re.escape(file)}: was changed while it was read; run again"):
        simulate_file(*names, tmp_path / "out", options, silent, tmp_path / "labels.npy")
    assert {path.name: sha256(path) for path in (tmp_path / "out").iterdir()} == before


def test_files_in_several_folders_are_written_once_all_can_be(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("old")
    with pytest.raises(FileNotFoundError) as found:
        write_texts({tmp_path / "a.json": "new", tmp_path / "absent/b.csv": "new"})
    assert found.value.filename == str(tmp_path / "absent/b.csv")
    assert state(tmp_path) == {"a.json": "old"}
    (tmp_path / "absent").mkdir()
    write_texts({tmp_path / "a.json": "new", tmp_path / "absent/b.csv": "newer"})
    assert state(tmp_path) == {"a.json": "new", "absent/b.csv": "newer"}
    assert len(list(tmp_path.iterdir())) == 2
