"""What all tests stand on: one thread of torch, Ctrl-C as in a terminal, notes for the end of the output."""

from __future__ import annotations

import signal
from importlib.util import find_spec

import hypothesis
import pytest

# A busy machine is no fault: tests have a limit of their own (pytest-timeout).
hypothesis.settings.register_profile("suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    """Ctrl-C as in a terminal: nohup, `&` in a script and job runners have SIGINT ignored, which children inherit."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests recorded as a `note` is said, also where they passed."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for key, value in getattr(report, "user_properties", ()):
                if key == "note" and report.when == "call":
                    terminalreporter.write_line(f"note: {report.nodeid}: {value}")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """The networks are small, and threads only get into each other's way. The simulator's tests run without torch."""
    if find_spec("torch"):
        import torch

        torch.set_num_threads(1)
