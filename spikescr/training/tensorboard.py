"""Metrics for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from spikescr.extras import naming_extras
from spikescr.training.metrics import EpochMetrics


@contextmanager
def writing(folder: Path) -> Iterator[Callable[[EpochMetrics], None]]:
    """Gives a function that writes an epoch's metrics for TensorBoard.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """
    with naming_extras("writing for TensorBoard (--tensorboard)"):
        from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:

        def log(metrics: EpochMetrics) -> None:
            for name, value in asdict(metrics).items():
                if name != "epoch":
                    writer.add_scalar(name, value, metrics.epoch)
            writer.flush()

        yield log
