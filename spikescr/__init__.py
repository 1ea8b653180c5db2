"""spikescr: train SpikeSCR, export it to NIR, execute it in Lava, count every operation."""

import os
from importlib.metadata import version

# torch's OpenMP threads keep their cores for milliseconds after a product, spinning; the threads of `model.kernels`,
# whose turn it is then, would wait. libgomp reads this when torch is loaded: import spikescr before torch.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

__version__ = version("spikescr")
