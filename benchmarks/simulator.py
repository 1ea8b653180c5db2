"""Speed of the backends, side by side on the same network and recordings: fast, Lava, PyTorch, stock Lava.

    python benchmarks/simulator.py [--quick] [--json FILE] [--plot FILE]

Networks are untrained; batch normalisation is calibrated on the generated input, so that every layer fires. All take
turns, round by round, so that a drift of the machine's speed touches all; ratios are medians of ratios within a round.
Workers are processes with one BLAS thread each, on recordings of their own; counting is always on.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import numpy as np
import threadpoolctl
import torch
from networks import firing_network
from rich.console import Console
from rich.table import Table
from stock_network import stock_neuron
from torch import nn

from spikescr.export.fold import fold
from spikescr.export.reference import trace
from spikescr.files import write_text
from spikescr.model import LIF, ModelConfig, SpikeSCR
from spikescr.provenance import versions
from spikescr.sim.compare import compare
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lava.backend import LavaBackend
from spikescr.sim.program import Neuron, Program, Synapse
from spikescr.sim.run import run_batches

CONFIGS = {"1L-8-128": ModelConfig(dropout=0.0), "2L-16-256": ModelConfig(layers=2, heads=16, width=256, dropout=0.0,
                                                                         mlp_ratio=4)}  # fmt: skip
FAST_ROWS = 1600  # rows of a batch: more samples of a short window, fewer of a long one
LAVA_BATCH = 64
START_UP_LIMIT = 300  # seconds; kernels that are not in the cache yet are compiled


@dataclass(frozen=True)
class Setting:
    """A folded model, its program, and recordings: values (samples, T, C), valid steps (samples,)."""

    name: str
    steps: int
    model: SpikeSCR
    program: Program
    values: np.ndarray
    valid: np.ndarray

    @property
    def fast_batch(self) -> int:
        """Samples of a batch of the fast backend."""
        return max(4, FAST_ROWS // self.steps)


def setting(name: str, steps: int, samples: int, seed: int, config: ModelConfig | None = None) -> Setting:
    """A network that fires, calibrated on recordings made from `seed`."""
    network = firing_network(config or CONFIGS[name], steps=steps, samples=samples, seed=seed)
    folded = fold(network.model)
    title, program = f"{name}, {steps} steps", network.program(folded)
    return Setting(title, steps, folded, program, network.values, network.valid.numpy())


def stock(model: SpikeSCR, dtype: torch.dtype) -> SpikeSCR:
    """The folded model with SpikingJelly's own LIFNode in place of ours."""
    copy = SpikeSCR(model.config)
    copy = fold(copy.eval())
    copy.load_state_dict(model.state_dict())
    for module in list(copy.modules()):
        for key, child in list(module.named_children()):
            if isinstance(child, LIF):
                setattr(module, key, stock_neuron(torch.device("cpu")))
    return copy.to(dtype).eval()


def run_pytorch(model: nn.Module, x: torch.Tensor, valid: torch.Tensor, batch: int) -> float:
    """Seconds for all samples, x (T, samples, C)."""
    begin = time.perf_counter()
    with torch.inference_mode():
        for start in range(0, x.shape[1], batch):
            model(x[:, start : start + batch], valid[start : start + batch])
    return time.perf_counter() - begin


def best_pytorch(at: Setting, dtype: torch.dtype, quick: bool) -> tuple[Callable[[], float], str]:
    """The fastest of some batch sizes and thread counts: runs all samples, seconds; and which it is."""
    model = stock(at.model, dtype)
    x, valid = torch.from_numpy(at.values).to(dtype).transpose(0, 1).contiguous(), torch.from_numpy(at.valid)
    found: list[tuple[float, int, int]] = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for batch in (16, 64) if quick else (8, 16, 32, 64, 128):
            if batch <= x.shape[1]:
                run_pytorch(model, x, valid, batch)
                found.append((min(run_pytorch(model, x, valid, batch) for _ in range(2)), threads, batch))
    _, threads, batch = min(found)

    def run() -> float:
        torch.set_num_threads(threads)
        return run_pytorch(model, x, valid, batch)

    return run, f"batch {batch}, {threads} threads"


