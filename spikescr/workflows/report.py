"""The report: a page about runs, and the same as Markdown, from their audits."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikescr.documents import read_model
from spikescr.errors import GraphError, SpikescrError, UsageError
from spikescr.files import replacing_together, sha256, write_text
from spikescr.quantities import si
from spikescr.runs import RunFolder
from spikescr.sim.counting.before import FRONT_END
from spikescr.workflows.energy import audit_file, open_audit

if TYPE_CHECKING:
    from spikescr.data import Preprocessing
    from spikescr.data.frontend import Frames
    from spikescr.sim.counting.energy import Constants, EnergyCost
    from spikescr.sim.counting.saved import Audit
    from spikescr.sim.report.document import Section
    from spikescr.sim.report.raster import Picture
    from spikescr.sim.report.subject import Example, Provenance
    from spikescr.training.config import TrainConfig


def write_report(
    runs: Sequence[Path],
    known: Constants,
    cost: str,
    *,
    out: Path | None = None,
    recording: str | None = None,
    draw: bool = True,
) -> tuple[Path, Path]:
    """Writes report.html, which opens from disk and loads nothing, and report.md with the same numbers.

    Args:
        runs: run folders, or folders of simulations of other graphs; the page is about the first, beside the others.
        known: constants for the tables of other constants and of memory.
        cost: name of those of all energy figures.
        out: folder to write to, made where it is not there; None for the first of the runs.
        recording: recording (or sample) to draw; None for the simulation's first.
        draw: whether to draw one at all; without, neither graph nor recordings are needed.

    Returns:
        The two files.

    Raises:
        UsageError: the simulation has no such recording.
        SpikescrError: a run has no audit, or the graph is another one than was simulated.
    """
    from spikescr.sim.report.content import document
    from spikescr.sim.report.html import page
    from spikescr.sim.report.markdown import markdown
    from spikescr.sim.report.subject import Run

    folders = [RunFolder(path) for path in runs]
    target = folders[0] if out is None else RunFolder(out)
    for path in runs:
        audit_file(path)
    with ExitStack() as stack:
        stack.enter_context(target.locked())
        for folder in folders:
            stack.enter_context(folder.reading())
        audited_runs = [Run(str(path), open_audit(path)) for path in runs]
        audit = audited_runs[0].audit
        if audit.labels and "graph" not in audit.about:
            example = _example(folders[0], audit, recording) if draw else None
            chip, provenance = _chip(folders[0], audit, known.costs[cost]), _provenance(folders[0], audit)
        else:
            example = _sample(audit, recording) if draw else None
            chip = _chip_of_graph(audit, known.costs[cost])
            provenance = _provenance_of_graph(folders[0].path, audit)
        content = document(audited_runs, known.costs[cost], known, example, provenance, chip)
        with replacing_together(target.path, [target.report.name, target.report_text.name]) as stage:
            write_text(stage / target.report.name, page(content))
            write_text(stage / target.report_text.name, markdown(content))
    return target.report, target.report_text


def _chip(run: RunFolder, audit: Audit, cost: EnergyCost) -> Section | None:
    """The run's graph on Loihi 2, None where the graph that was simulated is not there."""
    from spikescr.sim.report.chip import placement
    from spikescr.workflows.fit import fit_run

    if not run.graph.exists() or sha256(run.graph) != audit.about.get("files", {}).get(run.graph.name):
        return None
    return placement(fit_run(run), _executed(audit, cost), audit.noun[:-1])


def _chip_of_graph(audit: Audit, cost: EnergyCost) -> Section | None:
    """The same of any graph that was simulated from a file."""
    from spikescr.sim.lowering.graph_file import read_graph
    from spikescr.sim.report.chip import not_placed, placement
    from spikescr.workflows.fit import fit

    path = Path(audit.about.get("graph") or "")
    if not path.is_file() or sha256(path) != audit.about["files"][path.name]:
        return None
    graph = read_graph(path, type_check=False)  # nir refuses grouped convolutions; lowering checks shapes
    graph.metadata.setdefault("dt", audit.dt)  # as it was simulated with
    try:
        return placement(fit(graph, audit=audit), _executed(audit, cost), audit.noun[:-1])
    except GraphError as error:
        return not_placed(str(error))


def _executed(audit: Audit, cost: EnergyCost) -> float:
    """Energy of a recording's executed operations, J."""
    return float(cost.joules(*audit.charge("executed").sum(axis=0).tolist())) / audit.samples


