"""python -m spikescr; `accelerate launch -m spikescr train` starts it in several processes."""

from spikescr.cli import main

main(prog_name="spikescr")