def _work(pipe: Connection, at: Setting, dtype: str, share: slice) -> None:
    threadpoolctl.threadpool_limits(1)
    with FastBackend(at.program, at.fast_batch, record_spikes=False, dtype=dtype) as backend:
        while pipe.recv():
            events = 0
            for batch in run_batches(at.program, backend, at.values[share], at.valid[share]):
                events += batch.recording.counts.total("ac") + batch.recording.counts.total("mac")
                del batch  # or its table of counts could not be used again
            pipe.send((events, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


class Workers:
    """Processes that each run their share of the recordings, on demand."""

    def __init__(self, at: Setting, dtype: str, count: int) -> None:
        context = multiprocessing.get_context("fork")
        bounds = np.linspace(0, len(at.values), count + 1).astype(int)
        self.pipes, self.processes = [], []
        for start, stop in itertools.pairwise(bounds):
            mine, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, at, dtype, slice(start, stop)), daemon=True)
            process.start()
            self.pipes.append(mine)
            self.processes.append(process)
        self.run()  # kernels load

    def run(self) -> float:
        """Seconds for all recordings."""
        begin = time.perf_counter()
        for pipe in self.pipes:
            pipe.send(True)
        answers = [pipe.recv() for pipe in self.pipes]
        took = time.perf_counter() - begin
        self.events = sum(events for events, _ in answers)
        self.megabytes = max(memory for _, memory in answers) / 1024
        return took

    def close(self) -> None:
        """End the processes."""
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            pipe.send(False)
            process.join()


def differing(at: Setting, samples: int) -> dict[str, float]:
    """Spikes of the fast backend that differ from PyTorch's in float64; what float32 changes."""
    values, valid = at.values[:samples], at.valid[:samples]
    torch.set_num_threads(1)
    reference = trace(at.model.double(), values, valid)
    wrong = spikes = changed = other = compared = 0
    by_layer: dict[str, list[int]] = {}
    single = FastBackend(at.program, at.fast_batch, dtype=np.float32)
    double = FastBackend(at.program, at.fast_batch)
    runs = (run_batches(at.program, backend, values, valid) for backend in (double, single))
    for a, b in zip(*runs, strict=True):
        expected = {name: s[:, a.samples] for name, s in reference.spikes.items()}
        layers, _ = compare(at.program, a.recording, expected, a.valid)
        wrong += sum(layer.differing for layer in layers)
        spikes += sum(layer.spikes for layer in layers)
        compared += sum(layer.compared for layer in layers)
        for layer in layers:
            by_layer.setdefault(layer.layer, []).append(layer.spikes)
        for name, fired in a.recording.spikes.items():
            changed += int((fired != b.recording.spikes[name]).sum())
        inside = np.arange(at.steps)[:, None] < a.valid
        first, second = (_predictions(part.output, inside) for part in (a, b))
        other += int((first != second).sum())
    return {
        "differing_spikes": wrong,
        "spikes": spikes,
        "firing_rate": spikes / compared,
        "silent_layers": sum(not any(layer) for layer in by_layer.values()),
        "float32_changed_spikes": changed / max(spikes, 1),
        "float32_changed_predictions": other / samples,
    }


def _predictions(outputs: np.ndarray, inside: np.ndarray) -> np.ndarray:
    shifted = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    return ((shifted / shifted.sum(axis=-1, keepdims=True)) * inside[..., None]).sum(axis=0).argmax(axis=-1)


def machine() -> dict[str, float]:
    """Copy bandwidth (bytes read plus written) and rates of matrix products, one thread."""
    source = np.ones(8_000_000)
    target = np.empty_like(source)
    rates: dict[str, float] = {}
    with threadpoolctl.threadpool_limits(1):
        rates["copy_bytes_per_s"] = 2 * source.nbytes / _fastest(lambda: np.copyto(target, source))
        for dtype in ("float64", "float32"):
            a, b = np.ones((1600, 128), dtype), np.ones((128, 512), dtype)
            out = np.empty((1600, 512), dtype)
            took = _fastest(lambda a=a, b=b, out=out: np.matmul(a, b, out=out))  # type: ignore[misc]
            rates[f"{dtype}_macs_per_s"] = 1600 * 128 * 512 / took
    return rates


def _fastest(work: Callable[[], Any]) -> float:
    times = []
    for _ in range(10):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def floor(at: Setting, rates: dict[str, float], dtype: str) -> float:
    """Seconds for one sample below which one core cannot come: products, additions and bytes at the measured rates.

    Real-valued synapses at the rate of matrix products; additions of events and membrane updates at the same rate,
    since an addition costs an instruction as a multiply-accumulate does; a byte of input and of counts is copied once.
    """
    samples = min(len(at.values), at.fast_batch)
    with FastBackend(at.program, samples, record_spikes=False) as backend:
        counts = next(run_batches(at.program, backend, at.values[:samples], at.valid[:samples])).recording.counts
    operations = sum(counts.total(kind) for kind in ("ac", "mac", "neuron", "bias"))
    counted = np.count_nonzero(counts.table.any(axis=(2, 3))) * at.program.period * 8
    moved = 2 * (at.values[0].size * 8 + counted)
    return operations / samples / rates[f"{dtype}_macs_per_s"] + moved / rates["copy_bytes_per_s"]


