"""Tables of papers: the rows, the trainings behind them, what they take, and how they are told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from spikescr.data import Item
from spikescr.errors import CheckpointError, UsageError
from spikescr.runs import JobFolder
from spikescr.training.config import CurriculumConfig, TrainConfig
from spikescr.training.estimate import Estimate
from spikescr.training.recipes import read_recipe, resolve
from spikescr.workflows.reproduce import Places
from spikescr.workflows.reproduce_cost import Cost
from spikescr.workflows.reproduce_plan import Plan, Request, make_plan, thinned
from spikescr.workflows.reproduce_report import FIELDS, Figure, Report, draw_report, write_report
from spikescr.workflows.reproduce_table import choose_rows, read_table, table_names
from spikescr.workflows.reproduce_training import Outcome, Score, Task

OWN = """
about = "Two"
data = "digits"
source = "nowhere"
seeds = 2
[[rows]]
name = "direct"
table = "accuracy"
train = "digits"
printed = 90.0
[[rows]]
name = "taught"
table = "ablation"
distill = "digits"
stage = 40
printed = 95.0
[[rows]]
name = "of-another-time"
table = "accuracy"
train = "digits"
changes = ["model.family=unheard"]
printed = 99.0
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    return path


def planned(name: str, *patterns: str, seeds: int = 1) -> Plan:
    return make_plan(Request(read_table(name), patterns=patterns, seeds=seeds))


# Printed figures as typed from the papers' tables, one of each kind.
PRINTED = {
    "shd": {"1L-100": 95.70, "1L-40-distilled": 93.60, "no-separable-convolution": 88.36,
            "spikcommander-1L-100": 96.41},
    "ssc": {"1L-40": 79.12, "2L-100-distilled": 83.69, "2L-500": 85.57, "position-sinusoidal-lif": 66.48,
            "dcls-3L-200": 80.86, "spikcommander-2L-250": 85.98},
    "gsc": {"1L-40-distilled": 94.71, "2L-400": 96.05, "dcls-3L-100": 95.47, "spikcommander-2L-100": 96.92},
}  # fmt: skip


@pytest.mark.parametrize("name", table_names())
def test_every_row_that_this_version_has_can_be_planned(name: str) -> None:
    table = read_table(name)
    assert PRINTED[name].items() <= {row.name: row.printed for row in table.rows}.items()
    plan = planned(name, seeds=2)
    assert len(plan.rows) + len(plan.unavailable) == len(table.rows)
    for each in plan.rows:
        assert [training.config.seed for training in each.trainings] == [0, 1]
        assert len({training.key for training in each.trainings}) == 2
        assert each.trainings[0].config.epochs >= 300
        assert not each.row.name[3:].startswith("100") or each.trainings[0].config.steps == 100
        assert f"{each.trainings[0].config.steps}" in each.row.name or each.row.table in ("ablation", "position")


def test_trainings_of_ssc_are_shared_where_rows_share_them() -> None:
    """8 direct; 1L and 2L: 200, 100 and 40 taught; three positions (the fourth is the direct one); 4 DCLS."""
    plan = planned("ssc", "accuracy", "position")
    assert [len(level) for level in plan.levels] == [8 + 3 + 4, 2, 2, 2]
    (distilled,) = (row for row in plan.rows if row.row.name == "1L-40-distilled")
    training, steps = distilled.trainings[0], []
    while training is not None:
        steps.append(training.config.steps)
        first, training = training, training.teacher
    assert steps == [40, 100, 200, 500]
    (direct,) = (row.trainings[0] for row in plan.rows if row.row.name == "1L-500")
    assert first == direct


def test_a_row_is_trained_as_the_commands_train() -> None:
    plan = planned("ssc", "1L-100", "1L-100-distilled")
    options = {"seed": 0, "threads": 1}
    alone = resolve(read_recipe("train", "ssc-100"), TrainConfig, [], options=options, data=None, need_data=False)
    whole = resolve(read_recipe("distill", "ssc"), CurriculumConfig, [], options=options, data=None, need_data=False)
    assert plan.rows[0].trainings[0].config == alone
    taught = plan.rows[1].trainings[0]
    assert taught.config == whole.taught(2, "")
    assert taught.teacher is not None
    assert taught.teacher.config == whole.taught(1, "")


