"""Memory of a training: what it needs at least, and on a CPU, that what is freed is kept for what is allocated next."""

from __future__ import annotations

import ctypes
import sys

from spikescr.model.config import AnyModelConfig
from spikescr.model.families import outline
from spikescr.sizes import require_memory

# Parameters of glibc's mallopt(3), from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**31 - 1  # an int of C


def keep_freed_memory() -> bool:
    """Asks the C library to give nothing back to the system before the process ends.

    By default glibc maps every large array anew, and the system zeroes its pages one fault at a time: a training step
    of 1L-8-128 at 100 steps, batch 64, takes 19,000 faults, a tenth of its time. Where windows differ in length, peak
    memory grows by about a sixth.

    Returns:
        Whether the C library is glibc and did as asked; others are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all(
        mallopt(parameter, LARGEST) == 1 for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD)
    )


def require_room(config: AnyModelConfig) -> None:
    """Refuses a network before anything of it is allocated.

    Raises:
        UsageError: its weights, the best of them, their gradients and AdamW's moments need more memory than is allowed.
    """
    parameters = sum(parameter.numel() for parameter in outline(config).parameters())
    require_memory(
        5 * 4 * parameters,
        f"training a network of {parameters:,} parameters",
        "choose smaller sizes (model.width, model.layers)",
    )
