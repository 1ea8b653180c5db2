"""Simulating any NIR graph on arrays in Python, and reading what a simulation counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from spikescr.progress import Notify, silent
from spikescr.workflows.running import Options, run_on

if TYPE_CHECKING:
    import nir
    from numpy.typing import ArrayLike

    from spikescr.sim.counting.saved import Audit
    from spikescr.sim.lowering.neurons import Integration, Reset
    from spikescr.sim.program import FloatArray
    from spikescr.sim.run import Run


def simulate(
    graph: nir.NIRGraph | Path | str,
    x: ArrayLike | Mapping[str, ArrayLike],
    *,
    steps: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    readout: str | None = None,
    backend: str = "fast",
    record: Collection[str] = ("spikes",),
    dt: float | None = None,
    input_signal: str | None = None,
    integration: Integration = "euler",
    round_delays: bool = False,
    batch_size: int | None = None,
    precision: str = "float64",
    stall_seconds: float = 60.0,
    reset: Reset | None = None,
    notify: Notify = silent,
) -> Run:
    """Executes a NIR graph on some samples and counts every operation of it.

    Everything that the graph's metadata tell is optional. The clock of a graph that has one is made here. Neurons are
    forward Euler, update, compare, reset (Pedersen et al., Neuromorphic intermediate representation, 2024); what is
    counted is told in docs/energy.md.

    Args:
        graph: the graph, or the path of a NIR file.
        x: of the only input (T, B, ...), or input -> (T, B, ...); `...` is the shape of the Input, or flat. One
            sample may come without its axis, (T, ...).
        steps: valid steps of each sample (B,), at most T; None for all. What x holds beyond them is not fed.
        labels: class of each sample (B,), a channel of the output each; then `accuracy` is there.
        readout: how the output over the steps becomes an answer, of "softmax_sum", "sum", "mean", "last" and "votes";
            None for that of the metadata.
        backend: "fast", "lava", or "both", compared.
        record: of "spikes" and "v" (membranes before their reset), what to keep.
        dt: seconds per step.
        input_signal: what the inputs carry, "spikes" (whole numbers, accumulated) or "values" (multiplied).
        integration: of the neurons' equations, "euler" or "exponential" (exact decay).
        round_delays: take the nearest whole step for delays that are none.
        batch_size: samples at once.
        precision: "float64", or "float32" of the fast backend.
        stall_seconds: watchdog of Lava.
        reset: of neurons of which the graph does not say it, "subtract" (v - v_threshold) or "zero"; to v_reset where
            None. docs/nir.md tells whose files need it.
        notify: called with what lowering decided and the graph does not say, a line each.

    Returns:
        A Run: outputs and spikes (T, B, N) at the samples' own steps, counts, energy in joules.

    Raises:
        GraphError: the graph cannot be read or run; the message names node, field and value.
        DataError: x does not fit the graph.
        UsageError: there is no such backend, or nothing of that name can be recorded.
        BackendError: the simulation failed while it ran.

    Example:
        >>> import nir, numpy as np, spikescr
        >>> lif = nir.LIF(tau=np.full(2, 2e-3), r=np.full(2, 2.0), v_leak=np.zeros(2), v_threshold=np.ones(2))
        >>> nodes = {"input": nir.Input(np.array([3])), "fc": nir.Linear(np.ones((2, 3))), "lif": lif,
        ...          "output": nir.Output(np.array([2]))}
        >>> graph = nir.NIRGraph(nodes, [("input", "fc"), ("fc", "lif"), ("lif", "output")])
        >>> x = np.zeros((4, 1, 3))
        >>> x[1] = 1  # three spikes at step 1: both neurons get 3
        >>> run = spikescr.simulate(graph, x, dt=1e-3, input_signal="spikes")
        >>> run.spikes["lif"][:, 0].tolist()
        [[False, False], [True, True], [False, False], [False, False]]
        >>> run.counts["ac"].sum()  # 3 spikes, 2 synapses each
        6
        >>> run.energy("executed")  # 0.9 pJ each
        array([5.4e-12])
    """
    options = Options(
        dt=dt,
        integration=integration,
        input_signal=input_signal,
        round_delays=round_delays,
        backend=backend,
        record=tuple(record),
        batch_size=batch_size,
        precision=precision,
        stall_seconds=stall_seconds,
        reset=reset,
        readout=readout,
    )

    def given(graph: nir.NIRGraph, dt: float) -> dict[str, FloatArray]:
        from spikescr.sim.inputs import shape_inputs

        return shape_inputs(x, graph, "x")

    source = Path(graph) if isinstance(graph, str | Path) else graph
    return run_on(source, given, "x", options, steps, notify=notify, labels=labels)


def audit(path: Path | str) -> Audit:
    """Reads what a simulation counted, without the graph and without running it.

    Args:
        path: an audit.npz, the folder of a simulation that holds one, or a run folder.

    Returns:
        An Audit: `energy` and `why` by any convention (docs/energy.md), `counts` by operation and step.

    Raises:
        SpikescrError: there is none, it is damaged, or a later version wrote it.

    Example:
        >>> import nir, numpy as np, spikescr
        >>> nodes = {"input": nir.Input(np.array([1])), "fc": nir.Linear(np.ones((5, 1))),
        ...          "output": nir.Output(np.array([5]))}
        >>> graph = nir.NIRGraph(nodes, [("input", "fc"), ("fc", "output")])
        >>> run = spikescr.simulate(graph, np.array([[0.5], [0.0]]), dt=1e-3)
        >>> run.save("audit.npz")
        >>> audit = spikescr.audit("audit.npz")
        >>> audit.energy("executed")  # 5 MAC of 4.6 pJ
        array([2.3e-11])
        >>> audit.why("paper", "executed")  # the step with 0 is charged by the formula
        {'zero_input': array([-2.3e-11])}
    """
    from spikescr.workflows.energy import open_audit

    return open_audit(Path(path))