def test_a_training_follows_from_all_that_it_is_made_of() -> None:
    request = Request(read_table("shd"), data="shd:x", patterns=("1L-40-distilled",), seeds=1)
    first = make_plan(request).rows[0].trainings[0]
    again = make_plan(request).rows[0].trainings[0]
    assert first.digest("a") == again.digest("a") != first.digest("b")
    for change in ({"epochs": 2}, {"threads": 2}, {"data": "folder:x"}):
        other = make_plan(replace(request, **change)).rows[0].trainings[0]  # type: ignore[arg-type]
        assert other.digest("a") != first.digest("a")
    assert first.teacher is not None
    changed = replace(first, teacher=replace(first.teacher, config=first.teacher.config.model_copy(update={"lr": 1.0})))
    assert changed.config == first.config
    assert changed.digest("a") != first.digest("a")


def test_other_recordings_take_the_same_rows() -> None:
    plan = make_plan(Request(read_table("ssc"), data="folder:words", patterns=("1L-*",), seeds=1, epochs=3))
    assert {training.config.data for training in plan.trainings} == {"folder:words"}
    assert {training.config.epochs for training in plan.trainings} == {3}


def test_rows_are_chosen_by_name_or_table() -> None:
    table = read_table("gsc")
    assert [row.name for row in choose_rows(table, ("2L-4*", "dcls-3L-40")).rows] == [
        "2L-40", "2L-40-distilled", "2L-400", "dcls-3L-40",
    ]  # fmt: skip
    assert {row.table for row in choose_rows(read_table("shd"), ("ablation",)).rows} == {"ablation"}


