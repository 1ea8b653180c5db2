"""What all tests stand on: one thread of torch, Ctrl-C as in a terminal, notes for the end of the output."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator
from types import FrameType

import hypothesis
import pytest

# Networks are small here: threads would only wait for each other, busily, and children inherit this.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"

# Large pages, for workers and children: a third of the processor's time went to faults of small ones.
os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")

# A busy machine is no fault: tests have a limit of their own (pytest-timeout).
hypothesis.settings.register_profile("suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    """Ctrl-C as in a terminal: nohup, `&` in a script and job runners have SIGINT ignored, which children inherit."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What is imported stays: no collection of garbage looks at it again, nor copies its pages after a fork."""
    gc.collect()
    gc.freeze()


class OutOfTime(BaseException):
    """A test's limit is over. pytest's own failure would be an example to Hypothesis, to be shrunk, without a limit."""


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer() -> Generator[None, bool, bool]:
    """The limit ends a test of properties as it ends any other."""
    done = yield
    end = signal.getsignal(signal.SIGALRM)

    def end_whole_test(number: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        try:
            end(number, frame)
        except pytest.fail.Exception as error:
            raise OutOfTime(str(error)) from None

    if callable(end):  # not where pytest-timeout has a thread of its own for it
        signal.signal(signal.SIGALRM, end_whole_test)
    return done


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests marked slow or lava first: what starts last keeps one core busy and the others idle."""
    dear = {item.path for item in items if any(item.iter_markers("slow")) or any(item.iter_markers("lava"))}
    items.sort(key=lambda item: item.path not in dear)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests recorded as a `note` is said, also where they passed."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for key, value in getattr(report, "user_properties", ()):
                if key == "note" and report.when == "call":
                    terminalreporter.write_line(f"note: {report.nodeid}: {value}")
