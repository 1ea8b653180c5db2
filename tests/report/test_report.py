"""What reports say, and the command that writes them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers import write_heidelberg
from markdown_it import MarkdownIt
from reporting import HOSTILE, command

from spikescr.files import replacing_together
from spikescr.runs import RunFolder
from spikescr.sim.counting.account import COLUMNS, MOMENTS
from spikescr.sim.counting.conventions import CAUSES, CONVENTIONS
from spikescr.sim.counting.energy import CONSTANTS, HOROWITZ_45NM
from spikescr.sim.counting.saved import Audit
from spikescr.sim.counting.tally import Charged
from spikescr.sim.report.content import document, real_share
from spikescr.sim.report.document import Cell, Document, Table, by_step
from spikescr.sim.report.html import page as written
from spikescr.sim.report.html import table as html_table
from spikescr.sim.report.markdown import literal, markdown
from spikescr.sim.report.raster import Picture
from spikescr.sim.report.sections import steps
from spikescr.sim.report.subject import Example, Provenance, Run
from spikescr.training.config import TrainConfig
from spikescr.training.recipes import read_recipe, resolve


@pytest.fixture(autouse=True)
def _there(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)


class Tables(HTMLParser):
    """The text of every cell of the tables of a page, row by row."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        self._inside = tag in ("td", "th")

    def handle_data(self, content: str) -> None:
        if self._inside:
            self.tables[-1][-1][-1] += content


def markdown_tables(text: str) -> list[list[list[str]]]:
    """The same of Markdown, read by another library."""
    return Tables(MarkdownIt("commonmark").enable("table").render(text)).tables


def value(text: str) -> float:
    """What a number with an SI prefix says."""
    number, _, unit = text.partition(" ")
    return float(number) * 10.0 ** dict(zip("fpnµmkM", (-15, -12, -9, -6, -3, 3, 6), strict=True)).get(unit[:1], 0)


def spaces(tables: list[list[list[str]]]) -> list[list[list[str]]]:
    return [[[" ".join(cell.split()) for cell in row] for row in table] for table in tables]


def test_markdown_has_the_numbers_of_the_page(workplace: Path) -> None:
    html = (workplace / "out/report.html").read_text()
    text = (workplace / "out/report.md").read_text()
    facts, *tables = markdown_tables(text)
    assert len(tables) >= 9
    assert spaces(tables) == spaces(Tables(html).tables)
    for row in facts[1:]:
        assert row[1].strip() in html
    assert "<img" not in MarkdownIt("commonmark").enable("table").render(text)


def test_headline_and_layers_are_those_of_the_simulation(workplace: Path) -> None:
    found = json.loads((workplace / "one/simulation/summary.json").read_text())
    samples = found["samples"]
    html = (workplace / "out/report.html").read_text()
    executed, paper = found["energy"]["events_j"] / samples, found["energy"]["formula_j"] / samples
    facts = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", html.replace("&#x27;", "'")))
    assert facts["Accuracy"] == f"{100 * found['accuracy']:.2f} %"
    assert value(facts["Executed"]) == pytest.approx(executed, rel=5e-3)
    assert value(facts["The paper's formula"]) == pytest.approx(paper, rel=5e-3)
    assert facts["Unexplained"] == "0"
    charged_too_much = sum(max(0.0, -cause["joules"]) for cause in found["energy"]["causes"].values()) / samples
    assert facts["Real traffic"] == f"{100 * (1 - charged_too_much / paper):.1f} %"
    heading, *rows, total = Tables(html).tables[0]
    by_name = {row[0]: dict(zip(heading, row, strict=True)) for row in rows}
    layers = [layer for layer in found["layers"] if layer["events_j"]]
    assert len(layers) > 10
    for layer in layers:
        row = by_name[layer["layer"]]
        assert value(row["executed"]) == pytest.approx(layer["events_j"] / samples, rel=5e-3)
        for kind in ("ac", "mac"):
            assert value(row[kind.upper()] or "0") == pytest.approx(layer[kind] / samples, rel=6e-3)
    assert value(total[heading.index("executed")]) == pytest.approx(executed, rel=5e-3)


