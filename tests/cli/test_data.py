"""spikescr data, and the way of spikes from HDF5 to Lava, as a user goes it."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import commands
import h5py
import nir
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from helpers import write_heidelberg, write_tones

from spikescr.cli import main
from spikescr.data.folder import SPEECH_COMMANDS
from spikescr.data.kinds import KINDS
from spikescr.data.published import PublishedFile, PublishedSet


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKESCR_CACHE", str(tmp_path / "cache"))


def spikescr(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def small_shd(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if SHD had been published with 26 and 10 recordings of 2 classes."""
    small = PublishedSet("https://nowhere", (), {"train": 26, "test": 10}, 2, 0.0, "CC0")
    monkeypatch.setitem(KINDS, "shd", replace(KINDS["shd"], published=small))


@pytest.mark.usefixtures("small_shd")
def test_check_of_a_good_copy_prints_statistics(tmp_path: Path) -> None:
    root = write_heidelberg(tmp_path / "shd", "shd", {"train": 26, "test": 10})
    found = spikescr("data", "check", f"shd:{root}")
    assert found.exit_code == 0, found.output
    rows = {line[:37].strip(): line[37:].split() for line in found.stdout.splitlines()}
    assert rows["recordings"] == ["26", "10"]
    assert rows["per class, fewest to most"] == ["13", "to", "13", "5", "to", "5"]
    assert rows["speakers"] == ["6", "4"]
    with h5py.File(root / "shd_train.h5") as file:
        lengths = [len(t) for t in file["spikes/times"]]
        longest = max(float(t.max()) for t in file["spikes/times"])
    assert rows["spikes: fewest, median, most"][:3:2] == [f"{min(lengths)},", f"{max(lengths)}"]
    assert rows["seconds: shortest, median, longest"][2] == f"{longest:.2f}"
    assert "no problem found" in found.stdout


@pytest.mark.usefixtures("small_shd")
def test_check_lists_all_that_is_wrong_with_spikes(tmp_path: Path) -> None:
    root = write_heidelberg(tmp_path / "shd", "shd", {"train": 26, "test": 9})
    with h5py.File(root / "shd_train.h5", "r+") as file:
        file["spikes/units"][3] = np.full(len(file["spikes/times"][3]), 700)
        file["spikes/times"][5] = np.zeros(2)
        file["spikes/times"][7] = -file["spikes/times"][7]
    found = spikescr("data", "check", f"shd:{root}")
    assert found.exit_code == 1
    problems = [line.rpartition("shd/")[2] for line in found.stdout.splitlines() if line.startswith("problem: ")]
    assert [problem.partition(" spike 0 is")[0] for problem in problems[:1]] == ["shd_train.h5: recording 3:"]
    assert problems[1].startswith("shd_train.h5: recording 5: 2 times, but ")
    assert problems[2].startswith("shd_train.h5: recording 7: spike ")
    assert problems[3] == "problem: test: 9 recordings; published are 10"
    assert len(problems) == 4
    assert found.stderr == f"error: shd:{root}: 4 problem(s), each in a line on standard output\n"
    (root / "shd_train.h5").write_bytes(b"spoilt")
    found = spikescr("data", "check", f"shd:{root}")
    assert "shd_train.h5: no readable HDF5 file" in found.stdout
    assert "test: 9 recordings" in found.stdout
    (root / "shd_test.h5").unlink()
    assert f"{root}: has no shd_test.h5" in spikescr("data", "check", f"shd:{root}").stdout


def write_speech_commands(root: Path) -> Path:
    """35 words, three speakers, lists, background noise: as in the archive."""
    for word in SPEECH_COMMANDS:
        (root / word).mkdir(parents=True)
        for speaker in range(3):
            noise = np.random.default_rng(speaker).uniform(-0.3, 0.3, 1600)
            soundfile.write(root / word / f"{speaker:08x}_nohash_0.wav", noise, 16000)
    for name, speaker in (("validation_list.txt", 1), ("testing_list.txt", 2)):
        (root / name).write_text("".join(f"{word}/{speaker:08x}_nohash_0.wav\n" for word in SPEECH_COMMANDS))
    (root / "_background_noise_").mkdir()
    soundfile.write(root / "_background_noise_" / "pink_noise.wav", np.zeros(16000), 16000)
    return root


