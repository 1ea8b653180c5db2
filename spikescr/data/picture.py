"""A recording before and after augmentation, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikescr.errors import UsageError
from spikescr.files import replacing


def draw(
    path: Path, title: str, panels: Sequence[tuple[str, npt.NDArray[np.float32]]], *, steps: int, counts: bool
) -> None:
    """Draw inputs one below the other, with the same colours.

    Args:
        path: The picture; its suffix tells the format.
        title: Of the whole.
        panels: Caption and input (L, C) of each.
        steps: Per second.
        counts: Spike counts, else normalised log-mel, whose 0 is the mean.

    Raises:
        UsageError: matplotlib does not know the format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1 + 1.7 * len(panels)), layout="constrained")
    known = FigureCanvasAgg(figure).get_supported_filetypes()
    if path.suffix[1:] not in known:
        raise UsageError(f"{path}: choose a suffix that tells the format: {', '.join(sorted(known))}")
    figure.suptitle(title)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    low, high = (0, max([1, *(x.max() for _, x in panels)])) if counts else (-3, 3)
    for axis, (caption, x) in zip(axes, panels, strict=True):
        image = axis.imshow(
            x.T,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            cmap="Greys" if counts else "RdBu_r",
            vmin=low,
            vmax=high,
            extent=(0, len(x) / steps, 0, x.shape[1]),
        )
        axis.set_title(caption, fontsize="medium", loc="left")
        axis.set_ylabel("channel")
    axes[-1].set_xlabel("time (s)")
    figure.colorbar(image, ax=list(axes), label="spikes per bin" if counts else "level over the mean (std)")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