def test_the_front_end_has_a_section_of_its_own(workplace: Path) -> None:
    before = json.loads((workplace / "one/simulation/summary.json").read_text())["before_network"]
    *stages, total = rows_of(workplace / "out/report.html", "stage", "additions", "multiplications")
    assert [row["stage"] for row in stages] == [stage["stage"] for stage in before["stages"]]
    assert value(total["energy"]) == pytest.approx(before["joules"], rel=5e-3)
    beside = {
        row["convention"]: row["before the network"]
        for row in rows_of(workplace / "out/report.html", "convention", "AC", "MAC", "network")
    }
    assert {name for name, cell in beside.items() if cell} == {"executed", "quadratic", "graded"}
    assert value(beside["executed"]) == pytest.approx(before["joules"], rel=5e-3)
    assert "front_end" not in (workplace / "out/report.md").read_text()


def trained_again(text: str, run: RunFolder) -> None:
    """Asserts that the command of a report asks for the training of its run."""
    (line,) = re.findall(r"^    spikescr train (.*)$", text, re.MULTILINE)
    name, *rest = [word for word in shlex.split(line) if not word.startswith("--")]
    options = dict(word.removeprefix("--").split("=", 1) for word in shlex.split(line) if word.startswith("--"))
    assert options["run"] == str(run.path)
    recipe, seed = read_recipe("train", name), {"seed": int(options["seed"])}
    config = resolve(recipe, TrainConfig, rest, options=seed, data=options["data"])
    trained = TrainConfig.model_validate_json(run.config.read_bytes())
    classes = {"classes": trained.model.classes}
    assert config.model_copy(update={"model": config.model.model_copy(update=classes)}) == trained


def rows_of(page: Path, *headings: str) -> list[dict[str, str]]:
    """The rows of the table of the page that begins with these headings."""
    tables = Tables(page.read_text()).tables
    (found,) = [table for table in tables if table[0][: len(headings)] == list(headings)]
    return [dict(zip(found[0], row, strict=True)) for row in found[1:]]


def test_constants_and_memory_price_what_was_executed(workplace: Path) -> None:
    found = json.loads((workplace / "one/simulation/summary.json").read_text())
    ac, mac, neuron = (found["totals"][kind] / found["samples"] for kind in ("ac", "mac", "neuron"))
    rows = {row["constants"]: row for row in rows_of(workplace / "out/report.html", "constants", "AC")}
    assert set(rows) == set(CONSTANTS.costs)
    for name, cost in CONSTANTS.costs.items():
        expected = ac * cost.ac_pj + mac * (cost.mac_pj or 0) + neuron * (cost.neuron_pj or 0)
        told, _, rest = rows[name]["energy"].partition(" and ")
        assert value(told) == pytest.approx(expected * 1e-12, rel=5e-3)
        assert rest.endswith("MAC") == (cost.mac_pj is None)
    moved = re.search(r"Memory: ([\d.]+ [kM]B) in words of 32 bits", (workplace / "out/report.md").read_text())
    assert moved is not None
    for row in rows_of(workplace / "out/report.html", "price", "pJ per byte"):
        assert value(row["energy"]) == pytest.approx(float(row["pJ per byte"]) * value(moved[1]) * 1e-12, rel=1e-2)


def test_other_runs_stand_beside_the_first_with_their_change(workplace: Path) -> None:
    first, second = rows_of(workplace / "out/report.html", "run", "steps/s")
    assert (first["run"], second["run"]) == ("1: one", "2: two")
    assert first["change"] == first["95 % interval"] == ""
    for kind, change in (("executed", "change"), ("paper", "change by paper")):
        means = []
        for run, row in (("one", first), ("two", second)):
            found = json.loads((workplace / run / "simulation/summary.json").read_text())
            means.append(found["energy"][{"executed": "events_j", "paper": "formula_j"}[kind]] / found["samples"])
            assert value(row[kind]) == pytest.approx(means[-1], rel=5e-3)
            assert row["accuracy"] == f"{100 * found['accuracy']:.2f} %"
        assert second[change] == f"{100 * (means[1] / means[0] - 1):+.1f} %"


