from __future__ import annotations

import contextlib
import sys

import pytest
from rich.console import Console

from spikescr.cli.console import Bars
from spikescr.progress import advancing, listening, tell, track

Told = list[tuple[object, ...]]


def test_track_tells_whoever_listens_however_deep() -> None:
    told: Told = []
    with listening(lambda *what: told.append(what)):
        assert list(track("ab", "Reading", 2)) == ["a", "b"]
    assert told == [("Reading", 0, 2), ("Reading", 1, 2), ("Reading", 2, 2), ("Reading", 2, 2)]
    assert list(track("ab", "Reading", 2)) == ["a", "b"]
    assert len(told) == 4


def test_a_task_ends_where_its_loop_is_left() -> None:
    told: Told = []
    with listening(lambda *what: told.append(what)):
        for _ in track("abc", "Reading", 3):
            break
        with contextlib.suppress(ZeroDivisionError), advancing("Simulating", 10) as advance:
            advance(4)
            raise ZeroDivisionError
    assert told == [("Reading", 0, 3), ("Reading", 3, 3)] + [("Simulating", n, 10) for n in (0, 4, 10)]


def test_bars_stand_on_a_terminal_while_something_is_to_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    console = Console(force_terminal=True, width=80, record=True)
    monkeypatch.setattr("spikescr.cli.console.notices", lambda: console)
    bars = Bars()
    with listening(bars):
        tell("Training", 1, 4, "loss 0.5")
        tell("Reading", 1, 2)
        assert bars._display is not None
        assert {task.description for task in bars._display.tasks} == {"Training", "Reading"}
        bars._display.refresh()
        tell("Reading", 2, 2)
        assert [task.fields["detail"] for task in bars._display.tasks] == ["loss 0.5"]
        tell("Training", 4, 4)
    assert bars._display is None
    assert "loss 0.5" in console.export_text()


def test_bars_are_quiet_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars()
    with listening(bars):
        list(track("ab", "Reading", 2))
    bars.close()
    assert capsys.readouterr() == ("", "")