def start_up() -> float:
    """Seconds from nothing to a fast backend that has run its first batch: a new process, kernels from the cache."""
    code = (
        "import numpy as np; from spikescr.sim.program import *; from spikescr.sim.fast.backend import FastBackend\n"
        "x = Port(('x',), 8, Signal.SPIKES); one = np.ones(8)\n"
        "p = Program((Source(name='x', width=8, signal=Signal.SPIKES), Neuron(name='n', width=8, signal=Signal.SPIKES,"
        " x=x, decay=one / 2, gain=one, drive=0 * one, threshold=one, v_reset=0 * one)), 4, 0.01, 4)\n"
        "FastBackend(p, 1).run({'x': np.ones((4, 1, 8))})"
    )
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=START_UP_LIMIT)
    return time.perf_counter() - begin


def stock_lava(at: Setting, steps: int) -> float:
    """Samples per second of Lava's own Dense and LIF on the part they can run, one sample at a time.

    That part is the chain of the network's one-tap synapses, each with its neurons: no taps, no attention, no gates.
    """
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi1SimCfg
    from lava.proc.dense.process import Dense
    from lava.proc.io.source import RingBuffer
    from lava.proc.lif import process as lif

    chain = [s for s in at.program.of_type(Synapse) if len(s.taps) == 1 and s.x.signal.value == "spikes"][:-1]
    width = chain[0].x.width
    spikes = (np.random.default_rng(0).random((width, steps)) < 0.15).astype(float)
    source = previous = RingBuffer(data=spikes)
    for synapse in chain:
        weight = synapse.taps[0].weight
        if weight.shape[1] != width:
            continue
        dense, cells = Dense(weights=weight), lif.LIF(shape=(weight.shape[0],), vth=1.0, du=1.0, dv=0.5)
        (previous.s_out if hasattr(previous, "s_out") else previous.out).connect(dense.s_in)
        dense.a_out.connect(cells.a_in)
        previous, width = cells, weight.shape[0]
    try:
        source.run(RunSteps(1), Loihi1SimCfg())
        begin = time.perf_counter()
        source.run(RunSteps(steps), Loihi1SimCfg())
        return 1 / (time.perf_counter() - begin)
    finally:
        source.stop()


def measure(at: Setting, rounds: int, quick: bool, rates: dict[str, float], lava: bool) -> dict[str, Any]:
    """All contenders on one network and window."""
    pytorch32, best32 = best_pytorch(at, torch.float32, quick)
    pytorch64, best64 = best_pytorch(at, torch.float64, quick)
    workers = {
        "fast, 1 worker": Workers(at, "float64", 1),
        "fast, 2 workers": Workers(at, "float64", 2),
        "fast float32, 1 worker": Workers(at, "float32", 1),
        "fast float32, 2 workers": Workers(at, "float32", 2),
    }
    runs: dict[str, Callable[[], float]] = {name: w.run for name, w in workers.items()}
    runs |= {f"PyTorch float32 ({best32})": pytorch32, f"PyTorch float64 ({best64})": pytorch64}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(run() / len(at.values))
    for w in workers.values():
        w.close()
    torch.set_num_threads(1)
    result: dict[str, Any] = {name: 1 / statistics.median(took) for name, took in times.items()}
    reference = times[f"PyTorch float32 ({best32})"]

    def ratio(name: str) -> float:
        return statistics.median(a / b for a, b in zip(reference, times[name], strict=True))

    result["fast_over_spikingjelly"] = ratio("fast, 2 workers")
    result["fast32_over_spikingjelly"] = ratio("fast float32, 2 workers")
    if lava:
        batch = min(LAVA_BATCH, len(at.values))
        with LavaBackend(at.program, batch) as backend:
            begin = time.perf_counter()
            list(run_batches(at.program, backend, at.values[:batch], at.valid[:batch]))
            result["Lava"] = batch / (time.perf_counter() - begin)
            result["lava_build_s"] = backend.build_seconds
        result["fast_over_lava"] = result["fast, 2 workers"] / result["Lava"]
        result["stock Lava, Dense and LIF only"] = stock_lava(at, at.steps)
    result["events_per_s"] = workers["fast, 2 workers"].events / len(at.values) * result["fast, 2 workers"]
    result["peak_megabytes"] = workers["fast, 2 workers"].megabytes
    result["ratio_to_floor"] = 1 / result["fast, 1 worker"] / floor(at, rates, "float64")
    result["ratio_to_floor_float32"] = 1 / result["fast float32, 1 worker"] / floor(at, rates, "float32")
    result |= differing(at, min(len(at.values), 32))
    return result


