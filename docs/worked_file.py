"""Writes the small file that nir.md goes through, and prints what it does: python docs/worked_file.py tiny.nir."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from spikescr.export.builder import GraphBuilder
from spikescr.export.deploy import write_graph
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lowering.graph_file import read_graph
from spikescr.sim.lowering.lower import lower

build = GraphBuilder(dt=0.025)
events = build.input("input", 2, "spikes")
kernel = np.array([[[0.25, 0.5, 0.25], [0.0, 0.75, 0.0]], [[-0.5, 0.5, 0.0], [0.5, 0.25, 0.5]]])  # (out, in, taps)
current = build.convolution("conv", events, kernel, np.array([0.125, 0.25]))
build.output("output", build.linear("head", build.lif("conv.lif", current), np.array([[1.0, -0.5]]), None))
path = Path(sys.argv[1])
write_graph(path, build.graph({"spikescr.format": 1, "spikescr.dt": build.dt, "spikescr.steps": 4}))

program = lower(read_graph(path))
x = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
clock = np.array([[1], [1], [1], [0]])  # three valid steps of a window of four
backend = FastBackend(program, 1, record_membranes=True)
run = backend.run({"input": x[:, None].astype(float), "clock": clock[:, None].astype(float)})
print("step  input  clock  v of conv.lif     spikes  output")
for step in range(program.period):
    given = f"{x[step]!s:5}  {clock[step, 0]:5d}" if step < len(x) else f"{'':5}  {'':5}"
    v, spikes = run.membranes["conv.lif"][step, 0], run.spikes["conv.lif"][step, 0].astype(int)
    values = " ".join(f"{value:8.6f}" for value in v)
    print(f"{step:4d}  {given}  {values}  {spikes!s:6}  {run.outputs['output'][step, 0, 0]:6g}")
