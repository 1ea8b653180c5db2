"""Pictures, axes and drawings, against other libraries and by arithmetic."""

from __future__ import annotations

import base64
import io
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from PIL import Image

from spikescr.sim.report import charts, raster
from spikescr.sim.report.image import LEVELS, ink, png, viridis
from spikescr.sim.report.svg import decades, gutter, linear, safe


def picture(uri: str) -> np.ndarray:
    head, _, content = uri.partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        image.load()
        return np.asarray(image.convert("RGBA"))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_another_library_reads_the_pixels_that_were_written(height: int, width: int, enlarge: int, seed: int) -> None:
    indices = np.random.default_rng(seed).integers(0, LEVELS + 1, (height, width))
    expected = np.array(viridis())[indices].repeat(enlarge, axis=0).repeat(enlarge, axis=1)
    np.testing.assert_array_equal(picture(png(indices, viridis(), enlarge)), expected)


def test_colours_are_viridis() -> None:
    expected = colormaps["viridis"](np.linspace(0, 1, LEVELS))[:, :3] * 255
    assert np.abs(np.array(viridis())[1:, :3] - expected).max() < 6
    assert viridis()[0][3] == 0


def test_ink_grows_with_the_number_of_spikes() -> None:
    assert ink(3) == ((0, 0, 0, 0), (0, 0, 0, 85), (0, 0, 0, 170), (0, 0, 0, 255))


@given(st.floats(-1e3, 1e3), st.floats(1e-6, 1e3), st.integers(2, 8))
def test_linear_axes_hold_the_values_and_have_round_ticks(low: float, span: float, about: int) -> None:
    axis = linear(low, low + span, about)
    room = 1e-6 * (axis.high - axis.low)
    assert axis.low <= low + room
    assert axis.high >= low + span - room
    assert 2 <= len(axis.marks) <= about + 3
    step = axis.marks[1] - axis.marks[0]
    digit = step / 10 ** math.floor(math.log10(step) + 1e-6)
    assert min(abs(digit - round_) for round_ in (1, 2, 5)) < 1e-3


@given(st.floats(1e-15, 1e3), st.floats(1, 1e9))
def test_logarithmic_axes_hold_the_values_between_powers_of_ten(low: float, factor: float) -> None:
    axis = decades(low, low * factor)
    assert axis.low <= low * (1 + 1e-6)
    assert axis.high >= low * factor * (1 - 1e-6)
    assert axis.share(axis.low) == 0
    assert axis.share(axis.high) == pytest.approx(1)
    assert [round(math.log10(mark), 6) % 1 for mark in axis.marks] == [0] * len(axis.marks)


def test_waterfall_bars_lead_from_one_total_to_the_other() -> None:
    found = charts.bars(("a", 10.0), {"less": -12.0, "more": 5.0}, ("b", 3.0))
    assert [(bar.low, bar.high, bar.end) for bar in found] == [(0, 10, 10), (-2, 10, -2), (-2, 3, 3), (0, 3, 3)]


def test_heat_map_places_layers_and_steps() -> None:
    energy = np.array([[1e-9, 0, 1e-8], [0, 1e-7, 1e-13]])
    root = ET.fromstring(f"<all>{charts.heat_map(['first', 'second'], energy, 0.025)}</all>")
    uri = next(image.get("href") for image in root.iter("image"))
    assert uri is not None
    pixels = picture(uri)[::4, ::4]
    assert pixels.shape == (2, 3, 4)
    np.testing.assert_array_equal(pixels[..., 3] == 0, energy == 0)
    dark, middle, light = pixels[0, 0], pixels[0, 2], pixels[1, 1]
    assert dark[:3].sum() < middle[:3].sum() < light[:3].sum()
    assert tuple(light) == viridis()[LEVELS]  # the highest power of ten of the scale
    assert tuple(pixels[1, 2]) == viridis()[1]  # four decades below the largest value and more: the darkest
    texts = [text.text for text in root.iter("text")]
    assert texts[:2] == ["first", "second"]
    assert "executed step (25 ms each)" in texts


