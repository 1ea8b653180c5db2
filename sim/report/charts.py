"""The report's drawings, each from plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikescr.quantities import percent, si
from spikescr.sim.program import FloatArray
from spikescr.sim.report.image import LEVELS, png, viridis
from spikescr.sim.report.svg import Axis, across, at, decades, gutter, linear, plot, tag, text, upward

DECADES = 4  # of a logarithmic colour scale: what lies further below the largest value looks like the smallest
ROW = 46  # pixels of a bar of the waterfall with its name
LINE = 13  # pixels that a label takes
LABELS = 8  # of a scatter, those of its largest energies
ZERO = 0.1  # share of a logarithmic axis that is set apart for 0


@dataclass(frozen=True)
class Bar:
    """A bar of a waterfall: a total from 0, or a change from where the bar before it ended."""

    name: str
    low: float
    high: float
    change: float | None  # None for a total
    end: float


def bars(start: tuple[str, float], changes: Mapping[str, float], end: tuple[str, float]) -> list[Bar]:
    """The bars from one total to another."""
    bars = [Bar(start[0], min(0.0, start[1]), max(0.0, start[1]), None, start[1])]
    for name, change in changes.items():
        before = bars[-1].end
        bars.append(Bar(name, min(before, before + change), max(before, before + change), change, before + change))
    return [*bars, Bar(end[0], min(0.0, end[1]), max(0.0, end[1]), None, end[1])]


def waterfall(
    start: tuple[str, float], changes: Mapping[str, float], end: tuple[str, float], each: str = "recording"
) -> str:
    """How changes lead from one energy in joules to another: one bar below the other, names and figures above them.

    each: what one of the energies is of.
    """
    drawn = bars(start, changes, end)
    axis = linear(min(bar.low for bar in drawn), max(bar.high for bar in drawn), about=6)
    height = ROW * len(drawn)
    rows = []
    for number, (bar, following) in enumerate(zip(drawn, [*drawn[1:], None], strict=True)):
        kind = "total" if bar.change is None else "less" if bar.change < 0 else "more-energy"
        width = axis.share(bar.high) - axis.share(bar.low)
        link = tag(
            "line", x1=at(axis.share(bar.end)), x2=at(axis.share(bar.end)), y1="37", y2="67", class_="link",
            visibility="hidden" if following is None else None,
        )  # fmt: skip
        figure = si(bar.end, "J", zeros=True) if bar.change is None else signed(bar.change)
        rows.append(
            tag(
                "g",
                text(bar.name, "0%", 15, class_="name halo"),
                text(figure, "100%", 15, text_anchor="end", class_="figure halo"),
                link,
                tag("rect", x=at(axis.share(bar.low)), y="21", width=at(width), height="16", class_=f"bar {kind}"),
                class_="row",
                transform=f"translate(0 {ROW * number})",
            )
        )
    grid = tag("g", across(axis, height, f"energy per {each}", "J"), class_="axes")
    label = f"Waterfall from {start[0]}, {si(start[1], 'J')}, to {end[0]}, {si(end[1], 'J')}"
    return plot(label, height, grid, *rows, left=22, right=22, bottom=48)


def signed(joules: float) -> str:
    """An energy with its sign."""
    return ("+" if joules >= 0 else "\N{MINUS SIGN}") + si(abs(joules), "J", zeros=True)


def heat_map(layers: Sequence[str], energy: FloatArray, dt: float, each: str = "recording") -> str:
    """Energy of layers at executed steps (layers, steps) in joules, colours on a logarithmic scale; 0 stays blank.

    each: what the energy is the mean of.
    """
    names, left = gutter(layers)
    row, steps = 20, energy.shape[1]
    height = row * len(layers)
    axis = linear(0, steps, about=5)
    axis = Axis(0, steps, tuple(mark for mark in axis.marks if mark <= steps))
    highest = energy.max() or 1.0
    lowest = max(energy[energy > 0].min(initial=highest), highest / 10**DECADES)
    colours = decades(lowest, highest)
    levels = np.zeros(energy.shape, np.int64)
    for place in np.argwhere(energy > 0):
        levels[tuple(place)] = 1 + round((LEVELS - 1) * min(1.0, colours.share(energy[tuple(place)])))
    label = f"Heat map: executed energy of {len(layers)} layers at {steps} steps"
    drawing = plot(
        label,
        height,
        tag("rect", x="0%", y="0", width="100%", height=height, class_="ground"),
        bitmap(png(levels, viridis()), 0, height),
        *(text(name, "0%", row * k + 14, dx="-7", text_anchor="end") for k, name in enumerate(names)),
        *(tag("line", x1="0%", x2="100%", y1=row * k, y2=row * k, class_="seam") for k in range(1, len(layers))),
        across(axis, height, f"executed step ({si(dt, 's')} each)", ""),
        left=left,
    )
    scale = plot(
        "Colours of the heat map",
        12,
        bitmap(png(np.arange(1, LEVELS + 1)[None], viridis(), 1), 0, 12),
        across(colours, 12, f"energy per step and {each}; blank: none", "J"),
        left=24,
        right=24,
    )
    return drawing + scale


def bitmap(href: str, y: float, height: float, kind: str | None = None) -> str:
    """A picture as wide as the plot."""
    return tag(
        "image", x="0%", y=f"{y:g}", width="100%", height=f"{height:g}", preserveAspectRatio="none", href=href,
        class_=kind,
    )  # fmt: skip


def scatter(layers: Sequence[str], predicted: Sequence[float], executed: Sequence[float]) -> str:
    """Energies in joules of layers, predicted across and executed upward; 0 has a lane of its own at either axis."""
    positive = [value for value in (*predicted, *executed) if value > 0] or [1.0]
    axis = decades(min(positive), max(positive))
    height = 360.0

    def share(value: float) -> float:
        return ZERO + (1 - ZERO) * axis.share(value) if value > 0 else ZERO / 2

    marks, labels, taken = [], [], list[float]()
    apart = sorted(
        (k for k in range(len(layers)) if not math.isclose(predicted[k], executed[k], rel_tol=0.05)),
        key=lambda k: -max(predicted[k], executed[k]),
    )
    for k, layer in enumerate(layers):
        x, y = at(share(predicted[k])), f"{height * (1 - share(executed[k])):.1f}"
        told = tag("title", f"{layer}: predicted {si(predicted[k], 'J')}, executed {si(executed[k], 'J')}")
        if k in apart:
            marks.append(_diamond(x, y, told))
        else:
            marks.append(tag("circle", told, cx=x, cy=y, r="4.5", class_="agrees"))
    differing = len(apart)
    while apart:
        name, along, up = layers[apart[0]], share(predicted[apart[0]]), height * (1 - share(executed[apart[0]]))
        near = [
            k
            for k in apart
            if abs(height * (1 - share(executed[k])) - up) < LINE and abs(share(predicted[k]) - along) < 0.3
        ]
        apart = [k for k in apart if k not in near]
        # Labels of one height might run into each other, and many would hide the marks.
        if len(taken) < LABELS and all(abs(up - other) >= LINE for other in taken):
            taken.append(up)
            label = ".".join(name.split(".")[-2:]) + (f" and {len(near) - 1} more" if len(near) > 1 else "")
            side = {"dx": "-10", "text_anchor": "end"} if along > 0.5 else {"dx": "10"}
            labels.append(text(label, at(along), up + 4, class_="halo", **side))
    corner = height * (1 - ZERO)
    equal = tag("line", x1=at(ZERO), y1=f"{corner:g}", x2="100%", y2="0", class_="equal")
    lanes = [
        text("0", at(ZERO / 2), height + 17, text_anchor="middle"),
        text("0", "0%", height * (1 - ZERO / 2) + 4, dx="-7", text_anchor="end"),
        tag("line", x1=at(ZERO), x2=at(ZERO), y1="0", y2=f"{height:g}", class_="lane"),
        tag("line", x1="0%", x2="100%", y1=f"{corner:g}", y2=f"{corner:g}", class_="lane"),
    ]
    drawing = plot(
        f"Scatter of {len(layers)} layers: {differing} differ by more than 5 % from what the formula predicts",
        height,
        across(axis, height, "predicted by the paper's formula", "J", start=ZERO),
        upward(axis, height, "executed", "J", left=62, start=ZERO),
        *lanes,
        equal,
        *marks,
        *labels,
        top=30,
        right=26,
        left=62,
    )
    return drawing + legend(("agrees", "within 5 %"), ("differs", "further apart"), ("equal", "equal"))


def _diamond(x: str, y: str, told: str, kind: str = "differs") -> str:
    # A square on its corner; the box that turns keeps its place in percent.
    square = tag("rect", told, x="-4.5", y="-4.5", width="9", height="9", transform="rotate(45)", class_=kind)
    return tag("svg", square, x=x, y=y, overflow="visible", width="1", height="1")


def legend(*entries: tuple[str, str]) -> str:
    """What marks mean: class of the mark, words."""
    signs = {
        "agrees": tag("circle", cx="8", cy="8", r="4.5", class_="agrees"),
        "differs": _diamond("8", "8", ""),
        "paper": tag("rect", x="4", y="4", width="8", height="8", class_="paper"),
        "equal": tag("line", x1="0", x2="16", y1="14", y2="2", class_="equal"),
        "final": tag("line", x1="8", x2="8", y1="0", y2="16", class_="final"),
        "spread": tag("line", x1="0", x2="16", y1="8", y2="8", class_="spread"),
    }
    rows = (
        tag("span", tag("svg", signs[kind], width="16", height="16", aria_hidden="true"), f" {words}", class_="key")
        for kind, words in entries
    )
    return tag("p", *rows, class_="legend")


@dataclass(frozen=True)
class Point:
    """A run in the plane of energy (J) and accuracy."""

    name: str
    accuracy: float
    executed: float
    spread: float
    paper: float


def trade_off(points: Sequence[Point]) -> str:
    """Accuracy of runs against their energy, executed and by the paper's formula; runs are numbered."""
    height = 300.0
    energy = linear(0, max(max(p.executed + p.spread, p.paper) for p in points))
    lowest, highest = (100 * choose(p.accuracy for p in points) for choose in (min, max))
    margin = max(1.0, 0.15 * (highest - lowest))
    scale = linear(max(0.0, lowest - margin), min(100.0, highest + margin))
    scale = Axis(scale.low, min(100.0, scale.high), tuple(mark for mark in scale.marks if mark <= 100))
    marks = []
    for number, point in enumerate(points, start=1):
        y = height * (1 - scale.share(100 * point.accuracy))
        x, low, high, paper = (
            at(energy.share(max(0.0, value)))
            for value in (point.executed, point.executed - point.spread, point.executed + point.spread, point.paper)
        )
        told = tag("title", f"{number}: {si(point.executed, 'J')} executed, {percent(point.accuracy, 2)}".strip())
        marks += [
            tag("line", x1=low, x2=high, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="spread"),
            tag("circle", told, cx=x, cy=f"{y:.1f}", r="5", class_="agrees"),
            tag(
                "svg", tag("rect", x="-4.5", y="-4.5", width="9", height="9", class_="paper"),
                x=paper, y=f"{y:.1f}", overflow="visible", width="1", height="1",
            ),
            text(number, x, y - 9, text_anchor="middle", class_="halo"),
            text(number, paper, y - 9, text_anchor="middle", class_="halo"),
        ]  # fmt: skip
    drawing = plot(
        f"Accuracy against energy of {len(points)} runs",
        height,
        across(energy, height, "energy per recording", "J"),
        upward(scale, height, "accuracy, %", "", left=48),
        *marks,
        top=30,
        left=48,
        right=24,
    )
    keys = (("agrees", "executed"), ("spread", "± spread of the recordings"), ("paper", "by the paper's formula"))
    return drawing + legend(*keys)


def decided(final: NDArray[np.integer], steps: int, dt: float) -> str:
    """Share of recordings whose answer was final by each step of the window."""
    height = 220.0
    by = np.bincount(final, minlength=steps).cumsum() / len(final)
    time = linear(0, steps * dt, about=5)
    time = Axis(0, steps * dt, tuple(mark for mark in time.marks if mark <= steps * dt * (1 + 1e-9)))
    scale = linear(0, 100)
    columns = [
        tag(
            "rect", tag("title", f"step {step}: {percent(reached)}"), x=at(step / steps), width=at(0.98 / steps),
            y=f"{height * (1 - reached):.1f}", height=f"{height * reached:.1f}", class_="bar total",
        )
        for step, reached in enumerate(by.tolist())
    ]  # fmt: skip
    return plot(
        "Share of recordings whose answer was final, step by step",
        height,
        across(time, height, "time in the recording", "s"),
        *columns,
        upward(scale, height, "answers final, %", "", left=48),
        top=30,
        left=48,
    )