def test_check_lists_all_that_is_wrong_with_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = dict.fromkeys(("train", "valid", "test"), 35)
    small = PublishedSet("https://nowhere", (), numbers, 35, 0.0, "CC0")
    monkeypatch.setitem(KINDS, "gsc", replace(KINDS["gsc"], published=small))
    root = write_speech_commands(tmp_path / "gsc")
    found = spikescr("data", "check", f"gsc:{root}")
    assert found.exit_code == 0, found.output
    for name in ("bed/00000000_nohash_0.wav", "cat/00000002_nohash_0.wav"):
        (root / name).write_bytes((root / name).read_bytes()[:-4])
    found = spikescr("data", "check", f"gsc:{root}")
    assert found.stdout.count("truncated") == 2
    assert found.exit_code == 1
    (root / "dog/00000001_nohash_0.wav").unlink()
    (root / "dog/00000002_nohash_0.wav").unlink()
    (root / "zero").rename(root / "_zero")
    found = spikescr("data", "check", f"gsc:{root}")
    assert found.exit_code == 1
    problems = [line.rpartition("gsc/")[2] for line in found.stdout.splitlines()]
    assert problems == [
        "zero: no such class folder",
        "validation_list.txt: line 5: dog/00000001_nohash_0.wav does not exist",
        "validation_list.txt: line 35: zero/00000001_nohash_0.wav does not exist",
        "testing_list.txt: line 5: dog/00000002_nohash_0.wav does not exist",
        "testing_list.txt: line 35: zero/00000002_nohash_0.wav does not exist",
    ]
    (root / "testing_list.txt").unlink()
    assert "gsc has no testing_list.txt" not in spikescr("data", "check", f"gsc:{root}").stdout
    assert "testing_list.txt: no such list" in spikescr("data", "check", f"gsc:{root}").stdout


def test_check_lists_what_libsndfile_does_not_read_and_goes_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    root = tmp_path / "words"
    for word in ("no", "yes"):
        (root / word).mkdir(parents=True)
        for index in range(10):
            soundfile.write(root / word / f"{index}.wav", rng.normal(0, 0.1, 800), 8000)
    soundfile.write(root / "yes/gsm.wav", rng.normal(0, 0.1, 800), 8000, subtype="GSM610")
    found = spikescr("data", "check", f"folder:{root}")
    assert found.exit_code == 0, found.output
    content = bytearray((root / "no/3.wav").read_bytes())
    content[20:22] = b"\x61\x01"  # WMA 9
    (root / "no/3.wav").write_bytes(content)
    (root / "yes/4.wav").write_bytes(b"<html>")
    found = spikescr("data", "check", f"folder:{root}")
    assert found.exit_code == 1
    problems = sorted(line for line in found.stdout.splitlines() if line.startswith("problem: "))
    assert [line.partition(" no readable recording: ")[0] for line in problems] == [
        f"problem: {root}/no/3.wav:",
        f"problem: {root}/yes/4.wav:",
    ]
    assert "recordings" in found.stdout
    assert found.stderr == f"error: folder:{root}: 2 problem(s), each in a line on standard output\n"


def test_check_of_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    found = spikescr("data", "check", f"shd:{tmp_path / 'gone'}")
    assert (found.exit_code, found.stdout) == (1, "")
    assert "gone: no such folder; download it with: spikescr data get shd --to" in found.stderr
    assert spikescr("data", "check", "shd").exit_code == 2


@pytest.mark.parametrize("kind", ["shd", "folder"])
def test_show_draws_a_recording(tmp_path: Path, kind: str) -> None:
    if kind == "shd":
        root, name = write_heidelberg(tmp_path / "d", "shd", {"train": 12}), "train/000003"
    else:
        root, name = write_tones(tmp_path / "d", takes=1), "low/00000004_nohash_0.wav"
    out = tmp_path / "a.png"
    found = spikescr("data", "show", f"{kind}:{root}", "--recording", name, "--out", out, "--draws", "2")
    assert found.exit_code == 0, found.output
    assert out.read_bytes().startswith(b"\x89PNG")
    assert found.stdout == f"wrote {out}\n"
    first = out.read_bytes()
    spikescr("data", "show", f"{kind}:{root}", "--recording", name, "--out", out, "--draws", "2")
    assert out.read_bytes() == first
    spikescr("data", "show", f"{kind}:{root}", "--recording", name, "--out", out, "--draws", "2", "--window", "0.2")
    assert out.read_bytes() != first
    for arguments, message in (
        (["--recording", name, "--out", tmp_path / "gone" / "a.png"], "there is no folder"),
        (["--recording", name, "--out", tmp_path / "a.xyz"], "choose a suffix that tells the format"),
    ):
        found = spikescr("data", "show", f"{kind}:{root}", *arguments)
        assert found.exit_code == 2
        assert message in found.stderr