def test_decisions_count_every_recording_once(workplace: Path) -> None:
    audit = Audit.load(workplace / "one/simulation/audit.npz")
    rows = rows_of(workplace / "out/report.html", "step", "ends at, ms", "recordings")
    final = audit.decisions[:, 0].tolist()
    assert [int(row["recordings"]) for row in rows] == [final.count(step) for step in range(len(rows))]
    assert rows[-1]["of all, up to here"] == "100.0 %"
    assert [float(row["ends at, ms"]) for row in rows] == pytest.approx(
        [50.0 * (step + 1) for step in range(len(rows))]
    )


def test_energy_per_step_adds_up_to_the_layers(workplace: Path) -> None:
    tables = Tables((workplace / "out/report.html").read_text()).tables
    heading, *rows, _ = tables[0]
    expected = {row[0]: value(row[heading.index("executed")] or "0 ") for row in rows}
    names, *rest = tables[1]
    sums = [sum(float(row[k].strip() or 0) for row in rest) for k in range(1, len(names))]
    text = (workplace / "out/report.html").read_text()
    unit = re.search(r"Executed energy of each layer at each step, (.)J", text)
    assert unit is not None
    for name, total in zip(names[1:], sums, strict=True):
        assert value(f"{total} {unit[1]}J") == pytest.approx(expected[name], rel=1e-2)


def test_where_nothing_was_executed_no_step_is_drawn(workplace: Path) -> None:
    audit = Audit.load(workplace / "one/simulation/audit.npz")
    silent = replace(audit, moments=np.zeros_like(audit.moments))
    section = steps(silent, HOROWITZ_45NM)
    assert section.figures == ()
    assert section.text[-1] == "Nothing was executed at any step."


def test_example_is_the_recording_as_simulated(workplace: Path) -> None:
    """The one recording simulated alone has the spikes that the report shows."""
    shutil.copytree(workplace / "one", workplace / "alone")
    name = f"{HOSTILE}/00000000_nohash_1.wav"
    assert command("simulate", "--run", "alone", "--recording", name).exit_code == 0
    found = json.loads((workplace / "alone/simulation/summary.json").read_text())
    tables = Tables((workplace / "out/report.html").read_text()).tables
    rows = next(table for table in tables if table[0][1:3] == ["neurons", "spikes"])[1:]
    spikes = {row[0]: int(row[2].replace(",", "")) for row in rows}
    fired = {layer["layer"]: layer["fired"] for layer in found["layers"] if layer["neuron"]}
    assert spikes == fired
    assert sum(count > 0 for count in fired.values()) >= 5
    html = (workplace / "out/report.html").read_text()
    step = Audit.load(workplace / "alone/simulation/audit.npz").decisions[0, 0]
    assert f"The answer was final after step {step} " in html


def test_layers_on_a_chip_are_those_of_fit(workplace: Path) -> None:
    file = workplace / "fit.json"
    command("fit", "--run", "one", "--json", str(file))
    fit = json.loads(file.read_text())
    *rows, total = rows_of(workplace / "out/report.html", "layer", "neurons", "bits")
    assert [row["layer"] for row in rows] == [layer["layer"] for layer in fit["layers"]]
    for row, layer in zip(rows, fit["layers"], strict=True):
        assert row["cores"] == str(layer["cores"])
        assert value(row["memory"]) == pytest.approx(layer["memory_bytes"], rel=5e-3)
    assert total["cores"] == str(fit["total"]["cores"])
    page = (workplace / "out/report.md").read_text()
    assert f"{fit['total']['cores']} of 128 cores of Loihi 2; no limit is exceeded" in page
    assert "An estimate and no measurement" in page
    *terms, total = rows_of(workplace / "out/report.html", "term", "of", "count")
    assert value(total["energy"]) == pytest.approx(fit["fitted"]["joules"][1], rel=5e-3)
    assert {row["term"].replace(" ", "_") for row in terms} <= set(fit["fitted"]["terms"])
    assert f"decided by the {fit['fitted']['deciding']} (" in page
    assert "energy within 12 % and latency within 25 % of silicon" in page
    # 270 uJ over 390 x 256 + 256 x 256 + 256 x 29 products of 4.6 pJ (arXiv 1812.01739)
    assert "270 µJ an inference, 340 times what the 172,800 multiplications of its layers without spikes are" in page
    systems = rows_of(workplace / "out/report.html", "system", "task", "energy")
    assert [row["energy"] for row in systems[:2]] == ["6.60 µJ", "31.5 µJ"]
    assert all("results.txt" in row["read in"] or "arXiv" in row["read in"] for row in systems)


