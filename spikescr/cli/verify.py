"""`spikescr verify`: the folded PyTorch model against Lava, every layer, step, neuron and recording."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from spikescr.cli.text import percent, wide_console
from spikescr.errors import ExportError, SpikescrError
from spikescr.runs import DEFAULT_RUN, LOIHI2, RunFolder
from spikescr.workflows.deployed import Deployed, choose_recordings, open_deployed

if TYPE_CHECKING:
    import numpy as np

    from spikescr.data import Features
    from spikescr.export.reference import Trace
    from spikescr.model import Network
    from spikescr.sim.compare import Divergence, LayerComparison

ROUNDING = 1e-9  # logits are sums of some hundred float64 weights of order 1

EPILOG = """\b
Example: verify the exported graph on the test recordings, then on eight of them.
  spikescr verify
  spikescr verify --limit 8
  spikescr verify --precision loihi2
Exit status 1 when a single spike or prediction differs. Writes verify.json in the run folder.
"""


@click.command(epilog=EPILOG)
@click.option("--run", "folder", type=click.Path(path_type=Path), default=DEFAULT_RUN, show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["float64", LOIHI2]),
    default="float64",
    show_default=True,
    help="The exported network, or the one in integers (spikescr quantize).",
)
@click.option("--data", help="Data set instead of the one trained on, named as for train.")
@click.option("--split", type=click.Choice(["train", "valid", "test"]), default="test", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many recordings.")
@click.option("--recording", help="Only the recording of this name.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@click.option("--stall-seconds", type=click.FloatRange(1), default=60, show_default=True, help="Watchdog.")
def command(
    folder: Path,
    precision: str,
    data: str | None,
    split: str,
    limit: int | None,
    recording: str | None,
    batch_size: int,
    stall_seconds: float,
) -> None:
    """Compare every spike of Lava's execution with the folded PyTorch model in float64, or with that in integers."""
    from spikescr.data import load

    run = RunFolder(folder).of_precision(precision)
    run.require(run.graph)
    with run.locked():
        deployed = open_deployed(run.graph)
        model = _folded_model(run, deployed)
        items = choose_recordings(deployed, data=data, split=split, limit=limit, recording=recording)
        features = load(items, deployed.preprocessing)
        verification = _Verification(deployed, model, features, min(batch_size, len(features)), stall_seconds)
        verification.write(run, {"data": data or deployed.data, "split": split, "limit": limit, "recording": recording})
    verification.show(wide_console(), run)
    if not verification.passed:
        raise SpikescrError(
            f"{run.graph}: {verification.differing} spikes and {verification.differing_predictions} predictions differ "
            f"from PyTorch's, logits by up to {verification.logit_error:.1e}; see {run.verification}"
        )


def _folded_model(run: RunFolder, deployed: Deployed) -> Network:
    from spikescr import dialect
    from spikescr.checkpoint import load_checkpoint
    from spikescr.export.fold import fold
    from spikescr.files import sha256
    from spikescr.quantization.file import load_quantized

    checkpoint = run.require(run.checkpoint)
    if deployed.program.metadata.get(dialect.CHECKPOINT) != sha256(run.checkpoint):
        raise ExportError(
            f"{run.graph} was exported from another checkpoint than {run.checkpoint}; "
            f"export again with: {run.make_command(run.graph)}"
        )
    if deployed.program.fixed:
        return load_quantized(checkpoint, fold).model
    model, _ = load_checkpoint(checkpoint)
    return fold(model, deployed.program.dt)