def test_raster_puts_spectrogram_and_spikes_on_one_time_axis() -> None:
    steps, final = 10, 3
    fired = np.zeros((steps, 200), bool)
    fired[4, :] = True
    fired[7, 199] = True
    shown = raster.Picture(
        "Input", "dB", np.linspace(-90, -10, steps * 40).reshape(steps, 40), [(0, "low"), (39, "high")]
    )
    root = ET.fromstring(f"<all>{raster.raster(shown, ['a.b'], [fired], 0.02, final)}</all>")
    plot = next(root.iter("svg"))
    spectrogram, spikes = list(plot.iter("image"))
    assert (spectrogram.get("x"), spectrogram.get("width")) == (spikes.get("x"), spikes.get("width")) == ("0%", "100%")
    frames, rows = picture(spectrogram.get("href") or "")[::4, ::4], picture(spikes.get("href") or "")[::4, ::4]
    assert frames.shape[:2] == (40, steps)
    assert tuple(frames[-1, 0]) == viridis()[1]  # the lowest band of the first step is at the bottom left
    assert tuple(frames[0, -1]) == viridis()[LEVELS]
    assert raster.group_size(200, 1) == 4
    assert rows.shape[:2] == (50, steps)
    heights = {text.text: float(str(text.get("y"))) - 4 for text in plot.iter("text")}
    assert heights["low"] == pytest.approx(150 * (1 - 0.5 / 40), abs=0.01)
    assert heights["high"] == pytest.approx(150 * 0.5 / 40, abs=0.01)
    expected = np.zeros((50, steps), int)
    expected[:, 4] = 255
    expected[49, 7] = 255 // 4
    np.testing.assert_array_equal(rows[..., 3], expected)
    line = next(mark for mark in plot.iter("line") if mark.get("class") == "final")
    assert line.get("x1") == line.get("x2") == "40%"  # the end of step 3 of 0 to 9


def test_scatter_tells_apart_what_agrees_and_what_differs() -> None:
    drawing = charts.scatter(["same", "b.less", "b.none"], [1e-8, 1e-7, 0.0], [1.01e-8, 1e-8, 1e-9])
    root = ET.fromstring(f"<all>{drawing}</all>")
    plot = next(root.iter("svg"))
    assert [circle.findtext("title") for circle in plot.iter("circle")] == ["same: predicted 10 nJ, executed 10.1 nJ"]
    assert len([r for r in plot.iter("rect") if r.get("class") == "differs"]) == 2
    circle = next(plot.iter("circle"))
    share = charts.ZERO + (1 - charts.ZERO) * 0.5  # 10 nJ between 1 and 100
    assert float(str(circle.get("cx")).rstrip("%")) == pytest.approx(100 * share)
    assert float(str(circle.get("cy"))) == pytest.approx(360 * (1 - share), abs=1.5)
    texts = [text.text for text in plot.iter("text")]
    assert {"b.less", "b.none"} <= set(texts)


def test_share_of_final_answers_grows_to_all() -> None:
    root = ET.fromstring(f"<all>{charts.decided(np.array([0, 2, 2, 3]), 5, 0.1)}</all>")
    heights = [float(str(r.get("height"))) for r in root.iter("rect")]
    assert heights == [220 * share for share in (0.25, 0.25, 0.75, 1.0, 1.0)]


def test_trade_off_places_runs() -> None:
    points = [charts.Point("a", 0.9, 4e-6, 1e-6, 8e-6), charts.Point("b", 0.5, 10e-6, 0.0, 20e-6)]
    root = ET.fromstring(f"<all>{charts.trade_off(points)}</all>")
    circles = list(next(root.iter("svg")).iter("circle"))
    assert [c.get("cx") for c in circles] == ["20%", "50%"]
    assert float(str(circles[0].get("cy"))) < float(str(circles[1].get("cy")))


def test_long_names_are_cut_in_the_middle() -> None:
    short, width = gutter(["a" * 40 + "end", "b"])
    assert len(short[0]) == 24
    assert short[0].endswith("end")
    assert width < 170


def test_text_of_any_kind_can_be_written() -> None:
    assert safe('<a b="c">&\'\x00\udc80') == "&lt;a b=&quot;c&quot;&gt;&amp;&#x27;\ufffd\ufffd"
    assert not re.search("[\ud800-\udfff]", safe("".join(map(chr, range(0xD800, 0xE000)))))
