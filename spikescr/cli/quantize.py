"""`spikescr quantize`: a trained network in integers, its scales chosen on recordings, fine-tuned where asked for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from spikescr.cli.console import notify, output
from spikescr.cli.text import percent, wide_console
from spikescr.errors import UsageError
from spikescr.model.config import ModelConfig
from spikescr.progress import advancing
from spikescr.runs import DEFAULT_RUN, RunFolder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spikescr.checkpoint import CheckpointInfo
    from spikescr.model import Network
    from spikescr.quantization.calibrate import Criterion
    from spikescr.quantization.finetune import Tuned
    from spikescr.quantization.measure import LayerReport
    from spikescr.quantization.scheme import Scheme
    from spikescr.training.batches import Split
    from spikescr.training.evaluate import Evaluation

EPILOG = """\b
Example: 8 bits, scales from recordings alone; then 4 bits with the head at 8, fine-tuned for ten epochs.
  spikescr quantize
  spikescr simulate --precision loihi2
  spikescr verify --precision loihi2
  spikescr quantize --bits 4 --layer-bits head=8 --finetune 10
Writes, in the run folder's loihi2/, itself a run folder: model.safetensors (levels), model.nir (the graph in integers),
quantization.json (scales, rounding, clipping, saturation, accuracy on the validation split).
"""


@click.command(epilog=EPILOG)
@click.option("--run", "folder", type=click.Path(path_type=Path), default=DEFAULT_RUN, show_default=True)
@click.option("--bits", type=click.IntRange(4, 8), default=8, show_default=True, help="Of weights.")
@click.option(
    "--layer-bits", multiple=True, metavar="NAME=BITS", help="Of the layers with this name; * stands for anything."
)
@click.option(
    "--criterion",
    type=click.Choice(["best", "range", "error"]),
    default="best",
    show_default=True,
    help="Scales from the largest weight, from the least error of currents, or from whichever is better in validation.",
)
@click.option("--recordings", type=click.IntRange(1), default=128, show_default=True, help="To calibrate with.")
@click.option("--finetune", "epochs", type=click.IntRange(0), default=0, show_default=True, help="Epochs.")
@click.option("--lr", type=click.FloatRange(0, min_open=True), default=5e-4, show_default=True, help="Of fine-tuning.")
def command(
    folder: Path, bits: int, layer_bits: tuple[str, ...], criterion: str, recordings: int, epochs: int, lr: float
) -> None:
    """Quantise the trained network to integers, exactly as Loihi 2's fixed point computes."""
    from spikescr.checkpoint import load_checkpoint
    from spikescr.export.deploy import deploy_quantized, write_graph
    from spikescr.export.fold import fold
    from spikescr.files import replacing_together, sha256, write_text
    from spikescr.quantization.file import QuantizedInfo, save_quantized

    run = RunFolder(folder)
    run.require(run.checkpoint)
    made, wanted = run.in_integers, _parsed(layer_bits)
    with made.locked():  # from the beginning: no other command changes the network meanwhile
        model, info = load_checkpoint(run.checkpoint)
        folded = fold(model, 1 / info.preprocessing.front_end.steps).float()
        splits = _Splits.of(info, recordings)
        request = _Request(folded, info, wanted, bits)
        found = _calibrated(request, splits, criterion)
        tuned = _tuned(found, splits, info, epochs, lr) if epochs else []
        report = _Report(request, found, splits, tuned, lr, len(splits.calibration))
        names = (made.checkpoint.name, made.quantization.name, *made.derived)
        with replacing_together(made.path, names) as stage:
            staged = RunFolder(stage)
            about = QuantizedInfo(
                source=info,
                source_sha256=sha256(run.checkpoint),
                layers=dict(found.scheme.layers),
                head_scale=found.scheme.head_scale,
                head_bits=found.scheme.head_bits,
                criterion=found.criterion,
                epochs=epochs,
            )
            save_quantized(staged.checkpoint, found.model, about)
            write_graph(staged.graph, deploy_quantized(staged.checkpoint))
            content = report.content(run, made, staged)
            write_text(staged.quantization, json.dumps(content, indent=1) + "\n")
    report.show()
    output().print(
        f"wrote {made.checkpoint} ({made.checkpoint.stat().st_size / 1e3:.0f} kB), {made.graph.name}, "
        f"{made.quantization.name}"
    )


@dataclass(frozen=True)
class _Splits:
    train: Split
    valid: Split
    calibration: Split

    @staticmethod
    def of(info: CheckpointInfo, recordings: int) -> _Splits:
        """The splits that may be seen: never the test recordings."""
        import torch

        from spikescr.data import load, open_data
        from spikescr.training.batches import Split
        from spikescr.training.draws import generator

        data = open_data(info.training.data, seed=info.training.seed)
        train = Split.of(load(data.split("train"), info.preprocessing))
        valid = Split.of(load(data.split("valid"), info.preprocessing))
        chosen = torch.randperm(len(train), generator=generator(info.training.seed, 3))[:recordings]
        return _Splits(train, valid, Split(train.values[chosen], train.steps[chosen], train.labels[chosen]))


@dataclass(frozen=True)
class _Request:
    folded: Network
    info: CheckpointInfo
    layer_bits: Mapping[str, int]
    bits: int


@dataclass(frozen=True)
class _Found:
    criterion: Criterion
    scheme: Scheme
    model: Network
    valid: Mapping[str, Evaluation]


def _parsed(layer_bits: Sequence[str]) -> dict[str, int]:
    found = {}
    for item in layer_bits:
        name, _, number = item.partition("=")
        if not number.isdigit() or not 4 <= int(number) <= 8:
            raise UsageError(f"--layer-bits {item}: give NAME=BITS with 4 to 8 bits, as in head=8")
        found[name] = int(number)
    return found


