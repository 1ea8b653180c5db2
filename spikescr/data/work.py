"""Operations of the log-mel front end, stage by stage: by rule, whatever is heard (docs/energy.md).

Counted is the arithmetic that the result needs, not what the library that computes it here happens to do. Framing moves
samples and computes nothing. Recordings at another rate than the front end's, and longer ones than its window, are
brought to it first; a microphone would record them as they are needed, so this is not counted.
"""

from __future__ import annotations

from spikescr.data.frontend import FrontEnd, filter_taps
from spikescr.stages import Stage

DEGREE = 5
"""Of the polynomial that gives the logarithm of a mantissa: within 0.0001 dB."""
NEWTON = 4
"""Iterations that give a reciprocal square root in 32 bits, from a first guess that is no more than a fifth off."""


def real_fft(n: int) -> tuple[int, int]:
    """Return additions and multiplications of a Fourier transform of n real values by split radix.

    H. Sorensen, D. Jones, M. Heideman, C. Burrus, Real-valued fast Fourier transform algorithms, IEEE Trans. ASSP
    35(6), 1987: 2 n log2 n - 4 n + 6 in all, for n a power of two from 2.
    """
    m = n.bit_length() - 1
    multiplications = (6 * n * m - 19 * n + 27 + (-1) ** m) // 9
    return 2 * n * m - 4 * n + 6 - multiplications, multiplications


def log_mel(front_end: FrontEnd) -> tuple[Stage, ...]:
    """Return what is done for every frame, up to the logarithm."""
    n, bands, window = front_end.n_fft, front_end.bands, front_end.win_length
    taps = sum(filter_taps(front_end))
    additions, multiplications = real_fft(n)
    return (
        Stage(
            name="window",
            rule=f"a multiplication for each of {window} samples",
            additions=0,
            multiplications=window,
        ),
        Stage(
            name="Fourier transform",
            rule=f"{n} real values by split radix",
            additions=additions,
            multiplications=multiplications,
        ),
        Stage(
            name="power",
            rule=f"re^2 + im^2 of {n // 2 - 1} frequencies, re^2 of 2",
            additions=n // 2 - 1,
            multiplications=n,
        ),
        Stage(
            name="mel filters",
            rule=f"a MAC for each of {taps} weights that are not 0, of {bands} bands; the weights hold all scales",
            additions=taps,
            multiplications=taps,
        ),
        Stage(
            name="logarithm",
            rule=f"of {bands} bands: a comparison with the floor, a polynomial of degree {DEGREE} in the mantissa "
            "(a MAC each), a MAC with the exponent",
            additions=(DEGREE + 2) * bands,
            multiplications=(DEGREE + 1) * bands,
        ),
    )


def normalisation(values: int) -> tuple[Stage, ...]:
    """Return what it takes to shift and scale the values of a frame by constants."""
    rule = f"a subtraction and a multiplication for each of {values} values"
    return (Stage(name="normalisation", rule=rule, additions=values, multiplications=values),)


def normalisation_by_recording(values: int) -> tuple[Stage, ...]:
    """Return what it takes to shift and scale the values of a frame by what the recording's mean and deviation are."""
    return (
        Stage(
            name="normalisation",
            rule=f"of {values} values: two comparisons (the loudest; what is too far below), sum and sum of squares, a "
            "subtraction and a multiplication",
            additions=5 * values,
            multiplications=2 * values,
        ),
        Stage(
            name="levels of the recording",
            rule="lowest level, mean, variance, and the reciprocal root of it by "
            f"{NEWTON} iterations of Newton's (3 multiplications, an addition)",
            additions=2 + NEWTON,
            multiplications=3 + 3 * NEWTON,
            each="recording",
        ),
    )
