"""spikescr reproduce: trained, killed, resumed, in several processes; what is printed and refused."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from commands import Command, spikescr
from helpers import write_tones

from spikescr.cli import main
from spikescr.workflows import reproduce_training
from spikescr.workflows.reproduce_table import read_table

TINY = '["steps=20", "model.heads=2", "model.width=16", "batch_size=8"]'
OWN = f"""
about = "Two small networks"
data = "folder"
source = "nowhere"
seeds = 2
[[rows]]
name = "direct"
table = "accuracy"
train = "digits"
changes = {TINY}
printed = 90.0
[[rows]]
name = "taught"
table = "accuracy"
distill = "curriculum.toml"
stage = 10
printed = 95.0
[[rows]]
name = "of-another-time"
table = "accuracy"
train = "digits"
changes = ["model.family=unheard"]
printed = 99.0
"""
CURRICULUM = """
base = "digits"
kinds = ["folder"]
curriculum = [20, 10]
model.heads = 2
model.width = 16
batch_size = 8
"""


@dataclass(frozen=True)
class Place:
    """A folder with tables and recordings, and what an undisturbed job gave."""

    folder: Path
    undisturbed: dict[str, bytes]

    def words(self, run: str) -> list[str]:
        data = f"folder:{self.folder / 'tones'}"
        return ["reproduce", "own.toml", "--data", data, "--epochs", "3", "--limit", "16", "--run", run]


def results(job: Path) -> dict[str, bytes]:
    names = ("model.safetensors", "metrics.csv", "config.json", "reproduce.json", "reproduce.csv")
    return {str(path.relative_to(job)): path.read_bytes() for path in job.rglob("*") if path.name in names}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("reproduce")
    write_tones(folder / "tones")
    (folder / "own.toml").write_text(OWN)
    (folder / "curriculum.toml").write_text(CURRICULUM)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        opened: list[Path] = []
        choose = reproduce_training.choose_recordings
        patch.setattr(
            reproduce_training, "choose_recordings", lambda trained, **more: opened.append(1) or choose(trained, **more)
        )
        place = Place(folder, {})
        found = CliRunner().invoke(main, [*place.words("runs/whole"), "--png"])
        assert found.exit_code == 0, found.stderr
        assert len(opened) == 4, "once for each training"
        yield Place(folder, results(folder / "runs/whole"))


def test_every_row_is_trained_and_told(place: Place) -> None:
    content = json.loads((place.folder / "runs/whole/reproduce.json").read_text())
    direct, taught, absent = content["rows"]
    assert (content["limit"], content["epochs"], content["as_printed"]) == (16, 3, False)
    assert [row["seeds"] for row in content["rows"]] == [2, 2, 0]
    assert [each["seed"] for each in taught["trainings"]] == [0, 1]
    assert all(each["last"]["epoch"] == 3 and each["recordings"] == 10 for each in direct["trainings"])
    assert absent["differs"] == "not available: this version has no model.family=unheard"
    assert len(list((place.folder / "runs/whole/trainings").iterdir())) == 4
    assert (place.folder / "runs/whole/reproduce.png").exists()


def test_what_is_done_is_not_done_again_and_more_rows_take_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    monkeypatch.setattr(reproduce_training, "choose_recordings", None)  # nobody opens the test split again
    found = CliRunner().invoke(main, place.words("runs/whole"))
    assert found.exit_code == 0, found.stderr
    assert "4 trainings, 2 seeds; what rows share is trained once, 4 are done\n" in found.stdout
    assert results(place.folder / "runs/whole") == place.undisturbed
    lines = [line.split() for line in found.stdout.splitlines()]
    assert ["2", "of", "2"] in [line[3:6] for line in lines if line[:1] == ["direct"]]


@pytest.mark.slow
def test_killed_twice_and_resumed_it_gives_the_same(place: Place) -> None:
    job = place.folder / "runs/killed"
    for number, (kind, states) in enumerate(((signal.SIGKILL, 1), (signal.SIGTERM, 3))):
        command = Command(*place.words("runs/killed"), cwd=place.folder)
        deadline = time.monotonic() + 200
        while len(list(job.glob("trainings/*/metrics.csv"))) + len(list(job.glob("trainings/*/result.json"))) < states:
            assert time.monotonic() < deadline, command.stderr
            assert command.returncode is None, command.stderr
            time.sleep(0.01)
        command.send_signal(kind)
        command.wait(timeout=120)
        assert command.returncode == (-kind if kind == signal.SIGKILL else 128 + kind), (number, command.stderr)
    assert len(list(job.glob("trainings/*/result.json"))) < 4
    last = spikescr(*place.words("runs/killed"), cwd=place.folder)
    assert last.returncode == 0, last.stderr
    assert results(job) == place.undisturbed


@pytest.mark.slow
def test_several_processes_give_the_same(place: Place) -> None:
    done = spikescr(*place.words("runs/several"), "--workers", "2", cwd=place.folder)
    assert done.returncode == 0, done.stderr
    assert results(place.folder / "runs/several") == place.undisturbed


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A Dask cluster on this machine: a scheduler and a worker, processes of their own."""
    distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as local:
        yield local


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # distributed closes sockets late
def test_a_cluster_gives_the_same(place: Place, cluster: Any) -> None:
    done = spikescr(*place.words("runs/cluster"), "--scheduler", cluster.scheduler_address, cwd=place.folder)
    assert done.returncode == 0, done.stderr
    assert results(place.folder / "runs/cluster") == place.undisturbed


