"""From probabilities of windows to words at times, on streams written by hand."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from spikescr.workflows.spotting import Decision, Levels, Rules, Spotter
from spikescr.workflows.windows import Windows

RATE, HOP = 1000, 0.1
RULES = Rules(threshold=0.6, keep=0.5, reach_s=0.0)


def decide(
    rows: dict[float, tuple[float, float]], sound: dict[tuple[float, float], float], rules: Rules = RULES
) -> list[Decision]:
    """What is told of 10 s: probabilities of two words in windows of 1 s by their centre; loudness of stretches."""
    wave = np.zeros(10 * RATE)
    for (begin, end), amplitude in sound.items():
        wave[round(begin * RATE) : round(end * RATE)] = amplitude
    levels = Levels(RATE, 20)
    levels.push(wave)
    spotter = Spotter(rules, hop_s=HOP, window_s=1.0, levels=levels)
    told = []
    for number in range(100):
        centre = round(number * HOP, 3)
        told += spotter.push(centre, np.array(rows.get(centre, (0.0, 0.0))))
    return told + spotter.finish()


def test_windows_that_agree_are_one_word_at_its_sound() -> None:
    rows = {3.0: (0.55, 0), 3.1: (0.7, 0), 3.2: (0.7, 0), 3.3: (0.52, 0), 6.0: (0.1, 0.9)}
    told = decide(rows, {(2.9, 3.4): 0.5, (5.8, 6.1): 0.1})
    assert [(d.word, d.windows, d.confidence) for d in told] == [(0, 4, 0.7), (1, 1, 0.9)]
    assert [(d.onset, d.end, d.peak) for d in told] == [
        (pytest.approx(2.9), pytest.approx(3.4), pytest.approx(3.15)),
        (pytest.approx(5.8), pytest.approx(6.1), pytest.approx(6.0)),
    ]


@pytest.mark.parametrize("rows", [{3.0: (0.59, 0), 3.1: (0.59, 0)}, {3.0: (0.4, 0.4)}, {}])
def test_what_does_not_reach_the_threshold_is_no_word(rows: dict[float, tuple[float, float]]) -> None:
    assert decide(rows, {(2.9, 3.4): 0.5}) == []


def test_of_two_decisions_about_one_sound_the_more_confident_stands() -> None:
    sound = {(2.9, 3.4): 0.5}
    told = decide({2.8: (0.65, 0), 2.9: (0.65, 0), 3.1: (0, 0.8)}, sound)
    assert [(d.word, d.confidence) for d in told] == [(1, 0.8)]
    told = decide({2.8: (0.85, 0), 2.9: (0.65, 0), 3.1: (0, 0.8)}, sound)
    assert [(d.word, d.confidence) for d in told] == [(0, 0.85)]
    told = decide({2.8: (0.85, 0), 3.4: (0, 0.8)}, {(2.5, 2.7): 0.5, (3.4, 3.6): 0.5})
    assert [d.word for d in told] == [0, 1]


def test_a_word_that_is_said_again_and_again_is_told_each_time() -> None:
    rows = {round(2 + 0.1 * k, 3): (0.9, 0.0) for k in range(40)}
    told = decide(rows, {(2.2 + 1.2 * k, 2.6 + 1.2 * k): 0.5 for k in range(4)})
    assert [d.word for d in told] == [0] * len(told)
    assert len({d.onset for d in told}) == len(told) >= 3


def test_probabilities_are_averaged_over_neighbours() -> None:
    rows = {3.0: (0.9, 0), 3.1: (0.9, 0), 3.2: (0.9, 0), 5.0: (0.9, 0)}
    told = decide(rows, {(2.9, 3.4): 0.5, (4.9, 5.2): 0.5}, Rules(0.5, 0.4, 0.1))
    assert [(d.word, d.confidence, d.peak) for d in told] == [(0, pytest.approx(0.9), pytest.approx(3.1))]


def test_a_plosive_does_not_divide_a_word_but_noise_does_not_belong_to_it() -> None:
    levels = Levels(RATE, 5)
    rng = np.random.default_rng(0)
    wave = 0.01 * rng.choice([-1, 1], 4 * RATE)
    wave[1000:1200] = wave[1300:1500] = 0.5
    wave[2500:2600] = 0.5
    levels.push(wave[:1111])
    levels.push(wave[1111:])
    assert levels.locate((1.0, 1.5), (0.2, 2.4)) == (pytest.approx(1.0), pytest.approx(1.5))
    assert levels.locate((2.4, 2.7), (2.0, 3.0)) == (pytest.approx(2.5), pytest.approx(2.6))
    assert levels.locate((2.4, 2.7), (2.0, 2.55)) == (pytest.approx(2.5), pytest.approx(2.55, abs=0.011))
    silent = Levels(RATE, 5)
    silent.push(np.zeros(RATE))
    assert silent.locate((0.2, 0.4), (0.0, 0.9)) is None
    assert levels.locate((3.2, 3.6), (3.0, 3.9)) is None


@pytest.mark.parametrize("turned", [False, True])
def test_noise_on_one_side_does_not_join_a_word_to_its_neighbour(turned: bool) -> None:
    """A word of 1, noise 19 dB below on one side as far as another word, and nearly silence on the other."""
    wave = np.full(2 * RATE, 0.003)
    for begin, end, level_db in ((0.3, 0.5, -5), (0.5, 0.8, -19), (0.8, 1.2, 0)):
        wave[round(begin * RATE) : round(end * RATE)] = 10 ** (level_db / 20)
    levels = Levels(RATE, 5)
    levels.push(wave[::-1] if turned else wave)
    own = (0.8, 1.2)
    assert levels.locate((0.9, 1.1), (0.5, 1.5)) == (pytest.approx(own[0]), pytest.approx(own[1]))


@pytest.mark.parametrize("hop", [0.1, 0.13, 0.5])
@pytest.mark.parametrize("length", [1000, 977])
def test_windows_are_those_of_the_whole_stream_however_it_comes(hop: float, length: int) -> None:
    wave = np.random.default_rng(1).normal(size=4321)
    padded = np.concatenate((np.zeros(length // 2), wave, np.zeros(length)))
    expected = []
    while (centre := round(len(expected) * hop * RATE)) < len(wave):
        expected.append(padded[centre : centre + length])
    for size in (1, 700, 10_000):
        windows = Windows(RATE, length=length, hop_s=hop)
        found = [w.copy() for b in range(0, len(wave), size) for _, w in windows.push(wave[b : b + size])]
        found += [w.copy() for _, w in windows.finish()]
        np.testing.assert_array_equal(found, expected)


def test_five_minutes_take_no_more_memory_than_one() -> None:
    levels, windows = Levels(RATE, 4.0), Windows(RATE, length=RATE, hop_s=HOP)
    spotter = Spotter(RULES, hop_s=HOP, window_s=1.0, levels=levels)
    rng = np.random.default_rng(2)
    block, told, held = rng.normal(size=RATE // 2) * np.repeat([0.1, 3.0], RATE // 4), 0, []
    tracemalloc.start()
    try:
        for second in range(300):
            for _ in range(2):
                levels.push(block)
                for number, _ in windows.push(block):
                    told += len(spotter.push(number * HOP, rng.dirichlet((0.3, 0.3))))
            if second in (10, 300 - 1):
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert told > 100
    assert held[1] < held[0] + 10_000
