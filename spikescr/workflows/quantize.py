"""A trained network made one in integers: calibrated on recordings, fine-tuned where asked for, measured, written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from spikescr.checkpoint import CheckpointInfo, load_checkpoint
from spikescr.data import DataSet, load, open_data
from spikescr.errors import UsageError
from spikescr.export.deploy import deploy_quantized, write_graph
from spikescr.export.fold import fold
from spikescr.files import replacing_together, sha256, write_text
from spikescr.model import Network
from spikescr.model.config import ModelConfig
from spikescr.provenance import versions
from spikescr.quantities import percent
from spikescr.quantization.calibrate import CRITERIA, Criterion, calibrate
from spikescr.quantization.file import QuantizedInfo, decays, save_quantized
from spikescr.quantization.finetune import Tuned, best_of, finetune
from spikescr.quantization.measure import LayerReport, layer_reports, saturations
from spikescr.quantization.scheme import Scheme, attention_error, in_integers
from spikescr.runs import FINETUNING, RunFolder
from spikescr.tables import ShortTable, ShowsTable
from spikescr.training.batches import Split
from spikescr.training.draws import generator
from spikescr.training.evaluate import Evaluation, evaluate
from spikescr.training.running import Progress
from spikescr.training.sources import open_source


@dataclass(frozen=True, repr=False)
class Quantization(ShowsTable):
    """What was chosen to make a network one in integers, and what that does.

    Attributes:
        bits: Of weights, but for `layer_bits`.
        layer_bits: Of layers, by pattern of their names.
        criterion: By which the scales were chosen.
        scheme: The scales.
        recordings: To calibrate with.
        layers: Rounding and clipping of each layer's weights.
        valid: On the validation split: of the network in real numbers ("float"), by each criterion that was tried.
        result: On the validation split, of the network that was written.
        tuned: Epochs of fine-tuning, the network as it came first; empty without.
        lr: Of fine-tuning.
        saturated: On the validation split, currents and membranes of each layer that left their range.
        attention_error: By which share the attention's threshold is off; 0 where a head's width is a square, and
            without attention.
        head_width: Channels of an attention head; None without attention.
        info: Of the network in real numbers.
    """

    bits: int
    layer_bits: Mapping[str, int]
    criterion: Criterion
    scheme: Scheme
    recordings: int
    layers: tuple[LayerReport, ...]
    valid: Mapping[str, Evaluation]
    result: Evaluation
    tuned: tuple[Tuned, ...]
    lr: float
    saturated: Mapping[str, int]
    attention_error: float
    head_width: int | None
    info: CheckpointInfo

    @property
    def best(self) -> Tuned | None:
        """The epoch of fine-tuning whose weights are kept, None without."""
        return best_of(list(self.tuned)) if self.tuned else None

    def as_json(self) -> dict[str, Any]:
        """What quantization.json holds but for files and versions."""
        best = self.best
        return {
            "bits": self.bits,
            "layer_bits": dict(self.layer_bits),
            "criterion": self.criterion,
            "recordings": self.recordings,
            "validation": {name: asdict(result) for name, result in {**self.valid, "result": self.result}.items()},
            "finetuning": [asdict(result) for result in self.tuned],
            "finetuned_epoch": None if best is None else best.epoch,
            "lr": self.lr if self.tuned else None,
            "layers": [asdict(layer) for layer in self.layers],
            "head_scale": self.scheme.head_scale,
            "input_step": next(iter(self.scheme.layers.values())).input_step,
            "attention_threshold_error": self.attention_error,
            "saturated": dict(self.saturated),
            "seed": self.info.training.seed,
        }

    def short_table(self) -> ShortTable:
        """Weights, bits and rounding of each layer; accuracy before and after."""
        rows = [(r.layer, f"{r.weights:,}", str(r.bits), f"{r.clipped:,}", percent(r.error)) for r in self.layers]
        before, after = self.valid["float"].accuracy, self.result.accuracy
        note = f"validation: {percent(before)} in real numbers, {percent(after)} in integers"
        columns = ("layer", "weights", "bits", "clipped", "rms error")
        return ShortTable("Weights in integers", columns, rows, (note,))


def quantize_run(
    run: RunFolder,
    *,
    bits: int = 8,
    layer_bits: Mapping[str, int] | None = None,
    criterion: Literal["best", "range", "error"] = "best",
    recordings: int = 128,
    epochs: int = 0,
    lr: float = 5e-4,
    resume: bool = False,
    on_step: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> Quantization | None:
    """Quantizes a run's network, exactly as Loihi 2's fixed point computes, into the run folder's loihi2/.

    Args:
        run: with a checkpoint. Its training and validation splits are read, never the test recordings.
        bits: of weights, 4 to 8.
        layer_bits: of the layers whose names fit a pattern (* stands for anything).
        criterion: scales from the largest weight ("range"), from the least error of currents ("error"), or from
            whichever is better in validation.
        recordings: of the training split, to calibrate with.
        epochs: of fine-tuning.
        lr: its learning rate, at first.
        resume: continue the fine-tuning that `stop` or a kill ended, from the beginning where there is none.
        on_step: called after every optimisation step of it.
        stop: asked after every one; True ends it, its state is kept and nothing else written.

    Returns:
        What was chosen and does; None where `stop` ended the fine-tuning.

    Raises:
        UsageError: `run` is a file.
        SpikescrError: the network cannot be quantized, a pattern fits no layer, or the loss is no number any more.
    """
    if run.path.is_file():
        raise UsageError(
            f"{run.path}: quantize takes a run folder, whose layers and recordings it knows, not a network of your "
            "own; a chain of its layers becomes integers by spikescr export --to netx --graph FILE.nir"
        )
    run.require(run.checkpoint)
    made = run.in_integers
    with made.locked():  # from the beginning: no other command changes the network meanwhile
        model, info = load_checkpoint(run.checkpoint)
        steps = info.preprocessing.front_end.window_steps
        folded = fold(model, 1 / info.preprocessing.front_end.steps).float()
        data = open_data(info.training.data, seed=info.training.seed)
        valid = Split.from_features(load(data.split("valid"), info.preprocessing))
        calibration = _calibration(data, info, recordings)
        tried = {"float": evaluate(folded, valid, info.training.batch_size, loss=info.training.loss)}
        networks: dict[Criterion, tuple[Scheme, Network]] = {}
        for name in CRITERIA:
            if criterion in ("best", name):
                scheme = calibrate(folded, calibration, criterion=name, bits=layer_bits or {}, default=bits)
                networks[name] = scheme, in_integers(folded, scheme, steps)
                tried[name] = evaluate(networks[name][1], valid, info.training.batch_size, loss=info.training.loss)
        chosen = max(networks, key=lambda name: (tried[name].accuracy, -tried[name].loss))
        scheme, network = networks[chosen]
        tuned: list[Tuned] = []
        if epochs:
            source = open_source(data, info.preprocessing, info.training.augmentation, seed=info.training.seed)
            trained = finetune(
                network, scheme, source, valid, info, made.finetuning,
                epochs=epochs, lr=lr, resume=resume, on_step=on_step, stop=stop,
            )  # fmt: skip
            if trained.interrupted:
                return None
            tuned = list(trained.epochs)
        before = saturations(network)
        result = evaluate(network, valid, info.training.batch_size, loss=info.training.loss)
        after = saturations(network)
        width = info.model.width // info.model.heads if isinstance(info.model, ModelConfig) else None
        quantization = Quantization(
            bits=bits,
            layer_bits=layer_bits or {},
            criterion=chosen,
            scheme=scheme,
            recordings=len(calibration),
            layers=tuple(layer_reports(folded, scheme)),
            valid=tried,
            result=result,
            tuned=tuple(tuned),
            lr=lr,
            saturated={name: count - before[name] for name, count in after.items()},
            attention_error=0.0 if width is None else attention_error(width, steps),
            head_width=width,
            info=info,
        )
        _write(run, made, network, quantization, epochs)
    return quantization


def _calibration(data: DataSet, info: CheckpointInfo, recordings: int) -> Split:
    """The part of the training split to calibrate with."""
    train = data.split("train")
    chosen = torch.randperm(len(train), generator=generator(info.training.seed, 3))[:recordings]
    return Split.from_features(load([train[i] for i in chosen.tolist()], info.preprocessing))


def _write(run: RunFolder, made: RunFolder, network: Network, quantization: Quantization, epochs: int) -> None:
    info = QuantizedInfo(
        source=quantization.info,
        source_sha256=sha256(run.checkpoint),
        layers=dict(quantization.scheme.layers),
        head_scale=quantization.scheme.head_scale,
        head_bits=quantization.scheme.head_bits,
        criterion=quantization.criterion,
        epochs=epochs,
        decays=decays(network),
    )
    names = (made.checkpoint.name, made.quantization.name, FINETUNING, *made.derived)
    with replacing_together(made.path, names) as stage:
        staged = RunFolder(stage)
        save_quantized(staged.checkpoint, network, info)
        write_graph(staged.graph, deploy_quantized(staged.checkpoint))
        files = {
            run.checkpoint.name: sha256(run.checkpoint),
            f"{made.path.name}/{made.checkpoint.name}": sha256(staged.checkpoint),
            f"{made.path.name}/{made.graph.name}": sha256(staged.graph),
        }
        report = {**quantization.as_json(), "files": files, "versions": versions("spikescr", "torch", "numpy", "nir")}
        write_text(staged.quantization, json.dumps(report, indent=1) + "\n")
