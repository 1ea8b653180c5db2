"""spikescr: train SpikeSCR, export it to NIR, execute it in Lava, count every operation."""

from importlib.metadata import version

__version__ = version("spikescr")
