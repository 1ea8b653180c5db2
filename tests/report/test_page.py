"""The page as a reader meets it, in a real browser."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
from browser import Browser

from spikescr.quantities import si
from spikescr.sim.counting import summary
from spikescr.sim.counting.conventions import CONVENTIONS
from spikescr.sim.counting.energy import HOROWITZ_45NM
from spikescr.sim.counting.saved import Audit

pytestmark = pytest.mark.browser

FIGURES = ["heat-map", "waterfall", "scatter", "decisions", "trade-off", "raster"]

# Boxes of all that is to be seen of every figure: its drawing, its text, its pictures.
BOXES = """[...document.querySelectorAll('figure')].map((figure) => ({
  name: figure.id,
  plots: [...figure.querySelectorAll('svg.plot')].map((p) => p.getBoundingClientRect().toJSON()),
  texts: [...figure.querySelectorAll('svg.plot text')].filter((t) => getComputedStyle(t).display !== 'none')
    .map((t) => ({...t.getBoundingClientRect().toJSON(), content: t.textContent, name: t.matches('.name, .halo')})),
  pictures: [...figure.querySelectorAll('image')].map((p) => p.getBoundingClientRect().toJSON()),
}))"""

# Contrast (WCAG 2.2, 1.4.3) of every text with what is behind it; backgrounds are opaque or blend with what they cover.
CONTRAST = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
  const over = ([r, g, b, a], under) => [r, g, b].map((c, k) => a * c + (1 - a) * under[k]);
  const ground = (node) => node ? over(rgba(getComputedStyle(node).backgroundColor), ground(node.parentElement))
    : matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255];
  const light = (rgb) => rgb.map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
  const found = [];
  for (const node of document.querySelectorAll('body *:not(script):not(style)')) {
    if (![...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim())) continue;
    if (node.tagName === 'title') continue;
    const style = getComputedStyle(node), under = ground(node.parentElement ? node : null);
    const shown = over(rgba(node.namespaceURI.endsWith('svg') ? style.fill : style.color), under);
    const [a, b] = [light(shown), light(under)].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), node.tagName, node.textContent.slice(0, 40)]);
  }
  return found.sort((a, b) => a[0] - b[0]);
})()"""

WATERFALL = """(() => {
  const figure = document.getElementById('waterfall');
  return {
    rows: [...figure.querySelectorAll('tbody tr')].map((row) =>
      [...row.cells].map((c) => [c.textContent, c.dataset.v])),
    bars: [...figure.querySelectorAll('svg .row')].map((row) => ({
      name: row.querySelector('.name').textContent, figure: row.querySelector('.figure').textContent,
      x: parseFloat(row.querySelector('rect').getAttribute('x')),
      width: parseFloat(row.querySelector('rect').getAttribute('width')),
      kind: row.querySelector('rect').getAttribute('class'), at: row.getAttribute('transform')})),
    ticks: [...figure.querySelectorAll('.axes text')].map((t) => [t.textContent, parseFloat(t.getAttribute('x')),
      parseFloat(t.getAttribute('y'))]),
    height: figure.querySelector('svg.plot').style.height,
    caption: figure.querySelector('caption').textContent,
    label: figure.querySelector('svg.plot').getAttribute('aria-label'),
  };
})()"""


def choose(browser: Browser, start: str, end: str) -> None:
    browser.run(
        "(() => { const [a, b] = document.querySelectorAll('#waterfall select');"
        f" a.value = '{start}'; b.value = '{end}'; b.dispatchEvent(new Event('change')); }})()"
    )


def column(browser: Browser, heading: str) -> list[str | None]:
    """The sorting values of a column of the table of layers, text where there are none."""
    found = browser.run(
        "(() => { const table = document.querySelector('#layers table');"
        f" const at = [...table.tHead.rows[0].cells].findIndex((c) => c.textContent === '{heading}');"
        " return [...table.tBodies[0].rows].map((r) => r.cells[at].dataset.v ?? (at ? null : r.cells[at].textContent))"
        " })()"
    )
    return list(found)


def focus(browser: Browser, heading: str) -> None:
    browser.run(
        f"[...document.querySelectorAll('#layers thead button')].find((b) => b.textContent === '{heading}').focus()"
    )


