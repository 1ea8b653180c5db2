"""The Lava backend. Importing the package repairs what keeps Lava from being imported on Python 3.11."""

import spikescr.sim.lava.compat  # noqa: F401  (before any module here imports Lava)
