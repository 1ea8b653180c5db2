"""Drawings that fit any width without a script: across in percent of the plot, down and text in pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from spikescr.quantities import si

UNPRINTABLE = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127, *range(55296, 57344), 65534), "�")


def safe(text: object) -> str:
    """Text for HTML, SVG and attributes: escaped, without what no document may hold."""
    return escape(str(text).translate(UNPRINTABLE))


def tag(name: str, *children: str, **attributes: object) -> str:
    """An element. Children are markup, values of attributes are text; `class_` is class, stroke_width stroke-width."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{safe(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{''.join(children)}</{name}>"


def text(content: object, x: str, y: float, **attributes: object) -> str:
    """A line of text; x in percent, y of its base line in pixels."""
    return tag("text", safe(content), x=x, y=f"{y:g}", **attributes)


def at(share: float) -> str:
    """A place or length across as a percentage of the plot."""
    return f"{round(100 * share, 3):g}%"


def plot(
    label: str, height: float, *marks: str, top: float = 8, right: float = 12, bottom: float = 44, left: float = 12
) -> str:
    """The drawing: a box of marks `height` pixels high, with room for axes around it; label: what one sees."""
    drawing = tag(
        "svg", *marks, class_="plot", role="img", aria_label=label, style=f"height:{height:g}px", width="100%"
    )
    return tag("div", drawing, class_="chart", style=f"padding:{top:g}px {right:g}px {bottom:g}px {left:g}px")


def gutter(names: Sequence[str], most: int = 24) -> tuple[list[str], float]:
    """Names cut to at most so many characters, and the pixels that they take left of a plot."""
    short = [name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most // 2) :]}" for name in names]
    return short, 6.2 * max(map(len, short), default=0) + 10


@dataclass(frozen=True)
class Axis:
    """From values to shares of an axis. low, high: its ends. marks: values that get a tick."""

    low: float
    high: float
    marks: tuple[float, ...]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, 0 at the low end and 1 at the high one."""
        if self.logarithmic:
            return math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear(low: float, high: float, about: int = 4) -> Axis:
    """An axis from low to high or a little beyond, with about so many ticks at round numbers."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(digit for digit in (1, 2, 5, 10) if digit * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, last * step, tuple(k * step for k in range(first, last + 1)))


def decades(low: float, high: float) -> Axis:
    """A logarithmic axis over whole powers of ten around two positive values."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    last = max(last, first + 1)
    return Axis(10.0**first, 10.0**last, tuple(10.0**k for k in range(first, last + 1)), logarithmic=True)


def across(axis: Axis, height: float, title: str, unit: str, *, start: float = 0.0) -> str:
    """Ticks, their values and the title under a plot; the axis begins at `start` of its width."""
    tags = []
    for number, value in enumerate(axis.marks):
        x = at(start + (1 - start) * axis.share(value))
        # Every other tick goes where the page is narrow, the first one where a lane for 0 stands beside it.
        more = "more" if number % 2 == (0 if start else 1) and len(axis.marks) > 4 else None
        tags.append(tag("line", x1=x, x2=x, y1="0", y2=f"{height + 4:g}", class_="grid"))
        tags.append(text(si(value, unit), x, height + 17, text_anchor="middle", class_=more))
    tags.append(text(title, "50%", height + 36, text_anchor="middle", class_="axis"))
    return "".join(tags)


def upward(axis: Axis, height: float, title: str, unit: str, *, left: float, start: float = 0.0) -> str:
    """Ticks and values in the `left` pixels beside a plot, the title above; starts at `start` of the height."""
    tags = [text(title, "0%", -14, dx=f"{2 - left:g}", class_="axis")]
    for value in axis.marks:
        y = height * (1 - start - (1 - start) * axis.share(value))
        tags.append(tag("line", x1="0%", x2="100%", y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid"))
        tags.append(text(si(value, unit), "0%", y + 4, dx="-7", text_anchor="end"))
    return "".join(tags)