@pytest.mark.parametrize("width", [1280, 390])
def test_loads_from_disk_without_an_error_and_without_a_request(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    requests = [p["request"]["url"] for method, p in browser.events if method == "Network.requestWillBeSent"]
    assert [url for url in requests if not url.startswith("data:")] == [page.as_uri()]
    wrong = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening")
    assert [event for event in browser.events if event[0] in wrong] == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_figure_is_visible_and_inside_the_page(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width=width, dark=dark)
    inner = browser.run("document.documentElement.clientWidth")
    assert browser.run("document.documentElement.scrollWidth") <= inner
    found = browser.run(BOXES)
    assert [figure["name"] for figure in found] == FIGURES
    for figure in found:
        assert figure["plots"]
        for box in (*figure["plots"], *figure["pictures"]):
            assert box["width"] > 150, figure["name"]
            assert box["height"] >= 12, figure["name"]
        assert len(figure["texts"]) > 4, figure["name"]
        for box in (*figure["plots"], *figure["texts"], *figure["pictures"]):
            assert box["left"] >= 0, box
            assert box["right"] <= inner, box


@pytest.mark.parametrize("width", [1280, 390])
def test_no_text_of_a_figure_covers_another(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    for figure in browser.run(BOXES):
        texts = figure["texts"]
        for a, b in ((a, b) for k, a in enumerate(texts) for b in texts[k + 1 :]):
            across = min(a["right"], b["right"]) - max(a["left"], b["left"])
            down = min(a["bottom"], b["bottom"]) - max(a["top"], b["top"])
            assert across < 1 or down < 3, (figure["name"], a["content"], b["content"])


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_background(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, dark=dark)
    background = browser.run("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)")
    found = browser.run(CONTRAST)
    assert len(found) > 200
    assert found[0][0] >= 4.5, found[:5]


def test_tables_sort_by_number_and_back_by_mouse_and_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page)
    original = column(browser, "layer")
    browser.run(
        "[...document.querySelectorAll('#layers thead button')].find((b) => b.textContent === 'executed').click()"
    )
    energies = [float(value) for value in column(browser, "executed") if value is not None]
    assert energies == sorted(energies, reverse=True)
    assert len(set(energies)) > 3
    assert browser.run("document.querySelector('#layers [aria-sort]').textContent") == "executed"
    assert browser.run("document.querySelector('#layers [aria-sort]').getAttribute('aria-sort')") == "descending"
    focus(browser, "executed")
    browser.press("Enter")
    assert [float(value) for value in column(browser, "executed") if value is not None] == sorted(energies)
    focus(browser, "layer")
    browser.press("Space")
    assert column(browser, "layer") == sorted(original, key=str)
    assert browser.run("document.querySelectorAll('#layers [aria-sort]').length") == 1
    assert browser.run("document.querySelector('#layers tfoot th').textContent") == "total"


def test_cells_without_a_number_go_last_in_both_directions(browser: Browser, page: Path) -> None:
    browser.open(page)
    focus(browser, "firing rate")
    for direction in (-1, 1):
        browser.press("Enter")
        rates = column(browser, "firing rate")
        numbers = [float(rate) for rate in rates if rate is not None]
        assert numbers == sorted(numbers, reverse=direction < 0)
        assert rates[len(numbers) :] == [None] * (len(rates) - len(numbers))
        assert None in rates


def test_waterfall_redraws_between_any_two_conventions_and_adds_up(
    browser: Browser, page: Path, workplace: Path
) -> None:
    browser.open(page)
    audit = Audit.load(workplace / "one" / "simulation" / "audit.npz")
    energies = summary.conventions(audit, HOROWITZ_45NM)
    for start, end in permutations(CONVENTIONS, 2):
        choose(browser, start, end)
        found = browser.run(WATERFALL)
        way = summary.reconciliation(audit, HOROWITZ_45NM, start, end)
        first, *causes, last = found["rows"]
        assert [cells[0][0] for cells in causes] == [cause.replace("_", " ") for cause in way["causes"]]
        for kind, at in (("ac", 1), ("mac", 2), ("joules", 3)):
            assert float(first[at][1]) == energies[start][kind]
            assert float(last[at][1]) == energies[end][kind]
            for cells, cause in zip(causes, way["causes"].values(), strict=True):
                assert float(cells[at][1]) == pytest.approx(cause[kind], rel=1e-9, abs=1e-20)
            total = sum(float(cells[at][1]) for cells in (first, *causes))
            assert total == pytest.approx(float(last[at][1]), rel=1e-9, abs=1e-18)
        assert [cells[3][0] for cells in found["rows"]] == [
            si(row["joules"], "J", zeros=True) for row in (energies[start], *way["causes"].values(), energies[end])
        ]
        assert found["caption"] == f"From {start} to {end}, mean per recording"
        drawn = found["bars"]
        assert [bar["name"] for bar in drawn] == [cells[0][0] for cells in found["rows"]]
        # Bars follow each other: every change begins where the one before it ended, the last total ends there too.
        scale = drawn[0]["width"] / energies[start]["joules"]
        place = drawn[0]["x"] + drawn[0]["width"]
        for bar, cause in zip(drawn[1:-1], way["causes"].values(), strict=True):
            moved = place + cause["joules"] * scale
            assert bar["x"] == pytest.approx(min(place, moved), abs=0.02)
            assert bar["width"] == pytest.approx(abs(cause["joules"]) * scale, abs=0.02)
            assert bar["kind"] == ("bar less" if cause["joules"] < 0 else "bar more-energy")
            place = moved
        assert drawn[-1]["x"] + drawn[-1]["width"] == pytest.approx(place, abs=0.02)


def test_waterfall_without_a_script_is_the_one_that_the_script_draws_first(browser: Browser, page: Path) -> None:
    browser.open(page, script=False)
    static = browser.run(WATERFALL)
    assert browser.run("document.querySelector('#waterfall .choice').hidden") is True
    browser.open(page)
    drawn = browser.run(WATERFALL)
    assert browser.run("document.querySelector('#waterfall .choice').hidden") is False
    assert static["bars"] == drawn["bars"]
    assert sorted(static["ticks"]) == sorted(drawn["ticks"])
    for key in ("height", "caption", "label"):
        assert static[key] == drawn[key]
    assert [[cell[0] for cell in row] for row in static["rows"]] == [[cell[0] for cell in row] for row in drawn["rows"]]


def test_print_shows_everything_within_the_paper(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.open(page, width=703, dark=True)  # A4 less its margins
    browser.media("print", dark=True)
    assert browser.run("document.documentElement.scrollWidth") <= 703
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    tables = (
        "[...document.querySelectorAll('table')].map((t) => [t.checkVisibility(), t.getBoundingClientRect().right])"
    )
    found = browser.run(tables)
    assert len(found) > 10
    for visible, right in found:
        assert visible
        assert right <= 703
    browser.print_to(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert browser.run("document.querySelectorAll('details[open]').length") == 0  # as it was before printing


def test_hostile_names_are_text(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.run("document.querySelectorAll('img, b').length") == 0
    said = browser.run("document.querySelector('#recording p').textContent")
    assert said.startswith("""low"><img src=x onerror="alert(1)"> '&|*_`#<b>/00000000_nohash_1.wav: the network says""")


def test_page_tells_its_structure_to_those_who_do_not_see_it(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.run("document.documentElement.lang") == "en"
    headings = browser.run("[...document.querySelectorAll('h1, h2, h3, h4')].map((h) => h.tagName)")
    assert headings == ["H1"] + ["H2"] * 11
    nameless = """[...document.querySelectorAll('table, svg.plot, select, button, th[scope=col]')].filter((node) =>
      !(node.tagName === 'TABLE' ? node.caption?.textContent : node.getAttribute('aria-label') ?? node.textContent)
    ).length"""
    assert browser.run(nameless) == 0
    assert browser.run("[...document.querySelectorAll('select')].every((s) => s.closest('label'))")
    assert browser.run("[...document.querySelectorAll('.scroll')].every((d) => d.tabIndex === 0)")
    links = browser.run("[...document.querySelectorAll('nav a')].every((a) => document.querySelector(a.hash))")
    assert links is True