def growth(seed: int) -> list[dict[str, Any]]:
    """Milliseconds of one core for one sample as steps, width and firing rate grow, the rest as in 1L-8-128 at 40."""
    found = []
    for steps in (40, 100, 200, 400):
        found.append({"varied": "steps", "value": steps, **_cost(setting("1L-8-128", steps, 32, seed))})
    for width in (64, 128, 256, 512):
        at = setting("1L-8-128", 40, 32, seed, ModelConfig(width=width, dropout=0.0))
        found.append({"varied": "width", "value": width, **_cost(at)})
    base = setting("1L-8-128", 40, 32, seed)
    for factor in (0.5, 1.0, 2.0, 4.0):
        operations = [
            type(o)(**{**vars(o), "gain": o.gain * factor}) if isinstance(o, Neuron) else o
            for o in base.program.operations
        ]
        program = Program(tuple(operations), base.program.steps, base.program.dt, base.program.period)
        at = Setting(base.name, base.steps, base.model, program, base.values, base.valid)
        found.append({"varied": "gain of all neurons", "value": factor, **_cost(at)})
    return found


def _cost(at: Setting) -> dict[str, float]:
    with threadpoolctl.threadpool_limits(1), FastBackend(at.program, at.fast_batch, record_spikes=False) as backend:
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            fired = updates = 0
            for batch in run_batches(at.program, backend, at.values, at.valid):
                fired += batch.recording.counts.total("fired")
                updates += batch.recording.counts.total("neuron")
                del batch
            times.append((time.perf_counter() - begin) / len(at.values))
    return {"ms": 1e3 * statistics.median(times), "firing_rate": fired / updates}


def show(console: Console, result: dict[str, Any]) -> None:
    """The figures of one network as a table."""
    table = Table(title=result["setting"])
    table.add_column("")
    table.add_column("", justify="right")
    for key, value in result.items():
        if key != "setting":
            table.add_row(key, f"{value:.3g}" if isinstance(value, float) and value < 100 else f"{value:,.0f}")
    console.print(table)


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Cost over what was varied, one panel each."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    varied = list(dict.fromkeys(row["varied"] for row in rows))
    figure, axes = pyplot.subplots(1, len(varied), figsize=(4 * len(varied), 3), layout="constrained")
    for axis, name in zip(axes, varied, strict=True):
        own = [row for row in rows if row["varied"] == name]
        axis.plot([row["value"] for row in own], [row["ms"] for row in own], marker="o")
        axis.set(xlabel=name, ylabel="ms per sample, one core", xscale="log", yscale="log")
        axis.set_xticks([row["value"] for row in own], [f"{row['value']:g}" for row in own])
        axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    figure.savefig(file)


@click.command()
@click.option("--quick", is_flag=True, help="Only 1L-8-128 at 40 steps, fewer rounds, no growth table.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to this file.")
@click.option("--plot", "picture", type=click.Path(path_type=Path), help="Draw how the cost grows.")
@click.option("--seed", type=int, default=0, show_default=True)
def main(quick: bool, file: Path | None, picture: Path | None, seed: int) -> None:
    """Measure all backends side by side."""
    console = Console()
    rates = machine()
    console.print(", ".join(f"{name} {rate / 1e9:.1f} G" for name, rate in rates.items()))
    chosen = [("1L-8-128", 40, 256)]
    if not quick:
        chosen += [("1L-8-128", 100, 128), ("1L-8-128", 500, 32)]
        chosen += [("2L-16-256", 40, 64), ("2L-16-256", 100, 32), ("2L-16-256", 500, 8)]
    results = []
    for name, steps, samples in chosen:
        at = setting(name, steps, samples, seed)
        lava = steps < 500 and (name, steps) != ("2L-16-256", 40)
        results.append({"setting": at.name, **measure(at, 3 if quick else 5, quick, rates, lava)})
        show(console, results[-1])
    rows = [] if quick else growth(seed)
    for row in rows:
        console.print(f"{row['varied']} {row['value']}: {row['ms']:.3f} ms, firing rate {row['firing_rate']:.1%}")
    if picture is not None and rows:
        plot(rows, picture)
    keys = ("fast_over_spikingjelly", "fast32_over_spikingjelly", "fast_over_lava", "ratio_to_floor")
    summary: dict[str, Any] = {key: results[0][key] for key in keys}
    summary["differing_spikes"] = sum(result["differing_spikes"] for result in results)
    summary |= {"start_up_s": start_up(), "settings": results, "growth": rows, "machine": rates, "seed": seed}
    summary |= {"cores": os.cpu_count(), "versions": versions("spikescr", "numpy", "torch", "spikingjelly", "lava-nc")}
    console.print({key: value for key, value in summary.items() if isinstance(value, float | int)})
    if file is not None:
        write_text(file, json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