def test_provenance_names_commands_seed_versions_and_hashes(workplace: Path) -> None:
    html = (workplace / "out/report.html").read_text()
    graph = RunFolder(Path("one")).graph
    trained_again((workplace / "out/report.md").read_text(), RunFolder(Path("one")))
    assert "spikescr simulate --run=one --split=test" in html
    audit = Audit.load(workplace / "one/simulation/audit.npz")
    rows = dict(row[:2] for row in Tables(html).tables[-1][1:])
    assert rows["simulation: seed"] == "0"
    assert rows[f"SHA-256 of {graph.name}"] == audit.about["files"][graph.name]
    assert rows["version of numpy"] == np.__version__


def test_baselines_on_recordings_of_spikes_are_reported_too(workplace: Path) -> None:
    write_heidelberg(workplace / "shd", "shd", {"train": 26, "test": 4})
    changes = ("steps=20", "window_s=1.0", "epochs=1", "threads=1", "model.family=recurrent", "model.width=16")
    for arguments in (("train", "shd-40", "--data", "shd:shd", *changes), ("export",), ("simulate",)):
        found = command(*arguments, "--run", "spikes")
        assert found.exit_code == 0, found.output
    assert command("report", "spikes").exit_code == 0
    text = (workplace / "spikes/report.md").read_text()
    assert "Input spikes, and below it the spikes of every layer" in text
    trained_again(text, RunFolder(Path("spikes")))
    assert "attention answers" not in text


def test_default_report_lies_in_the_run_and_goes_with_it(workplace: Path) -> None:
    shutil.copytree(workplace / "one", workplace / "own")
    run = RunFolder(Path("own"))
    found = command("report", "own")
    assert found.exit_code == 0, found.output
    assert found.output.count("wrote own/report.") == 2
    assert "Accuracy against energy" not in run.report.read_text()
    assert command("simulate", "--run", "own", "--limit", "2").exit_code == 0
    assert not run.report.exists()  # it was about another simulation
    assert not run.report_text.exists()
    assert command("report", "own", "--no-recording").exit_code == 0
    with replacing_together(run.path, run.results):
        pass
    assert not run.report.exists()
    assert not run.report_text.exists()


def test_neither_graph_nor_recordings_are_needed_without_a_recording(workplace: Path) -> None:
    shutil.copytree(workplace / "one", workplace / "bare")
    (workplace / "bare/model.nir").unlink()
    (workplace / "bare/config.json").unlink()
    assert command("report", "bare", "--no-recording").exit_code == 0
    text = (workplace / "bare/report.md").read_text()
    assert "One recording" not in text
    assert "spikescr train" not in text


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ["one", "--recording", "nobody.wav"],
            2,
            "recording (--recording) nobody.wav: is not in one/",
        ),
        (["one", "--recording", "a", "--no-recording"], 2, "--recording and --no-recording exclude each other"),
        (["nowhere"], 1, "make it with: spikescr simulate --run nowhere"),
        (["one", "--cost", "free"], 2, "free: no such constants (--cost)"),
        (["one", "--out", "tones/testing_list.txt"], 2, "is a file"),
        (["odd"], 1, "odd/config.json: TrainConfig: Input should be an object (got []); make it again: spikescr train"),
        (["other"], 1, "other/model.nir is another graph than was simulated; spikescr simulate --run other again"),
    ],
)
def test_bad_input_is_one_line(workplace: Path, arguments: list[str], status: int, message: str) -> None:
    if arguments == ["other"]:
        shutil.copytree(workplace / "one", workplace / "other")
        shutil.copy(workplace / "two/model.nir", workplace / "other/model.nir")
    if arguments == ["odd"]:
        shutil.copytree(workplace / "one", workplace / "odd")
        (workplace / "odd/config.json").write_text("[]")
    found = command("report", *arguments)
    assert found.exit_code == status
    assert message in " ".join(found.output.split())
    assert "Traceback" not in found.output