class _Verification:
    def __init__(
        self, deployed: Deployed, model: Network, features: Features, batch_size: int, stall_seconds: float
    ) -> None:
        from spikescr.export.reference import trace
        from spikescr.progress import track
        from spikescr.sim.compare import compare
        from spikescr.sim.lava.backend import LavaBackend
        from spikescr.sim.run import run_batches

        self.deployed, self.features = deployed, features
        self.reference = "integers, as Loihi 2 computes" if deployed.program.fixed else "folded, float64"
        self.layers: list[LayerComparison] = []
        self.divergence: Divergence | None = None
        self.membranes: tuple[float, float] | None = None
        self.logit_error = 0.0
        self.differing_predictions = 0
        diverging: Trace | None = None
        with LavaBackend(deployed.program, batch_size, stall_seconds=stall_seconds) as backend:
            batches = run_batches(deployed.program, backend, features.values, features.steps)
            for batch in track(batches, "Verifying in Lava", -(-len(features) // batch_size)):
                expected = trace(model, features.values[batch.samples], batch.valid)
                layers, divergence = compare(deployed.program, batch.recording, expected.spikes, batch.valid)
                self.layers = [a + b for a, b in zip(self.layers, layers, strict=True)] if self.layers else layers
                self._compare_outputs(batch.output, expected.logits, batch.valid)
                if divergence is not None and self.divergence is None:
                    self.divergence, diverging = divergence, expected
                    self.position = batch.samples.start + divergence.sample
        if self.divergence is not None and diverging is not None:
            self.membranes = self._explain(self.divergence, diverging, stall_seconds)

    @property
    def differing(self) -> int:
        """Spikes that differ, all layers."""
        return sum(layer.differing for layer in self.layers)

    @property
    def passed(self) -> bool:
        """No spike and no prediction differs, and logits only by rounding."""
        return not self.differing and not self.differing_predictions and self.logit_error <= ROUNDING

    def _compare_outputs(self, executed: np.ndarray, expected: np.ndarray, valid: np.ndarray) -> None:
        from spikescr.sim.recording import predictions

        self.logit_error = max(self.logit_error, float(abs(executed - expected).max()))
        differing = predictions(executed, valid) != predictions(expected, valid)
        self.differing_predictions += int(differing.sum())

    def _explain(self, divergence: Divergence, expected: Trace, stall_seconds: float) -> tuple[float, float] | None:
        """Membranes of PyTorch and Lava at the divergence: the recording runs once more, alone, membranes recorded."""
        from spikescr.sim.lava.backend import LavaBackend
        from spikescr.sim.run import run_batches

        step, one = divergence.step, slice(self.position, self.position + 1)
        membranes = expected.membrane(divergence.layer, divergence.sample, divergence.neuron)
        if not 0 <= step < len(membranes):
            return None
        program = self.deployed.program
        with LavaBackend(program, 1, record_membranes=True, stall_seconds=stall_seconds) as backend:
            (batch,) = run_batches(program, backend, self.features.values[one], self.features.steps[one])
        executed = batch.recording.membranes[divergence.layer]
        late = program[divergence.layer].latency or 0
        return float(membranes[step]), float(executed[step + late, 0, divergence.neuron])

    def write(self, run: RunFolder, which: dict[str, Any]) -> None:
        """Writes verify.json."""
        from spikescr.files import sha256, write_text
        from spikescr.provenance import versions

        first = None
        if self.divergence is not None:
            first = asdict(self.divergence) | {"recording": self.features.names[self.position]}
            if self.membranes is not None:
                first |= dict(zip(("membrane_pytorch", "membrane_lava"), self.membranes, strict=True))
        report = {
            "recordings": len(self.features),
            "compared": sum(layer.compared for layer in self.layers),
            "spikes": sum(layer.spikes for layer in self.layers),
            "differing_spikes": self.differing,
            "differing_predictions": self.differing_predictions,
            "largest_logit_difference": self.logit_error,
            "passed": self.passed,
            "first_divergence": first,
            "layers": [
                asdict(layer) | {"firing_rate": layer.firing_rate, "silent": layer.silent} for layer in self.layers
            ],
            **which,
            "files": {path.name: sha256(path) for path in (run.graph, run.checkpoint)},
            "versions": versions("spikescr", "torch", "spikingjelly", "lava-nc", "nir", "numpy"),
        }
        write_text(run.verification, json.dumps(report, indent=1) + "\n")

    def show(self, console: Console, run: RunFolder) -> None:
        """Prints the comparison of every layer and the first divergence."""
        table = Table(title=f"Lava against PyTorch ({self.reference})", box=SIMPLE_HEAD)
        table.add_column("layer", no_wrap=True)
        for column in ("neuron-steps", "spikes", "firing rate", "differing"):
            table.add_column(column, justify="right")
        for layer in self.layers:
            rate = "silent: proves nothing" if layer.silent else percent(layer.firing_rate)
            table.add_row(layer.layer, f"{layer.compared:,}", f"{layer.spikes:,}", rate, f"{layer.differing:,}")
        console.print(table)
        if self.divergence is not None:
            console.print(self._describe(self.divergence))
        console.print(
            f"{len(self.features)} recordings: {self.differing:,} differing spikes, {self.differing_predictions} "
            f"differing predictions, largest difference of logits {self.logit_error:.1e}"
        )
        console.print(f"wrote {run.verification}")

    def _describe(self, d: Divergence) -> str:
        def fires(spike: bool) -> str:
            return "fires" if spike else "is quiet"

        text = (
            f"first divergence: {d.layer}, step {d.step}, neuron {d.neuron}, {self.features.names[self.position]}: "
            f"PyTorch {fires(d.expected)}, Lava {fires(d.executed)}"
        )
        if self.membranes is None:
            return f"{text}, outside of the recording's window"
        expected, executed = self.membranes
        return f"{text}; membranes {expected!r} and {executed!r}, apart by {abs(expected - executed):.1e}"
