"""One recording as a drawing: what went into the network, and the spikes of every layer on the same time axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikescr.sim.program import FloatArray
from spikescr.sim.report.charts import bitmap, legend
from spikescr.sim.report.image import LEVELS, Colour, ink, png, viridis
from spikescr.sim.report.svg import Axis, across, at, gutter, linear, plot, tag, text


@dataclass(frozen=True)
class Picture:
    """What went into a network: levels (steps, channels), what they are, and channels that get a tick, with names."""

    title: str
    unit: str
    levels: FloatArray
    marks: Sequence[tuple[float, str]]


def raster(
    picture: Picture, layers: Sequence[str], spikes: Sequence[NDArray[np.bool_]], dt: float, final: int | None
) -> str:
    """What went into a network and, below it on the same time axis, the spikes of every layer.

    Args:
        picture: the input.
        layers: names.
        spikes: of each layer, (steps, neurons).
        dt: of a step, s.
        final: the step from which the answer stayed, None where there is none.
    """
    names, left = gutter(layers)
    left = max(left, gutter([name for _, name in picture.marks])[1])
    steps, channels = picture.levels.shape
    tall, each = 150, _panel(len(layers))
    height = tall + 14 + (each + 4) * len(layers)
    low, high = float(picture.levels.min()), float(picture.levels.max())
    levels = 1 + np.round((LEVELS - 1) * (picture.levels - low) / ((high - low) or 1.0)).astype(np.int64)
    marks = [bitmap(png(levels.T[::-1], viridis()), 0, tall)]
    for channel, name in picture.marks:
        marks.append(text(name, "0%", tall * (1 - (channel + 0.5) / channels) + 4, dx="-7", text_anchor="end"))
    for k, (name, fired) in enumerate(zip(names, spikes, strict=True)):
        top = tall + 14 + (each + 4) * k
        together, palette = _grouped(fired, group_size(fired.shape[1], len(layers)))
        marks.append(tag("rect", x="0%", y=top, width="100%", height=each, class_="ground"))
        marks.append(bitmap(png(together.T, palette), top, each, "ink"))
        marks.append(text(name, "0%", top + each / 2 + 4, dx="-7", text_anchor="end"))
    duration = 1000 * steps * dt
    time = linear(0, duration, about=5)
    time = Axis(0, duration, tuple(mark for mark in time.marks if mark <= duration * (1 + 1e-9)))
    if final is not None:
        line = at((final + 1) / steps)
        marks.append(tag("line", x1=line, x2=line, y1="0", y2=f"{height:g}", class_="final"))
    drawing = plot(
        f"{picture.title} and spikes of {len(layers)} layers over {duration:.0f} ms",
        height,
        across(time, height, "time, ms", ""),
        *marks,
        top=12,
        left=left,
    )
    scale = plot(
        f"Colours: {picture.title}",
        12,
        bitmap(png(np.arange(1, LEVELS + 1)[None], viridis(), 1), 0, 12),
        across(_inside(low, high), 12, f"{picture.title}, {picture.unit}", ""),
        left=24,
        right=24,
    )
    return drawing + scale + (legend(("final", "the answer is final from here on")) if final is not None else "")


def _inside(low: float, high: float) -> Axis:
    axis = linear(low, high)
    return Axis(low, max(high, axis.high if high <= low else high), tuple(m for m in axis.marks if low <= m <= high))


def _grouped(fired: NDArray[np.bool_], size: int) -> tuple[NDArray[np.int64], tuple[Colour, ...]]:
    """Spikes (steps, neurons) of so many neighbours added up; darker is more of them."""
    together = np.stack([fired[:, k : k + size].sum(axis=1) for k in range(0, fired.shape[1], size)], axis=1)
    return together.astype(np.int64), ink(size)


def group_size(neurons: int, layers: int) -> int:
    """How many neurons share a row of the raster."""
    return min(255, -(-neurons // _panel(layers)))


def _panel(layers: int) -> int:
    """Pixels of a layer in the raster: all of them together fill a screen, but none vanishes."""
    return int(np.clip(760 / max(layers, 1), 14, 56))
