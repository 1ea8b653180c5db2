"""The cochlea, against its equations by another way, and against what the model's reference implementation gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from scipy import special

from spikescr.cli import main
from spikescr.data import open_data
from spikescr.data.audio import read_recording
from spikescr.data.cochlea import PUBLISHED, RATE, firing_probabilities, membrane_velocity, spikes_of
from spikescr.data.cochlea_kernels import binomial, bushy_cell, hankel, hear_cell, uniform
from spikescr.data.spike_file import opened

REFERENCE = Path(__file__).parents[3] / "shared/cochlea"
HALF = RATE / 2


def test_hankel_is_scipys() -> None:
    rng = np.random.default_rng(0)
    z = rng.uniform(0.001, 80, 3000) * np.exp(1j * rng.uniform(-0.1, 1.4, 3000))
    expected = special.hankel1(0, z)
    found = np.array([hankel(each) for each in z])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_membrane_moves_as_its_equations_say() -> None:
    """A tone's steady state, G by quadrature instead of the closed form, at places around its resonance."""
    m, hertz = PUBLISHED, 1000.0
    w = 2 * np.pi * hertz
    x = np.linspace(0, m.length, 700)
    fine = np.linspace(0, m.length, 699 * 200 + 1)
    xi = m.stiffness * np.exp(-m.alpha * fine) - m.tension - m.mass * w**2
    xi = xi - 1j * w * m.damping * np.sqrt(m.stiffness * m.mass) * np.exp(-m.alpha * fine / 2)
    g = w * np.sqrt(m.density / (m.height * xi))
    total = 2 * g[0] / m.alpha + np.concatenate(([0], np.cumsum((g[1:] + g[:-1]) / 2))) * (fine[1] - fine[0])
    p = np.sqrt(total / g) * special.hankel1(0, total)
    argument = 4 * np.pi * hertz / m.alpha * np.sqrt(2 / (m.height * m.stiffness))
    impedance = np.sqrt(2 * m.stiffness / m.height) * (
        (1j * special.j0(argument) + special.y0(argument)) / (special.j1(argument) - 1j * special.y1(argument))
    )
    v = (2 * w / xi * p / p[0] * impedance)[::200]
    tone = np.exp(1j * w * np.arange(RATE) / RATE)
    found = membrane_velocity(tone.real)[:, :8000]
    expected = (v[:, None] * tone[::2]).real
    places = slice(0, 480)  # behind, less than a thousandth of the largest arrives
    assert np.abs(v[480:]).max() < 1e-3 * np.abs(v).max()
    assert 0.9 < x[np.abs(v).argmax()] < 2.2
    np.testing.assert_allclose(found[places], expected[places], atol=2e-4 * np.abs(v).max())


def test_hair_cells_adapt_and_recover() -> None:
    """Equilibria in silence and in sound are those of Meddis' equations; sound begins with an onset."""
    y, g, loss, r, _, a, b, h, m = PUBLISHED.hair_cell
    probability = np.empty(16000)
    velocity = np.zeros(16000)
    velocity[4000:12000] = 50.0
    hear_cell(velocity, HALF, PUBLISHED.hair_cell, probability)

    def equilibrium(s: float) -> float:
        k = g * (s + a) / (s + a + b)
        return h / HALF * m * y * k / (loss * k + y * (loss + r))

    np.testing.assert_allclose(probability[:4000], equilibrium(0), rtol=1e-9)
    assert probability[11999] == pytest.approx(equilibrium(50), rel=0.02)
    assert probability[4000:4100].max() > 2 * probability[11999]
    assert probability[12100] < 0.5 * equilibrium(0)


def test_fibres_drawn_at_once_are_fibres_drawn_one_by_one() -> None:
    """The mean and variance of how many fire in a step, against a loop over fibres that rest for 8 steps."""
    rng, steps, fibres, rest, p = np.random.default_rng(1), 40_000, 40, 8, 0.02
    counts, until = np.zeros(steps), np.zeros(fibres)
    for t in range(steps):
        fire = (rng.random(fibres) < p) & (until <= t)
        until[fire] = t + rest
        counts[t] = fire.sum()
    state, recent, drawn = np.array([7], np.uint64), np.zeros(rest, int), np.zeros(steps)
    for t in range(steps):
        recent[t % rest] = 0
        recent[t % rest] = binomial(fibres - recent.sum(), p, state)
        drawn[t] = recent[t % rest]
    assert drawn.mean() == pytest.approx(counts.mean(), rel=0.03)
    assert drawn.var() == pytest.approx(counts.var(), rel=0.05)
    draws = np.array([binomial(40, 0.3, state) for _ in range(20_000)])
    assert draws.mean() == pytest.approx(12, abs=0.1)
    assert draws.var() == pytest.approx(8.4, rel=0.05)
    assert [binomial(40, p, state) for p in (0.0, 1.0)] == [0, 40]
    numbers = np.array([uniform(state) for _ in range(20_000)])
    assert numbers.mean() == pytest.approx(0.5, abs=0.01)
    assert 0 <= numbers.min() < numbers.max() < 1