def big(layers: int, steps: int, neurons: int) -> tuple[Audit, Example]:
    """An audit that was never run, as large as asked for, with everything random."""
    rng = np.random.default_rng(0)
    names = [f"blocks.{k // 10}.group.layer{k}.lif" for k in range(layers)]
    samples, kinds = 16, len(COLUMNS)
    moments = rng.integers(1, 1 << 20, (layers, len(MOMENTS), steps))
    stored = {
        name: Charged(
            charges=rng.integers(1, 1 << 30, (layers, 2)).astype(float),
            causes=rng.integers(-99, 99, (layers, len(CAUSES), 2)).astype(float),
            samples=rng.integers(1, 1 << 30, (samples, 2)).astype(float),
            sample_causes=np.zeros((0, len(CAUSES), 2)),
        )
        for name in CONVENTIONS
    }
    recordings = tuple(f"word/{k:08x}_nohash_0.wav" for k in range(samples))
    audit = Audit(
        operations=tuple(names), types=("Neuron",) * layers, latencies=tuple(range(layers)),
        columns=COLUMNS, steps=steps, period=steps, dt=0.01,
        recordings=recordings, labels=("a",) * samples, predicted=("a",) * samples,
        valid=np.full(samples, steps), table=rng.integers(1, 99999, (layers, kinds, steps)), moments=moments,
        decisions=rng.integers(0, steps, (samples, 3)), facts=None, shapes={}, refused_formula=None, about={},
        stored=stored,
    )  # fmt: skip
    spikes = {name: rng.random((steps, neurons)) < 0.15 for name in audit.layers}
    return audit, Example("a.wav", "a", "b", 5, Picture("Input", "dB", rng.normal(size=(steps, 140)), ()), spikes)


def test_data_of_the_script_cannot_end_it() -> None:
    found = written(Document("t", "s", (), (), {"conventions": {"</script><b>": "<!--<script>"}}))
    assert found.count("</script>") == 2
    assert "<b>" not in found
    assert "<!--" not in found


def test_page_of_a_large_network_stays_small() -> None:
    audit, example = big(100, 300, 256)
    found = document([Run("big", audit)], HOROWITZ_45NM, CONSTANTS, example, Provenance((), ()))
    assert len(written(found).encode()) < 2_000_000
    assert len(markdown(found).encode()) < 1_000_000


def test_wide_tables_are_cut_into_several_with_every_layer_once() -> None:
    first = [("step", [Cell(str(step), step) for step in range(3)])]
    names = [f"layer{k}" for k in range(45)]
    columns = [[k * 1e-9, 0.0, 2 * k * 1e-9] for k in range(45)]
    tables = by_step("Energy", first, names, columns, "J")
    assert [len(table.columns) for table in tables] == [21, 21, 6]
    assert [name for table in tables for name in table.columns[1:]] == names
    assert [cell.text for cell in tables[2].rows[0]] == ["0", "40.0", "41.0", "42.0", "43.0", "44.0"]
    assert [row[0].text for row in tables[0].rows] == ["0", "2"]  # nothing happens at step 1
    assert tables[0].caption == "Energy, nJ"


def test_real_share_is_what_is_left_of_the_formula_without_what_it_charges_too_much() -> None:
    found = {"paper": {"joules": 10.0}}
    way = {"causes": {"padding": {"joules": -6.0}, "rotary": {"joules": 1.0}}}
    assert real_share(found, way) == pytest.approx(0.4)
    assert real_share({"paper": {"joules": 0.0}}, way) is None


def test_cells_of_every_kind_survive_both_ways_of_writing() -> None:
    cells = ["a|b", "<i>x</i>", "*bold* _it_ `code` [l](http://e.org) ~~s~~ $m$ \\", "&amp;", "# head\nnext", "\x07"]
    table = Table("c|<b>", ("one", "two"), tuple((Cell(cell), Cell(cell)) for cell in cells))
    expected = [["one", "two"], *([" ".join(c.replace("\x07", "\ufffd").split())] * 2 for c in cells)]
    assert spaces(Tables(html_table(table)).tables) == [expected]
    lines = ["| one | two |", "| --- | --- |", *(f"| {literal(cell)} | {literal(cell)} |" for cell in cells)]
    assert spaces(markdown_tables("\n".join(lines))) == [expected]
