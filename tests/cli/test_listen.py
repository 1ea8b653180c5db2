"""Listening as a user does, on words of our generator, with a small network that knows the voices, not the takes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from click.testing import CliRunner, Result
from commands import may_write

import spikescr
from spikescr.cli import main
from spikescr.data import load, open_data
from spikescr.data.audio import read_recording
from spikescr.data.dataset import Item
from spikescr.data.folder import LISTS
from spikescr.errors import ExportError, UsageError
from spikescr.runs import RunFolder
from spikescr.sim.counting.before import figures
from spikescr.sim.counting.energy import HOROWITZ_45NM
from spikescr.workflows import listen, listen_fit
from spikescr.workflows.deployed import open_deployed
from spikescr.workflows.listen import rules_of
from spikescr.workflows.listener import Listener
from spikescr.workflows.spotting import Rules
from spikescr.workflows.windows import Windows

RATE = 16_000
WORDS = ("en_four", "en_one", "en_six")
TRAIN = [
    *("steps=20", "frames_per_step=2", "normalise=recording", "model.heads=2", "model.width=32", "model.inputs=80"),
    *("batch_size=16", "threads=1", "epochs=10", "surrogate_alpha=1", "lr=0.01"),
]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three words of the embedded data set; what each voice says last is for validation and test.

    As in Speech Commands, each recording is as long as the window, the word somewhere in it, in slight noise.
    """
    root, digits, rng = tmp_path_factory.mktemp("words"), open_data("digits"), np.random.default_rng(3)
    lists: dict[str, list[str]] = {name: [] for name in LISTS.values()}
    for item in digits.split("train"):
        if digits.classes[item.label] in WORDS:
            (root / item.name).parent.mkdir(exist_ok=True)
            wave, rate = read_recording(item.path)
            assert rate == RATE
            begin = int(rng.integers(0, RATE - len(wave) + 1))
            whole = np.concatenate((np.zeros(begin), wave, np.zeros(RATE - len(wave) - begin)))
            soundfile.write(root / item.name, in_noise(rng, whole), RATE)
            if item.name.endswith("_2.wav"):
                min(lists.values(), key=len).append(item.name)
    for name, listed in lists.items():
        (root / name).write_text("".join(f"{each}\n" for each in listed))
    return root