def test_a_training_that_fails_is_told_and_the_others_are_done(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    wild = OWN.replace('"batch_size=8"]', '"batch_size=8", "lr=1e6"]')
    (place.folder / "wild.toml").write_text(wild + "[[rows]]\n" + OWN.split("[[rows]]")[1].replace("direct", "sane"))
    words = ["wild.toml" if word == "own.toml" else word for word in place.words("runs/wild")]
    found = CliRunner().invoke(main, [*words, "--rows", "direct,sane", "--seeds", "1"])
    assert found.exit_code == 1, found.output
    assert "1L-2-16-20-seed-0 failed: " in found.stderr
    assert "lower lr" in found.stderr
    rows = json.loads((place.folder / "runs/wild/reproduce.json").read_text())["rows"]
    assert [row["seeds"] for row in rows] == [0, 1]


def test_dry_run_tells_what_it_takes_and_trains_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    found = CliRunner().invoke(main, [*place.words("runs/dry"), "--dry-run", "--machines", "3"])
    assert found.exit_code == 0, found.stderr
    assert "4 to do: " in found.stdout
    assert "3 machines like this one" in found.stdout
    assert "of-another-time (99.00 %): not available: this version has no model.family=unheard" in found.stdout
    assert not (place.folder / "runs/dry").exists()


def test_rows_are_listed() -> None:
    lines = CliRunner().invoke(main, ["reproduce", "shd", "--list"]).stdout.splitlines()
    begun = [line.split()[0] for line in lines if not line.startswith(" ")]  # long changes go on in a second line
    assert begun == ["row", *(row.name for row in read_table("shd").rows)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["timit"], "error: no tables are named 'timit': choose gsc, shd, ssc or a .toml file of your own"),
        (["ssc"], "error: give the recordings: --data ssc:PATH, or others, --data folder:PATH"),
        (["ssc", "--rows", "9L", "--dry-run"], "error: no row is like '9L': there are 1L-40, "),
        (["ssc", "--data", "ssc:x", "--workers", "2", "--devices", "0"], "error: give one of workers"),
        (["none.toml"], "error: none.toml: there is no such file of tables"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_status_2(arguments: list[str], message: str) -> None:
    found = CliRunner().invoke(main, ["reproduce", *arguments])
    assert found.exit_code == 2, found.output
    assert message in found.stderr
