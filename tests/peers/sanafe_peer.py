"""One network, placed and executed by us, on the same spikes in SANA-FE: spikes, events, messages, energy, time.

SANA-FE is GPL-3 and a tool of tests alone; nothing of the package imports it.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nir
import numpy as np

from spikescr.sim.chip.clocked import with_clocked_biases
from spikescr.sim.chip.fitted import FittedEstimate, estimate_fitted
from spikescr.sim.chip.limits import chip_named
from spikescr.sim.chip.mapper import Placement, place
from spikescr.sim.chip.sanafe import ARCHITECTURE, NETWORK, SanaFile, word, write_sanafe
from spikescr.sim.chip.traffic import Activity, profile
from spikescr.sim.fast.backend import FastBackend
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Neuron, Program, Signal, Source
from spikescr.sim.recording import Recording

TIMINGS = ("simple", "detailed")


@dataclass(frozen=True)
class Compared:
    """A network here and there.

    Attributes:
        neurons: of all layers.
        cores: that it takes.
        steps: simulated there, the window and one for each layer.
        neuron_steps: neurons of layers that fire times steps of the window.
        spikes: of all neurons in the window.
        differing: neuron-steps at which one fires and the other does not.
        events: synaptic, here and there.
        messages: of a spike and a core that it goes to, here and there.
        energy: J by part, here and there.
        seconds: of the estimate here, and of each of SANA-FE's ways to time.
        fitted: the estimate here.
    """

    neurons: int
    cores: int
    steps: int
    neuron_steps: int
    spikes: int
    differing: int
    events: tuple[int, int]
    messages: tuple[int, int]
    energy: Mapping[str, tuple[float, float]]
    seconds: Mapping[str, float]
    fitted: FittedEstimate


def compare(graph: nir.NIRGraph, spikes: np.ndarray) -> Compared:
    """Runs a graph with one input here and in SANA-FE.

    Args:
        graph: of LIF neurons behind synapses and convolutions, without a window of its own.
        spikes: (T, N), 0 and 1.
    """
    spikes = spikes.reshape(len(spikes), -1).astype(bool)
    # one step more, silent: what a loop's last spikes reach is worked off there in the step in which they are sent
    program = with_clocked_biases(lower(graph, steps=len(spikes) + 1))
    (source,) = (o for o in program.of_type(Source) if o.signal is not Signal.CLOCK)
    inputs = {o.name: spikes if o is source else np.ones((len(spikes), 1), bool) for o in program.of_type(Source)}
    given = {name: np.pad(train, ((0, 1), (0, 0)))[:, None].astype(np.float64) for name, train in inputs.items()}
    with FastBackend(program, 1) as backend:
        run = backend.run(given)
    placement = place(program, "loihi1", chip_named("loihi1"), {})
    with tempfile.TemporaryDirectory() as folder:
        made = write_sanafe(Path(folder), program, placement, {source.name: spikes})
        results = {timing: simulate(Path(folder), made.steps, timing) for timing in TIMINGS}
    return _compared(program, placement, run, inputs, made, results)


def simulate(folder: Path, steps: int, timing: str) -> dict[str, Any]:
    """SANA-FE's results of files that `write_sanafe` wrote; what it prints is kept back."""
    import sanafe

    with contextlib.redirect_stdout(io.StringIO()):
        arch = sanafe.load_arch(str(folder / ARCHITECTURE))
        chip = sanafe.SpikingChip(arch)
        chip.load(sanafe.load_net(str(folder / NETWORK), arch))
        result: dict[str, Any] = chip.sim(steps, timing_model=timing, processing_threads=1, spike_trace=True)
    return result


def fired_there(
    result: Mapping[str, Any], made: SanaFile, window: int, widths: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Spikes of each group at the window's steps, (T, N)."""
    names = {word(name): name for name in made.depth}
    fired = {name: np.zeros((window, width), bool) for name, width in widths.items()}
    for step, addresses in enumerate(result["spike_trace"]):
        for address in addresses:
            group, _, number = str(address).rpartition(".")
            name = names.get(group)
            if name is not None:
                assert 0 <= step - made.depth[name] < window, f"{name} fires outside of the window"
                fired[name][step - made.depth[name], int(number)] = True
    return fired


def _compared(
    program: Program,
    placement: Placement,
    run: Recording,
    inputs: Mapping[str, np.ndarray],
    made: SanaFile,
    results: Mapping[str, Mapping[str, Any]],
) -> Compared:
    window = len(next(iter(inputs.values())))
    here = {o.name: run.spikes[o.name][:window, 0] for o in program.of_type(Neuron)}
    last = max(made.depth.values())
    late = [name for name, train in run.spikes.items() if made.depth[name] < last and train[window:].any()]
    assert not late, f"{late[0]} still fires when its input has ended, while deeper layers work"
    there = fired_there(results["simple"], made, window, {name: train.shape[1] for name, train in here.items()})
    operations = run.counts.operations
    events = {
        name: sum(run.counts.per_step(name, kind)[:, 0] for kind in ("ac", "mac", "bias")).astype(np.float64)
        for name in operations
    }
    for counts in events.values():
        counts[window - 1] += counts[window:].sum()
    events = {name: counts[:window] for name, counts in events.items()}
    sent = here | dict(inputs)
    activity = Activity(
        fired={name: train.mean(axis=0) for name, train in here.items()},
        synaptic={name: float(counts.mean()) for name, counts in events.items()},
        steps=window,
        entered={name: train.mean(axis=0) for name, train in inputs.items()},
        over_time={
            name: profile(sent[name].sum(axis=1).astype(np.float64) if name in sent else counts)
            for name, counts in events.items()
        },
    )
    fitted = estimate_fitted(placement, program, activity)
    assert fitted.steps == made.steps
    theirs = results["simple"]
    joules = {name: amount.joules for name, amount in fitted.terms.items()}
    parts = {
        "synapse": sum(joules[name] for name in joules if name.startswith("synapse")),
        "soma": joules["neuron_access"] + joules["neuron_update"] + joules["spike_out"],
        "network": joules["message_out"] + joules["hop_east_west"] + joules["hop_north_south"],
    }
    parts["total"] = sum(parts.values())
    return Compared(
        neurons=placement.neurons,
        cores=placement.cores,
        steps=made.steps,
        neuron_steps=sum(train.size for train in here.values()),
        spikes=int(sum(train.sum() for train in here.values())),
        differing=int(sum((here[name] != there[name]).sum() for name in here)),
        events=(round(sum(counts.sum() for counts in events.values())), int(theirs["spikes"])),
        messages=(round(fitted.terms["message_out"].count), int(theirs["packets_sent"])),
        energy={name: (ours, float(theirs["energy"][name])) for name, ours in parts.items()},
        seconds={"estimate": fitted.seconds} | {name: float(result["sim_time"]) for name, result in results.items()},
        fitted=fitted,
    )