@pytest.fixture(scope="module")
def run(words: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run folder with a graph and a threshold."""
    folder = tmp_path_factory.mktemp("listen") / "run"
    for command in (
        ["train", "--data", f"folder:{words}", "--run", str(folder), *TRAIN],
        ["export", "--to", "nir", "--run", str(folder)],
        ["listen", str(folder), "--fit"],
    ):
        found = CliRunner().invoke(main, command)
        assert found.exit_code == 0, found.stderr
    return RunFolder(folder)


@pytest.fixture(scope="module")
def strung(words: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, float]]]:
    """A recording of 16 words that training did not hear, in slight noise; what begins when."""
    rng, digits = np.random.default_rng(5), open_data("digits")
    unheard = set((words / "testing_list.txt").read_text().split())
    items = [item for item in digits.split("train") if item.name in unheard]
    parts, said, now = [], [], 0
    for index in rng.permutation(len(items))[:16]:
        wave, _ = read_recording(items[index].path)
        gap = int(rng.uniform(0.6, 1.0) * RATE)
        said.append((digits.classes[items[index].label], (now + gap + onset_of(wave)) / RATE))
        parts += [np.zeros(gap), wave]
        now += gap + len(wave)
    path = tmp_path_factory.mktemp("strung") / "strung.flac"
    soundfile.write(path, in_noise(rng, np.concatenate([*parts, np.zeros(RATE // 2)])), RATE)
    return path, said


def in_noise(rng: np.random.Generator, wave: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """The same with white noise 30 dB below."""
    return wave + rng.normal(size=len(wave)) * np.sqrt(np.mean(wave**2)) * 10 ** (-30 / 20)


def onset_of(wave: npt.NDArray[np.floating]) -> int:
    """The first sample that is louder than 3 % of the loudest."""
    return int(np.argmax(np.abs(wave) > 0.03 * np.abs(wave).max()))


def listened(*arguments: str | Path, sound: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["listen", *map(str, arguments)], input=sound)


def lines(found: Result) -> tuple[list[dict[str, object]], dict[str, object]]:
    """The words, and the summary."""
    assert found.exit_code == 0, found.stderr
    *told, last = map(json.loads, found.stdout.splitlines())
    return told, last["summary"]


def test_words_are_found_within_100_ms(
    run: RunFolder, strung: tuple[Path, list[tuple[str, float]]], record_property: pytest.RecordProperty
) -> None:
    """Most of them: a network that learnt for seconds has not heard two words in a window, nor none."""
    path, said = strung
    told, summary = lines(listened(run.path, path, "--json"))
    left, found = [(word["word"], word["onset"]) for word in told], 0
    for name, begin in said:
        near = [each for each in left if each[0] == name and abs(each[1] - begin) <= 0.1]
        if near:
            left.remove(near[0])
            found += 1
    assert found >= 9, (said, left)
    assert len(left) <= 6, (said, left)
    minutes = summary["seconds"] / 60
    record_property("note", f"{found} of {len(said)} words found, {len(left) / minutes:.1f} false alarms per minute")
    assert summary["windows"] == pytest.approx(10 * summary["seconds"], abs=1)
    assert summary["cpu_share"] > 0
    assert 0 < summary["told_after_s"][0] < 2.5
    energies = [word["energy_j"] for word in told]
    assert energies == sorted(energies)
    assert energies[-1] <= summary["energy_j"]


def test_fit_says_what_it_found_and_how_it_does(run: RunFolder) -> None:
    content = json.loads(run.listening.read_text())
    assert content["found"] + content["missed"] == content["recordings"] == 54
    assert content["found"] >= 27
    assert content["missed"] + content["false"] < content["recordings"]
    assert 0.25 < content["threshold"] < 1
    assert content["split"] == "valid"
    before = run.listening.read_bytes()
    assert listened(run.path, "--fit").exit_code == 0
    assert run.listening.read_bytes() == before


def test_a_pipe_says_what_the_file_says(run: RunFolder, strung: tuple[Path, list[tuple[str, float]]]) -> None:
    wave, _ = soundfile.read(strung[0], dtype="int16", stop=8 * RATE)
    short = strung[0].with_name("short.wav")
    soundfile.write(short, wave, RATE)
    expected, _ = lines(listened(run.path, short, "--json"))
    assert len(expected) >= 3
    for arguments, sound in (
        (["--rate", str(RATE)], wave.astype("<i2").tobytes()),
        (["--format", "s16be", "--channels", "2"], np.repeat(wave, 2).astype(">i2").tobytes()),
        ([], short.read_bytes()),
    ):
        assert lines(listened(run.path, "-", "--json", *arguments, sound=sound))[0] == expected
    assert [word.as_json() for word in spikescr.listen(run.path, short)] == expected
    plain = listened(run.path, short)
    assert [line.split()[2] for line in plain.stdout.splitlines()[:-1]] == [word["word"] for word in expected]
    assert "% of a core" in plain.stdout.splitlines()[-1]


def test_a_window_is_prepared_as_a_recording_cut_out_there(
    run: RunFolder, strung: tuple[Path, list[tuple[str, float]]], tmp_path: Path
) -> None:
    prepare = open_deployed(run.graph).preprocessing
    wave, _ = read_recording(strung[0])
    windows = Windows(RATE, length=RATE, hop_s=0.13)
    cut = {
        number: samples.copy()
        for begin in range(0, 80_000, 777)
        for number, samples in windows.push(wave[begin : begin + 777])
    }
    for number in (4, 7, 21, 30):
        begin = round(0.13 * number * RATE) - RATE // 2
        soundfile.write(tmp_path / f"{number}.wav", wave[begin : begin + RATE], RATE, subtype="DOUBLE")
        features = load([Item(tmp_path / f"{number}.wav", str(number), 0)], prepare)
        values, steps = prepare(cut[number], RATE)
        assert steps == features.steps[0] == 20
        np.testing.assert_array_equal(values, features.values[0])


def test_energy_is_that_of_the_windows(run: RunFolder, strung: tuple[Path, list[tuple[str, float]]]) -> None:
    deployed = open_deployed(run.graph)
    wave, _ = read_recording(strung[0])
    with Listener(deployed, Rules(0.9, 0.8, 0.2), RATE, hop_s=0.25) as listener:
        list(listener.push(wave[: 3 * RATE]))
        list(listener.finish())
        summary = listener.summary()
    padded = np.concatenate((np.zeros(RATE // 2), wave[: 3 * RATE], np.zeros(RATE // 2)))
    begins = range(0, 3 * RATE, RATE // 4)
    x = np.stack([deployed.preprocessing(padded[begin : begin + RATE], RATE)[0] for begin in begins], axis=1)
    assert summary.windows == len(begins) == 12
    simulated = spikescr.simulate(run.graph, x)
    assert summary.energy_j == pytest.approx(simulated.energy("executed").sum(), rel=1e-12)
    before = figures(simulated.audit, HOROWITZ_45NM)
    assert before is not None
    assert summary.front_end_j == pytest.approx(12 * before["joules"], rel=1e-12)


@pytest.mark.lava
def test_lava_says_what_the_fast_backend_says(run: RunFolder, strung: tuple[Path, list[tuple[str, float]]]) -> None:
    wave, _ = soundfile.read(strung[0], dtype="int16", stop=2 * RATE)
    found = [
        lines(listened(run.path, "-", "--json", "--backend", name, sound=wave.tobytes())) for name in ("fast", "lava")
    ]
    assert found[0][0] == found[1][0]
    assert found[0][1]["energy_j"] == found[1][1]["energy_j"] > 0


def test_silence_and_nothing_are_no_words(run: RunFolder) -> None:
    told, summary = lines(listened(run.path, "-", "--json", sound=bytes(2 * RATE)))
    assert (told, summary["seconds"], summary["windows"], summary["energy_j"]) == ([], 1.0, 0, 0)
    told, summary = lines(listened(run.path, "-", "--json", sound=b""))
    assert (told, summary["windows"], summary["cpu_share"]) == ([], 0, 0)


def test_ctrl_c_ends_in_good_order(run: RunFolder, strung: tuple[Path, list[tuple[str, float]]]) -> None:
    wave, _ = soundfile.read(strung[0], dtype="int16", stop=8 * RATE)
    script = Path(sys.executable).with_name("spikescr")
    with subprocess.Popen(
        [script, "listen", run.path, "-", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(wave.tobytes())
        process.stdin.flush()
        first = json.loads(process.stdout.readline())  # while more may come
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        rest, errors = process.stdout.read(), process.stderr.read() if process.stderr else b""
        assert process.wait(60) == 0, errors
    assert first["word"] in WORDS
    assert 0 < json.loads(rest.splitlines()[-1])["summary"]["seconds"] <= 8.0
    assert b"Traceback" not in errors


def test_a_threshold_is_for_the_graph_that_it_was_fitted_for(run: RunFolder, tmp_path: Path) -> None:
    copy = RunFolder(Path(shutil.copytree(run.path, tmp_path / "copy")))
    assert rules_of(run, run.graph, 0.5) == Rules(0.5, 0.45, 0.2)
    with copy.graph.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ExportError, match=r"listening.json was fitted for another graph than .*listen .*copy --fit"):
        rules_of(copy, copy.graph, None)
    copy.listening.unlink()
    with pytest.raises(UsageError, match=r"listening.json does not exist.*--fit; or give a threshold"):
        rules_of(copy, copy.graph, None)


def test_a_rate_that_no_memory_holds_is_refused(run: RunFolder) -> None:
    """A header may promise 4 GHz: windows of 32 GB each."""
    with pytest.raises(UsageError, match=r"^sound of 4,000,000,000 Hz takes .* TB of memory, .* is that its rate"):
        Listener(open_deployed(run.graph), Rules(0.5, 0.45, 0.2), 4 * 10**9)


def test_the_network_stays_as_it_is_while_its_threshold_is_found_or_read(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export in between left the threshold of one graph under the hash of another."""
    found = list[bool]()

    class HeardEnoughError(Exception):
        pass

    def look(*_: object, **__: object) -> None:
        found.append(may_write(run.path))
        raise HeardEnoughError

    monkeypatch.setattr(listen_fit, "strung", look)
    with pytest.raises(HeardEnoughError):
        listen_fit.fit_threshold(run.path)
    monkeypatch.setattr(listen, "rules_of", look)
    with pytest.raises(HeardEnoughError):
        next(spikescr.listen(run.path, run.path / "absent.wav"))
    assert found == [False, False]
    assert may_write(run.path)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give a SOURCE"),
        (["x.wav", "--fit"], "give a SOURCE"),
        (["x.wav", "--threshold", "1.5"], "threshold (--threshold) must be above 0 and at most 1. Got 1.5"),
        (["-", "--hop", "0.7"], "hop (--hop) must be from 1 sample to half a window, 0.5 s. Got 0.7"),
        (["-", "--format", "s16"], "format 's16' (--format): choose one of u8, s16le"),
        (["x.wav", "--rate", "8000"], "x.wav: a recording tells its rate itself"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_refused(run: RunFolder, arguments: list[str], told: str) -> None:
    found = listened(run.path, *arguments, sound=b"")
    assert found.exit_code == 2
    assert found.stderr.startswith(f"error: {told}")


def test_a_missing_file_is_one_line(run: RunFolder) -> None:
    found = listened(run.path, "no.wav")
    assert (found.exit_code, found.stderr) == (1, "error: no.wav: cannot be read: No such file or directory\n")
