"""The front end's operations: each rule against the arithmetic itself, counted while it runs."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest

from spikescr.data.frontend import FrontEnd, filter_taps, mel_filters
from spikescr.data.preprocessing import Normaliser, Preprocessing, RecordingNormaliser
from spikescr.data.spikes import SpikeBins
from spikescr.data.work import DEGREE, NEWTON, real_fft


class Counter:
    """Arithmetic that is counted."""

    def __init__(self) -> None:
        self.additions = self.multiplications = 0

    def add(self, a: float, b: float) -> float:
        self.additions += 1
        return a + b

    def multiply(self, a: float, b: float) -> float:
        self.multiplications += 1
        return a * b

    def times(self, a: complex, b: complex) -> complex:
        re = self.add(self.multiply(a.real, b.real), -self.multiply(a.imag, b.imag))
        return complex(re, self.add(self.multiply(a.real, b.imag), self.multiply(a.imag, b.real)))

    def plus(self, a: complex, b: complex) -> complex:
        return complex(self.add(a.real, b.real), self.add(a.imag, b.imag))


def split_radix(x: list[float], count: Counter) -> list[complex]:
    """Frequencies 0 to n/2 of real values: even samples, and those at 4k + 1 and 4k + 3; -x is no operation."""
    n = len(x)
    if n == 1:
        return [complex(x[0])]
    if n == 2:
        return [complex(count.add(x[0], x[1])), complex(count.add(x[0], -x[1]))]
    even, first, third = (split_radix(part, count) for part in (x[::2], x[1::4], x[3::4]))
    out = [0j] * (n // 2 + 1)
    for k in range(n // 8 + 1):
        a, b = first[k], third[k]
        if k == 0:  # all real
            s, d = complex(count.add(a.real, b.real)), complex(count.add(a.real, -b.real))
            out[0], out[n // 2] = (complex(count.add(even[0].real, sign * s.real)) for sign in (1, -1))
            out[n // 4] = complex(even[n // 4].real, -d.real)
        elif 8 * k == n:  # both real, turned by an eighth
            half = math.sqrt(0.5)
            re, im = (count.multiply(half, count.add(a.real, sign * b.real)) for sign in (-1, 1))
            out[k] = complex(count.add(even[k].real, re), count.add(even[k].imag, -im))
            out[n // 2 - k] = complex(count.add(even[k].real, -re), -count.add(even[k].imag, im))
        else:
            a, b = (count.times(v, cmath.exp(-2j * math.pi * m * k / n)) for v, m in ((a, 1), (b, 3)))
            s, d = count.plus(a, b), count.plus(a, -b)
            out[k] = count.plus(even[k], s)
            out[n // 2 - k] = count.plus(even[k], -s).conjugate()
            mirrored = even[n // 4 - k].conjugate()
            out[n // 4 + k] = count.plus(mirrored, complex(d.imag, -d.real))
            out[n // 4 - k] = count.plus(mirrored, complex(-d.imag, d.real)).conjugate()
    return out


@pytest.mark.parametrize("n", [2, 4, 8, 16, 32, 256, 512])
def test_a_split_radix_transform_takes_what_the_rule_says(n: int) -> None:
    x, count = np.random.default_rng(0).standard_normal(n), Counter()
    np.testing.assert_allclose(split_radix(x.tolist(), count), np.fft.rfft(x), atol=1e-9)
    assert (count.additions, count.multiplications) == real_fft(n)


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
@pytest.mark.parametrize(("steps", "bands", "frames"), [(40, 40, 2), (100, 140, 1), (37, 20, 3)])
def test_taps_are_those_of_the_filters(rate: int, steps: int, bands: int, frames: int) -> None:
    front_end = FrontEnd.design(rate, steps=steps, bands=bands, frames_per_step=frames)
    taps = (mel_filters(front_end) > 1e-9).sum(axis=1)  # librosa's last corner is rounded
    assert filter_taps(front_end) == tuple(taps.tolist())


def test_a_polynomial_of_this_degree_gives_the_logarithm() -> None:
    mantissa = np.linspace(1, 2, 10_000)
    fitted = np.polynomial.Chebyshev.interpolate(np.log2, DEGREE, domain=(1, 2))(mantissa)
    assert np.abs(10 * math.log10(2) * (fitted - np.log2(mantissa))).max() < 1e-4


def test_so_many_iterations_give_a_reciprocal_root() -> None:
    values = np.linspace(1, 4, 1000)
    root = 0.8 / np.sqrt(values)  # a guess that is a fifth off
    for _ in range(NEWTON):
        root = root * (1.5 - 0.5 * values * root * root)
    assert np.abs(root * np.sqrt(values) - 1).max() < 2**-20


def test_one_frame_counted_by_hand() -> None:
    """The example of docs/energy.md: 8 samples, one band."""
    front_end = FrontEnd(sample_rate=80, steps=10, bands=1, win_length=8, n_fft=8, fmax=40.0, floor_db=-200.0)
    assert filter_taps(front_end) == (3,)
    recording = Preprocessing(front_end=front_end, normaliser=RecordingNormaliser()).work
    assert [(s.name, s.additions, s.multiplications, s.each) for s in recording.stages] == [
        ("window", 0, 8, "frame"),
        ("Fourier transform", 20, 2, "frame"),
        ("power", 3, 8, "frame"),
        ("mel filters", 3, 3, "frame"),
        ("logarithm", 7, 6, "frame"),
        ("normalisation", 5, 2, "frame"),
        ("levels of the recording", 6, 15, "recording"),
    ]
    assert [recording.times(stage, 10) for stage in recording.stages] == [10] * 6 + [1]
    training = Preprocessing(front_end=front_end, normaliser=Normaliser(mean=(0.0,), std=(1.0,))).work
    assert training.stages[:-1] == recording.stages[:5]
    assert (training.stages[-1].additions, training.stages[-1].multiplications) == (1, 1)


def test_a_cochlea_is_told_and_not_counted() -> None:
    work = Preprocessing(front_end=SpikeBins(steps=40)).work
    assert work.stages == ()
    assert "cochlea" in work.not_counted