def test_show_of_too_many_steps_says_what_they_would_take(tmp_path: Path) -> None:
    root = write_heidelberg(tmp_path / "d", "shd", {"train": 12})
    show = ("data", "show", f"shd:{root}", "--recording", "train/000003", "--out", tmp_path / "a.png", "--draws", "1")
    found = spikescr(*show, "--steps", "100000000")
    assert (found.exit_code, found.stderr) == (2, "error: steps must be at most 16,777,216 per second. Got 100000000\n")
    found = spikescr(*show, "--steps", "1000000", "--max-memory", "1G")
    assert found.exit_code == 2
    assert "steps of 140 channels takes 1" in found.stderr
    assert found.stderr.endswith(
        "allowed are 1 GB; choose fewer steps per second (--steps), or allow more (--max-memory)\n"
    )


def test_show_without_matplotlib_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = spikescr("data", "show", "digits", "--recording", "x", "--out", tmp_path / "a.png")
    expected = "error: a picture needs matplotlib, which is not installed: pip install 'spikescr[plots]'\n"
    assert (found.exit_code, found.stderr) == (2, expected)


def test_get_downloads_from_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_heidelberg(tmp_path / "there", "shd", {"train": 12, "test": 4})
    files = []
    for path in sorted((tmp_path / "there").glob("*.h5")):
        with zipfile.ZipFile(f"{path}.zip", "w") as archive:
            archive.write(path, path.name)
        digest = hashlib.md5(Path(f"{path}.zip").read_bytes()).hexdigest()
        files.append(PublishedFile(f"{path.name}.zip", f"md5:{digest}"))
    known = PublishedSet("http://127.0.0.1:1", tuple(files), {}, 2, 0.0, "CC0")
    monkeypatch.setitem(KINDS, "shd", replace(KINDS["shd"], published=known))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "there"))
    monkeypatch.chdir(tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        found = spikescr("data", "get", "shd", "--mirror", f"http://127.0.0.1:{server.server_port}", "--timeout", "20")
        server.shutdown()
        thread.join()
    assert found.exit_code == 0, found.output
    assert found.stdout.splitlines()[0] == "shd is in data/shd"
    for path in (tmp_path / "there").glob("*.h5"):
        assert (tmp_path / "data/shd" / path.name).read_bytes() == path.read_bytes()
    assert not (tmp_path / "data/shd.download").exists()
    found = spikescr("data", "get", "shd", "--to", "elsewhere")
    assert found.exit_code == 1
    assert "Connection refused" in found.stderr


@pytest.mark.slow
@pytest.mark.lava
def test_spikes_go_from_hdf5_to_lava_and_cost_accumulations_alone(tmp_path: Path) -> None:
    root = write_heidelberg(tmp_path / "shd", "shd", {"train": 96, "test": 8})
    (root / "shd_test.h5").rename(tmp_path / "kept.h5")  # training must not miss it
    changes = [
        "steps=20",
        "window_s=0.7",
        "epochs=12",
        "batch_size=8",
        "lr=0.02",
        "warmup_epochs=3",
        "cosine_epochs=none",
        "threads=1",
    ]
    for arguments in (
        ["train", "shd-40", "--data", "shd:shd", "model.heads=2", "model.width=16", *changes],
        ["export"],
        ["simulate", "--steps", "20", "--backend", "both"],
        ["verify"],
    ):
        if arguments[0] == "export":
            (tmp_path / "kept.h5").rename(root / "shd_test.h5")
        run = commands.spikescr(*arguments, cwd=tmp_path)
        assert run.returncode == 0, run.stderr
    folder = tmp_path / "runs/latest"
    metadata = nir.read(folder / "model.nir").nodes["input"].metadata
    assert metadata["spikescr.signal"] == "spikes"
    summary = json.loads((folder / "simulation/summary.json").read_text())
    assert summary["totals"]["mac"] == summary["totals"]["formula_mac"] == 0
    with (folder / "simulation/counts.csv").open() as file:
        first = [row for row in csv.DictReader(file) if row["operation"].startswith("sem")]
    with h5py.File(root / "shd_test.h5") as file:
        spikes = sum(len(times) for times in file["spikes/times"])
    assert sum(int(row["spikes"] or 0) for row in first if "lif" not in row["operation"]) == spikes
    assert sum(int(row["ac"] or 0) for row in first) == spikes * 3 * 16  # taps x width
    report = json.loads((folder / "verify.json").read_text())
    assert report["differing_spikes"] == report["differing_predictions"] == 0
    assert report["recordings"] == 8
    loud = [layer for layer in report["layers"] if not layer["silent"]]
    assert len(loud) >= 10, "too many layers are silent: little was compared"
    assert summary["accuracy"] >= 0.75