def test_a_bushy_cell_is_a_leaky_integrator() -> None:
    """One fibre that fires at every ninth step; currents and membrane by hand."""
    certain = np.zeros(100)
    certain[::9] = 1.0
    times = np.empty(100, np.int64)
    count = bushy_cell(certain, HALF, 1, 8, 1e-3, 5e-4, 4000.0, np.zeros(1, np.uint64), times)
    v = current = 0.0
    expected, rest = [], 0
    for t in range(100):
        current = current * np.exp(-1 / HALF / 5e-4) + (t % 9 == 0)
        if rest:
            rest -= 1
            continue
        v = v * np.exp(-1 / HALF / 1e-3) + current * 4000 / HALF
        if v >= 1:
            expected.append(t)
            v, rest = 0.0, 8
    assert 3 <= len(expected) < 50
    assert times[:count].tolist() == expected


def test_level_and_rate_do_not_matter_and_seeds_do() -> None:
    time = np.arange(RATE // 2) / RATE
    tone = np.sin(2 * np.pi * 700 * time) * np.hanning(len(time))
    times, units = spikes_of(tone, RATE, seed=3)
    for same in (spikes_of(tone, RATE, seed=3), spikes_of(0.001 * tone, RATE, seed=3)):
        np.testing.assert_array_equal(same[0], times)
        np.testing.assert_array_equal(same[1], units)
    assert not np.array_equal(spikes_of(tone, RATE, seed=4)[1], units)
    assert (np.diff(times) >= 0).all()
    assert (times[-1] < 0.5, units.max() < 700, times.dtype, units.dtype) == (True, True, np.float32, np.uint16)
    slow = firing_probabilities(tone[::2], RATE // 2)
    fast = firing_probabilities(tone, RATE)
    assert slow.shape == fast.shape
    np.testing.assert_allclose(slow.mean(axis=1), fast.mean(axis=1), rtol=0.05)
    assert [len(part) for part in spikes_of(np.zeros(800), RATE)] == [0, 0]


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="no shared/cochlea with spikes of the reference implementation")
@pytest.mark.parametrize("path", sorted(REFERENCE.glob("*.flac")), ids=lambda path: path.stem)
def test_spikes_are_those_of_the_reference_implementation(path: Path, record_property: pytest.RecordProperty) -> None:
    """Rates of groups of 20 units and of 20 ms each, within what draws at random leave between two runs."""
    waveform, rate = read_recording(path)
    reference = np.load(path.with_suffix(".npz"))
    runs = [spikes_of(waveform, rate, seed=seed) for seed in range(2)]
    told = []
    for which, edges in ((1, np.arange(0, 701, 20)), (0, np.linspace(0, 1, 51))):
        ours, again = (np.histogram(run[which], edges)[0] for run in runs)
        theirs = np.histogram(reference["units" if which else "times"], edges)[0]
        chance, found = np.sqrt(np.mean((ours - again) ** 2)), np.sqrt(np.mean((ours - theirs) ** 2))
        told.append(f"{found / theirs.mean():.3f} (two seeds {chance / theirs.mean():.3f})")
        assert found <= max(1.8 * chance, 0.12 * theirs.mean())
    assert len(runs[0][0]) == pytest.approx(len(reference["times"]), rel=0.02)
    record_property("note", f"{path.stem}: relative deviation by unit {told[0]}, by time {told[1]}")


def test_a_folder_becomes_a_file_of_the_heidelberg_format(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for word, hertz in (("high", 3000), ("low", 300)):
        (tmp_path / "words" / word).mkdir(parents=True)
        for speaker in ("bob", "ann"):
            tone = np.sin(2 * np.pi * hertz * np.arange(3200) / 8000) + 0.01 * rng.normal(size=3200)
            soundfile.write(tmp_path / "words" / word / f"{speaker}_nohash_0.wav", 0.3 * tone, 8000)
    out = tmp_path / "ssc_train.h5"
    (tmp_path / "words/validation_list.txt").write_text("high/bob_nohash_0.wav\n")
    (tmp_path / "words/testing_list.txt").write_text("low/bob_nohash_0.wav\n")
    found = CliRunner().invoke(main, ["data", "spikes", str(tmp_path / "words"), "--out", str(out)])
    assert found.exit_code == 0, found.stderr
    assert "4 recordings of 2 words, 2 s: " in found.stdout
    names = [item.name for item in open_data(f"folder:{tmp_path / 'words'}").split("all")]
    with opened(out) as file:
        assert file.classes() == ("high", "low")
        assert [("high", "low")[label] for label in file.labels()] == [name.split("/")[0] for name in names]
        assert [("ann", "bob")[number] for number in file.speakers()] == [
            name[name.index("/") + 1 :][:3] for name in names
        ]
        recordings = list(file.recordings())
    centres = [np.median(units[(times > 0.1) & (times < 0.3)]) for times, units in recordings]
    assert [centre > 300 for centre in centres] == [name.startswith("low") for name in names]
    again = CliRunner().invoke(main, ["data", "spikes", str(tmp_path / "words"), "--out", str(out), "--split", "test"])
    assert again.exit_code == 0, again.stderr
    with opened(out) as file:
        (times, units), place = file.spikes(0), names.index("low/bob_nohash_0.wav")
    np.testing.assert_array_equal(times, recordings[place][0])
    np.testing.assert_array_equal(units, recordings[place][1])
    nowhere = CliRunner().invoke(main, ["data", "spikes", str(tmp_path / "words"), "--out", str(tmp_path / "no/a.h5")])
    assert (nowhere.exit_code, nowhere.stderr) == (
        2,
        f"error: {tmp_path / 'no/a.h5'}: there is no folder {tmp_path / 'no'}\n",
    )
