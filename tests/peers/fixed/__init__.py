"""Graphs in fixed point, and Lava's own fixed-point models to run them."""

import spikescr.sim.lava  # noqa: F401  (makes Lava importable)