def test_a_row_of_a_family_that_is_not_there_is_named(own: Path) -> None:
    plan = make_plan(Request(read_table(str(own))))
    assert [(row.name, why) for row, why in plan.unavailable] == [
        ("of-another-time", "this version has no model.family=unheard")
    ]
    assert Report.of(plan, {}).rows[-1].as_cells()["differs"].startswith("not available: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ('"digits"\nprinted = 90', '"digits"\ndistill = "digits"\nprinted = 90'),
            "row direct: give train, or distill",
        ),
        (("stage = 40", ""), "row taught: give train, or distill and stage"),
        (('"taught"', '"direct"'), "row direct is there twice"),
        (("printed = 90.0", "printed = 900.0"), "rows.0.printed: "),
        (('name = "direct"', 'name = "../x"'), "rows.0.name: "),
        (('["model.family=unheard"]', '["unheard"]'), "row of-another-time: 'unheard' is not KEY=VALUE"),
        (("about =", "about"), "is no TOML"),
    ],
)
def test_tables_that_cannot_be_are_refused(own: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in OWN
    own.write_text(OWN.replace(*change, 1))
    with pytest.raises(UsageError, match=r"own\.toml: ") as found:
        read_table(str(own))
    assert message in str(found.value)


def test_what_cannot_be_meant_is_refused(own: Path) -> None:
    with pytest.raises(UsageError, match="no tables are named 'timit': choose gsc, shd, ssc"):
        read_table("timit")
    with pytest.raises(UsageError, match=r"no row is like '5L-\*': there are direct, taught"):
        choose_rows(read_table(str(own)), ("5L-*",))
    own.write_text(OWN.replace("stage = 40", "stage = 41"))
    with pytest.raises(UsageError, match="row taught: digits has no stage of 41 steps per second"):
        make_plan(Request(read_table(str(own))))
    own.write_text(OWN.replace('train = "digits"', 'train = "digits"\nchanges = ["lr=-1"]', 1))
    with pytest.raises(UsageError, match="row direct: lr=-1: Input should be greater than 0"):
        make_plan(Request(read_table(str(own))))
    with pytest.raises(UsageError, match="give one of workers"):
        Places(workers=2, devices=("0",))


def test_recordings_are_thinned_evenly() -> None:
    items = tuple(Item(Path("x"), f"{number:02}", 0) for number in range(10))
    assert [item.name for item in thinned(items, 4)] == ["00", "02", "05", "07"]
    assert thinned(items, None) == thinned(items, 12) == items


def test_a_plan_takes_as_long_as_its_longest_way() -> None:
    """Level one: 5, 4, 3, 3 by two: 5 + 3 and 4 + 3; level two: 2."""
    sizes = {"a": 3.0, "b": 5.0, "c": 3.0, "d": 4.0, "e": 2.0}
    every = {key: Estimate(1, 10, 20, 30 + int(seconds), seconds, 7) for key, seconds in sizes.items()}
    cost = Cost("cpu", every, (("a", "b", "c", "d"), ("e",)), base=100)
    assert (cost.seconds, cost.disk) == (17.0, 35)
    assert [cost.elapsed(places) for places in (1, 2, 4, 100)] == [17.0, 10.0, 7.0, 7.0]
    assert cost.memory(2) == 2 * 100 + (60 + 5) + (60 + 4)


def test_intervals_are_those_of_the_books() -> None:
    """t of 2 degrees 4.303: mean 0.93, s = sqrt(0.0013) = 0.03606, half 4.303 s / sqrt(3) = 0.0896.

    8 of 10 by Wilson: (0.8 + 3.8415 / 20 -+ 1.96 sqrt(0.016 + 3.8415 / 400)) / 1.38415 = 0.4902, 0.9433.
    """
    several = Figure.of([90, 92, 97], [100, 100, 100])
    assert (several.mean, several.low, several.high) == pytest.approx((0.93, 0.8404, 1.0196), abs=1e-4)
    assert several.kind == "t"
    single = Figure.of([8], [10])
    assert (single.mean, single.low, single.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert single.kind == "wilson"


def outcome(seed: int, right: int, last: int) -> Outcome:
    return Outcome(
        digest="d" * 64, seed=seed, parameters=5, recordings=200, left_out=0,
        best=Score(epoch=3, valid_accuracy=0.5 + seed / 10, right=right),
        last=Score(epoch=4, valid_accuracy=0.4, right=last), checkpoint="c" * 64, seconds=1.5 + seed,
    )  # fmt: skip


def test_known_results_are_told_beside_what_is_printed(own: Path, tmp_path: Path) -> None:
    """Best 180 and 184 of 200: mean 0.91, s = 0.01414, half 12.706 s / sqrt(2) = 0.1271; one seed of the second row."""
    plan = make_plan(Request(read_table(str(own))))
    direct, taught = (row.trainings for row in plan.rows)
    known = {
        direct[0].key: outcome(0, 180, 170),
        direct[1].key: outcome(1, 184, 178),
        taught[0].key: outcome(0, 160, 160),
    }
    report = Report.of(plan, known)
    first, second, third = (row.as_cells() for row in report.rows)
    assert [first[name] for name in ("printed", "seeds", "of", "interval", "parameters")] == [0.9, 2, 2, "t", 5]
    assert (first["best"], first["last"], first["valid"]) == pytest.approx((0.91, 0.87, 0.55))
    assert first["best_high"] - first["best"] == pytest.approx(0.12706, abs=1e-5)
    assert (second["seeds"], second["of"], second["interval"], second["best"]) == (1, 2, "wilson", 0.8)
    assert (third["of"], third["best"]) == (0, None)
    write_report(tmp_path, report)
    content = json.loads((tmp_path / "reproduce.json").read_text())
    assert [row["row"] for row in content["rows"]] == ["direct", "taught", "of-another-time"]
    assert [each["best"]["right"] for each in content["rows"][0]["trainings"]] == [180, 184]
    assert "seconds" not in json.dumps(content)
    lines = (tmp_path / "reproduce.csv").read_text().splitlines()
    assert lines[0] == ",".join(FIELDS)
    assert len(lines) == 4
    slower = {key: each.model_copy(update={"seconds": 9.0}) for key, each in known.items()}
    before = (tmp_path / "reproduce.json").read_bytes()
    write_report(tmp_path, Report.of(plan, slower))
    assert (tmp_path / "reproduce.json").read_bytes() == before
    draw_report(report, tmp_path / "rows.png")
    assert (tmp_path / "rows.png").read_bytes().startswith(b"\x89PNG")


def test_a_result_of_another_training_or_without_its_network_is_refused(own: Path, tmp_path: Path) -> None:
    training = make_plan(Request(read_table(str(own)))).rows[0].trainings[0]
    task = Task(tmp_path / "t", training, "d" * 64, None, None)
    assert task.outcome() is None
    JobFolder(task.folder).create()
    result = task.folder / "result.json"
    result.write_text(outcome(0, 1, 1).model_dump_json())
    with pytest.raises(CheckpointError, match="is not what this training left there; remove"):
        task.outcome()
    with pytest.raises(CheckpointError, match=r"result\.json: is of another training; remove"):
        replace(task, digest="e" * 64).outcome()
    result.write_text("{")
    with pytest.raises(CheckpointError, match=r"result\.json: "):
        task.outcome()