def _example(run: RunFolder, audit: Audit, recording: str | None) -> Example:
    """Executes a recording of the simulation again and keeps its spikes.

    Raises:
        UsageError: the simulation has no such recording.
        SpikescrError: the graph is another one than was simulated.
    """
    import threadpoolctl

    from spikescr.data import load
    from spikescr.data.dataset import NO_LABEL
    from spikescr.sim.counting.account import layer_of
    from spikescr.sim.counting.decisions import final_steps
    from spikescr.sim.fast.backend import FastBackend
    from spikescr.sim.program import Neuron
    from spikescr.sim.recording import predictions
    from spikescr.sim.report.subject import Example
    from spikescr.sim.run import run_batches
    from spikescr.workflows.deployed import choose_recordings, open_deployed

    name = audit.recordings[0] if recording is None else recording
    if name not in audit.recordings:
        raise UsageError(
            f"recording (--recording) {name}: is not in {run.audit}; its recordings are named like "
            f"{audit.recordings[0]}"
        )
    graph = run.require(run.graph)
    if sha256(graph) != audit.about["files"][run.graph.name]:
        raise SpikescrError(f"{graph} is another graph than was simulated; {run.make_command(run.audit)} again")
    deployed = open_deployed(graph)
    items = choose_recordings(deployed, data=audit.about["data"], split="test", limit=None, recording=name)
    features = load(items, deployed.preprocessing)
    dtype = "float32" if audit.about["precision"] == "float32" else "float64"
    with threadpoolctl.threadpool_limits(1), FastBackend(deployed.program, 1, dtype=dtype) as fast:
        (batch,) = run_batches(deployed.program, fast, features.values, features.steps)
        steps = int(features.steps[0])
        spikes = {}
        for operation in deployed.program.of_type(Neuron):
            late = operation.latency or 0
            spikes[layer_of(operation.name)] = batch.recording.spikes[operation.name][late : late + steps, 0].copy()
    return Example(
        name=name,
        label=None if items[0].label == NO_LABEL else deployed.classes[items[0].label],
        predicted=deployed.classes[int(predictions(batch.output, features.steps)[0])],
        final=int(final_steps(batch.output, features.steps)[0]),
        picture=_picture(features.values[0, :steps], deployed.preprocessing),
        spikes=spikes,
    )


