"""Simulating any NIR graph on a file of inputs, with all results in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikescr.files import replacing, replacing_together, sha256, write_csv, write_text
from spikescr.progress import Notify
from spikescr.runs import RunFolder
from spikescr.workflows.execution import count_table, prediction_table
from spikescr.workflows.running import RECORDED, Options, run_on

if TYPE_CHECKING:
    import nir
    import numpy as np

    from spikescr.sim.counting.saved import Audit
    from spikescr.sim.program import FloatArray
    from spikescr.sim.run import Run

OPTIONS = ("dt", "steps", "integration", "input_signal", "reset", "backend", "precision", "labels", "readout")
"""What an audit says of how a graph was run, by the names of the options of the command line."""


def simulate_file(
    graph: Path, data: Path, out: Path, options: Options, notify: Notify, labels: Path | None = None
) -> Run:
    """Runs a NIR file on a file of inputs and writes all that it gave to a folder.

    outputs.npz (Output: steps, samples, channels), counts.csv, summary.json, audit.npz, and what is recorded as
    spikes.h5 and v.h5 (`nir.read_data`), at executed steps; with labels predictions.csv.

    Args:
        graph: the NIR file.
        data: see `sim.inputs.read_inputs`.
        out: folder for the results, made where it is not there.
        options: how to run it.
        notify: told what lowering decided and the graph does not say.
        labels: .npy, class of each sample.

    Raises:
        SpikescrError: the graph or its input cannot be run, or the folder cannot be written.
    """

    def given(node: nir.NIRGraph, dt: float) -> dict[str, FloatArray]:
        from spikescr.sim.inputs import read_inputs

        return read_inputs(data, node, dt)

    with RunFolder(out).locked():
        run = run_on(graph, given, str(data), options, None, data, notify, labels)
        _write(out, run, options)
    return run


def run_again(audit: Audit, sample: int) -> tuple[Run, dict[str, FloatArray]] | None:
    """Runs one sample of a simulated graph again, and gives its inputs (T, 1, N), the clock aside.

    Args:
        audit: of `simulate_file`.
        sample: its number.

    Returns:
        None where the graph or the file of inputs is not where it was, or is another by its hash.
    """
    from spikescr.sim.inputs import read_inputs

    about = audit.about
    if not about.get("graph") or not about.get("data"):
        return None
    graph, data = Path(about["graph"]), Path(about["data"])
    if any(not file.is_file() or sha256(file) != about["files"][file.name] for file in (graph, data)):
        return None
    options = Options(
        dt=about["dt"],
        window=about["steps"],
        integration=about["integration"],
        input_signal=about["input_signal"],
        round_delays=about["round_delays"],
        reset=about.get("reset"),
        precision=about["precision"],
    )

    fed: dict[str, FloatArray] = {}

    def given(node: nir.NIRGraph, dt: float) -> dict[str, FloatArray]:
        fed.update((name, array[:, [sample]]) for name, array in read_inputs(data, node, dt).items())
        return fed

    run = run_on(graph, given, str(data), options, None)
    signals = about["inputs"]
    return run, {name: x for name, x in fed.items() if signals[name] != "clock"}


def _write(out: Path, run: Run, options: Options) -> None:
    """Writes all that a run gave, as one; recordings and the report of an earlier run go."""
    from spikescr.sim.run import write_arrays, write_data

    recorded = {name: f"{name}.h5" for name in RECORDED}
    names = ("outputs.npz", *recorded.values(), "counts.csv", "predictions.csv", "summary.json", "audit.npz",
             "report.html", "report.md")  # fmt: skip
    with replacing_together(out, names) as stage:
        with replacing(stage / "outputs.npz") as temporary:
            write_arrays(temporary, run.outputs)
        for name, kept in run.executed.items():
            with replacing(stage / recorded[name]) as temporary:
                write_data(temporary, name, kept, run.program)
        write_csv(stage / "counts.csv", *count_table(run.audit))
        if run.audit.labels:
            write_csv(stage / "predictions.csv", *prediction_table(run.audit))
        write_text(stage / "summary.json", json.dumps(_summary(run, options), indent=1) + "\n")
        run.save(stage / "audit.npz")


def _summary(run: Run, options: Options) -> dict[str, Any]:
    from spikescr.sim.counting import before
    from spikescr.sim.counting.energy import HOROWITZ_45NM
    from spikescr.sim.counting.results import energy, operations

    audit, program = run.audit, run.program
    return {
        "samples": audit.samples,
        "steps": program.steps,
        "valid_steps": int(audit.valid.sum()),
        "executed_steps": program.period,
        "accuracy": run.accuracy,
        "dt": program.dt,
        "integration": options.integration,
        "inputs": audit.about["inputs"],
        "notes": list(program.notes),
        "totals": audit.counts.totals(),
        "energy": energy(audit, HOROWITZ_45NM),
        "before_network": before.figures(audit, HOROWITZ_45NM),
        "operations": operations(audit, HOROWITZ_45NM),
        "backend": options.backend,
        "precision": options.precision,
        "versions": audit.about["versions"],
        "files": audit.about["files"],
        "batch_size": run.batch,
        "elapsed_seconds": run.seconds,
        "compared": named(run.compared),
        "differing": named(run.differing),
    }


def named(pair: np.ndarray) -> dict[str, int]:
    """What CrossCheck found, by name."""
    return dict(zip(("spikes", "counts"), pair.tolist(), strict=True))