def _calibrated(request: _Request, splits: _Splits, criterion: str) -> _Found:
    """The better of the criteria, by validation accuracy, then loss."""
    from spikescr.quantization.calibrate import CRITERIA, calibrate
    from spikescr.quantization.scheme import in_integers
    from spikescr.training.evaluate import evaluate

    folded, training = request.folded, request.info.training
    valid = {"float": evaluate(folded, splits.valid, training.batch_size)}
    made = {}
    steps = request.info.preprocessing.front_end.window_steps
    for name in CRITERIA:
        if criterion in ("best", name):
            scheme = calibrate(
                folded, splits.calibration, criterion=name, bits=request.layer_bits, default=request.bits
            )
            made[name] = scheme, in_integers(folded, scheme, steps)
            valid[name] = evaluate(made[name][1], splits.valid, training.batch_size)
    best = max(made, key=lambda name: (valid[name].accuracy, -valid[name].loss))
    return _Found(best, *made[best], valid)


def _tuned(found: _Found, splits: _Splits, info: CheckpointInfo, epochs: int, lr: float) -> list[Tuned]:
    from spikescr.quantization.finetune import finetune

    with advancing("Fine-tuning", epochs * len(splits.train)) as advance:
        return finetune(found.model, splits.train, splits.valid, info.training, epochs=epochs, lr=lr, on_step=advance)


class _Report:
    """What was chosen and what it does."""

    def __init__(
        self, request: _Request, found: _Found, splits: _Splits, tuned: list[Tuned], lr: float, recordings: int
    ) -> None:
        from spikescr.quantization.measure import layer_reports, saturations
        from spikescr.training.evaluate import evaluate

        self.request, self.found, self.tuned, self.lr, self.recordings = request, found, tuned, lr, recordings
        self.layers: list[LayerReport] = layer_reports(request.folded, found.scheme)
        before = saturations(found.model)
        self.valid = evaluate(found.model, splits.valid, request.info.training.batch_size)
        self.saturated = {name: count - before[name] for name, count in saturations(found.model).items()}

    @property
    def _attention_error(self) -> float:
        from spikescr.quantization.scheme import attention_error

        return attention_error(self._head_width, self.request.info.preprocessing.front_end.window_steps)

    @property
    def _head_width(self) -> int:
        model = self.request.info.model
        assert isinstance(model, ModelConfig)  # the scheme refuses all others
        return model.width // model.heads

    def content(self, run: RunFolder, made: RunFolder, staged: RunFolder) -> dict[str, Any]:
        """For quantization.json; staged: where the files of `made` are now."""
        from spikescr.files import sha256
        from spikescr.provenance import versions
        from spikescr.quantization.finetune import best_of

        info, found = self.request.info, self.found
        return {
            "bits": self.request.bits,
            "layer_bits": dict(self.request.layer_bits),
            "criterion": found.criterion,
            "recordings": self.recordings,
            "validation": {name: asdict(result) for name, result in {**found.valid, "result": self.valid}.items()},
            "finetuning": [asdict(result) for result in self.tuned],
            "finetuned_epoch": best_of(self.tuned).epoch if self.tuned else None,
            "lr": self.lr if self.tuned else None,
            "layers": [asdict(layer) for layer in self.layers],
            "head_scale": found.scheme.head_scale,
            "input_step": next(iter(found.scheme.layers.values())).input_step,
            "attention_threshold_error": self._attention_error,
            "saturated": self.saturated,
            "seed": info.training.seed,
            "files": {
                run.checkpoint.name: sha256(run.checkpoint),
                f"{made.path.name}/{made.checkpoint.name}": sha256(staged.checkpoint),
                f"{made.path.name}/{made.graph.name}": sha256(staged.graph),
            },
            "versions": versions("spikescr", "torch", "numpy", "nir"),
        }

    def show(self) -> None:
        """Prints layers and accuracy."""
        table = Table(title="Weights in integers", box=SIMPLE_HEAD)
        table.add_column("layer", no_wrap=True)
        for heading in ("weights", "bits", "exponent", "units / threshold", "clipped", "to zero", "rms error"):
            table.add_column(heading, justify="right")
        for layer in self.layers:
            theta = "" if layer.theta is None else f"{layer.theta:,}"
            table.add_row(
                layer.layer, f"{layer.weights:,}", str(layer.bits), str(layer.exponent), theta, f"{layer.clipped:,}",
                f"{layer.zeroed:,}", percent(layer.error),
            )  # fmt: skip
        console = wide_console()
        console.print(table)
        for name, result in self.found.valid.items():
            chosen = " (chosen)" if name == self.found.criterion else ""
            console.print(f"validation, {name}{chosen}: {percent(result.accuracy)}, loss {result.loss:.4f}")
        if self.tuned:
            from spikescr.quantization.finetune import best_of

            best = best_of(self.tuned)
            console.print(
                f"validation, fine-tuned (epoch {best.epoch} of {len(self.tuned) - 1}): "
                f"{percent(best.valid.accuracy)}, loss {best.valid.loss:.4f}"
            )
        if self._attention_error:
            notify(
                f"heads of {self._head_width} channels: the scale of "
                f"attention is no power of two; its threshold is off by {percent(self._attention_error)}"
            )
        full = {name: count for name, count in self.saturated.items() if count}
        console.print(f"saturated on the validation split: {sum(self.saturated.values()):,} currents and membranes")
        for name, count in full.items():
            console.print(f"  {name}: {count:,}")