def _picture(frames: Frames, preprocessing: Preprocessing) -> Picture:
    """The input of a recording as people know it: dB over frequency, or spikes per channel."""
    import numpy as np
    from librosa import mel_frequencies

    from spikescr.data import SpikeBins
    from spikescr.data.preprocessing import Normaliser
    from spikescr.sim.report.raster import Picture

    front_end, normaliser = preprocessing.front_end, preprocessing.normaliser
    levels = frames.astype(np.float64)
    if isinstance(front_end, SpikeBins):
        size = front_end.units // front_end.bands
        marks = tuple((float(k), f"unit {k * size}") for k in range(0, front_end.bands, max(1, front_end.bands // 4)))
        return Picture("Input spikes", f"per step and {size} units", levels, marks)
    assert normaliser is not None, "Preprocessing has one wherever the input is log-mel"
    hertz = mel_frequencies(n_mels=front_end.bands + 2, fmin=front_end.fmin, fmax=front_end.fmax)[1:-1]
    marks = tuple(
        (float(np.interp(value, hertz, np.arange(len(hertz)))), si(value, "Hz"))
        for value in (250, 500, 1000, 2000, 4000, 8000)
        if hertz[0] <= value <= hertz[-1]
    )
    if preprocessing.coder is not None:
        events = levels.reshape(len(levels), -1, front_end.bands).sum(axis=1)
        return Picture("Input spikes", "per step and mel band", events, marks)
    unit = "deviations from the recording's mean"
    if isinstance(normaliser, Normaliser):
        levels, unit = levels * np.array(normaliser.std) + np.array(normaliser.mean), "dB relative to full scale"
    levels = levels.reshape(len(levels), front_end.frames_per_step, front_end.bands).mean(axis=1)
    return Picture("Log-mel spectrogram", unit, levels, marks)


def _sample(audit: Audit, name: str | None) -> Example | None:
    """Executes a sample of a simulated graph again and keeps its spikes; None where that graph or its input is gone.

    Raises:
        UsageError: the simulation has no such sample.
        SpikescrError: a sample was named, and what it takes to run it again is not there.
    """
    from spikescr.sim.program import Neuron
    from spikescr.sim.report.raster import Picture
    from spikescr.sim.report.subject import Example
    from spikescr.workflows.simulate_file import run_again

    chosen = name or audit.recordings[0]
    if chosen not in audit.recordings:
        raise UsageError(f"recording (--recording) {name}: samples are numbered from 0 to {audit.samples - 1}")
    again = run_again(audit, audit.recordings.index(chosen))
    if again is None:
        if name is not None:
            raise SpikescrError("the graph or its input is not where it was, or has changed; simulate again")
        return None
    run, inputs = again
    steps = int(run.audit.valid[0])
    spikes = {o.name: run.spikes[o.name][:steps, 0] for o in run.program.of_type(Neuron)}
    levels = next(iter(inputs.values()))[:steps, 0]
    marks = tuple((float(k), f"channel {k}") for k in range(0, levels.shape[1], max(1, -(-levels.shape[1] // 4))))
    signal = audit.about["inputs"][next(iter(inputs))]
    title = "Input" if len(inputs) == 1 else f"Input {next(iter(inputs))}"
    picture = Picture(title, f"{signal} per step and channel", levels, marks)
    if not spikes:
        return None
    if not audit.labels:
        return Example(f"Sample {chosen}", None, None, None, picture, spikes)
    at = audit.recordings.index(chosen)
    answer = (audit.labels[at], audit.predicted[at], int(audit.decisions[at, 0]))
    return Example(f"Sample {chosen}", *answer, picture, spikes)


def _provenance_of_graph(folder: Path, audit: Audit) -> Provenance:
    """Where the simulation of any graph comes from."""
    from spikescr.sim.report.subject import Provenance
    from spikescr.workflows.simulate_file import OPTIONS

    about = dict(audit.about)
    versions, hashes = about.pop("versions", {}), about.pop("files", {})
    commands = []
    if about.get("graph") and about.get("data"):
        options = [f"--input={about['data']}", f"--out={folder}"]
        options += [f"--{key.replace('_', '-')}={about[key]}" for key in OPTIONS if about.get(key) is not None]
        options += ["--round-delays"] if about.get("round_delays") else []
        commands = [
            shlex.join(["spikescr", "simulate", about["graph"], *options]),
            shlex.join(["spikescr", "report", str(folder)]),
        ]
    inputs, fed = about.pop("inputs", {}), about.pop("input", None)
    about.pop(FRONT_END, None)  # it has a section of its own
    facts = [(f"simulation: {key.replace('_', ' ')}", str(value)) for key, value in about.items() if value]
    facts += [(f"input {name}", f"carries {signal}") for name, signal in inputs.items()]
    facts += [(f"version of {package}", str(number)) for package, number in versions.items()]
    facts += [(f"SHA-256 of {file}", str(digest)) for file, digest in hashes.items()]
    facts += [("SHA-256 of all that was fed", fed)] if fed else []
    return Provenance(tuple(commands), tuple(facts))


def _provenance(run: RunFolder, audit: Audit) -> Provenance:
    """Where a run comes from, as far as its folder and its audit tell."""
    from spikescr.sim.report.subject import Provenance
    from spikescr.training.recipes import shown

    about: dict[str, Any] = dict(audit.about)
    versions, hashes = about.pop("versions"), about.pop("files")
    about.pop(FRONT_END, None)  # it has a section of its own
    commands, facts = [], []
    if run.config.exists():
        config = _configuration(run)
        commands.append(_training(run, config))
        facts = [(f"training: {key}", value) for key, value in shown(config)]
    names = ("split", "limit", "recording", "precision", "backend", "data")
    options = [f"--{name}={about[name]}" for name in names if about.get(name) is not None]
    commands += [_typed("export", run, ["--to=nir"]), _typed("simulate", run, options)]
    commands.append(shlex.join(["spikescr", "report", str(run.path)]))
    facts += [(f"simulation: {key}", str(value)) for key, value in about.items() if value is not None]
    facts += [(f"version of {package}", str(number)) for package, number in versions.items()]
    facts += [(f"SHA-256 of {file}", str(digest)) for file, digest in hashes.items()]
    return Provenance(tuple(commands), tuple(facts))


def _configuration(run: RunFolder) -> TrainConfig:
    from spikescr.training.config import TrainConfig

    return read_model(run.config, TrainConfig, f"make it again: {run.make_command(run.config)}")


def _training(run: RunFolder, config: TrainConfig) -> str:
    """The command that trains like this: the recipe that is closest, and what differs from it."""
    from spikescr.training.config import TrainConfig
    from spikescr.training.recipes import ELSEWHERE, read_recipe, recipe_names, resolve, shown

    if config.distillation is not None:
        return run.make_command(run.config)
    wanted, candidates = dict(shown(config)), list[list[str]]()
    for name in recipe_names("train"):
        recipe = read_recipe("train", name)
        if config.data.partition(":")[0] in recipe.kinds:
            base = dict(shown(resolve(recipe, TrainConfig, [], options={}, data=config.data)))
            # Another family begins with its own sizes, so that all are told.
            other = base["model.family"] != wanted["model.family"]
            told = [key for key in wanted if base.get(key) != wanted[key] or (other and key.startswith("model."))]
            candidates.append([name, *(f"{key}={wanted[key]}" for key in told if key not in ELSEWHERE)])
    options = [f"--data={config.data}", f"--seed={config.seed}"]
    return _typed("train", run, min(candidates, key=len) + options)


def _typed(name: str, run: RunFolder, options: list[str]) -> str:
    return shlex.join(["spikescr", name, f"--run={run.path}", *options])
