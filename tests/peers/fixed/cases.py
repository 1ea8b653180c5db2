"""Random layers in fixed point: as NIR graphs, and as what Lava's own processes are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from spikescr import dialect

KINDS = ("dense", "graded", "depthwise", "taps", "residual", "clocked bias", "bias", "synaptic current", "recurrent")
"""Of layers; each is a layer of neurons and what feeds it."""
CLOCK = "clock"


@dataclass(frozen=True)
class Path:
    """Synapses: mantissas (out, in), exponent, bits and sign mode.

    source: from which input; None: the neurons' own spikes of the step before. delay: so many steps late.
    """

    mantissa: NDArray[np.int64]
    exponent: int
    bits: int
    sign_mode: str
    source: str | None
    delay: int = 0
    diagonal: bool = False


@dataclass(frozen=True)
class Case:
    """A layer: its paths, its registers; inputs, source -> integers (T, B, in)."""

    kind: str
    paths: tuple[Path, ...]
    registers: dict[str, int]
    inputs: dict[str, NDArray[np.float64]]

    @property
    def late(self) -> int:
        """Steps by which the graph's layer gets its input: Lava's gets it late by one, and its bias from the start."""
        return int(self.kind == "bias")

    @property
    def steps(self) -> int:
        """T."""
        return len(next(iter(self.inputs.values())))

    @property
    def neurons(self) -> int:
        """Width of the layer."""
        return len(self.paths[0].mantissa)


def draw(kind: str, seed: int, *, steps: int = 30, inputs: int = 7, neurons: int = 5, samples: int = 2) -> Case:
    """A random layer of a kind; about a third of them overflow, and thresholds are often met exactly."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    graded = kind in ("graded", "residual")
    widths = {"x": neurons if kind == "depthwise" else inputs}
    if kind == "residual":
        widths["y"] = inputs
    data = {
        name: np.minimum(rng.poisson(0.8, (steps, samples, width)), 9 if graded else 1).astype(float)
        for name, width in widths.items()
    }
    loud = rng.random() < 1 / 3
    paths = [_path(rng, "x", neurons, inputs, loud=loud, diagonal=kind == "depthwise")]
    if kind == "taps":
        first = paths[0]
        paths += [
            Path(_mantissas(rng, first.bits, first.sign_mode, first.mantissa.shape), first.exponent, first.bits,
                 first.sign_mode, "x", delay)
            for delay in (1, 4)
        ]  # fmt: skip
    if kind == "residual":
        paths.append(_path(rng, "y", neurons, inputs, loud=loud))
    if kind == "clocked bias":
        data[CLOCK] = np.ones((steps, samples, 1))
        paths.append(_path(rng, CLOCK, neurons, 1, loud=loud))
    if kind == "recurrent":
        paths.append(_path(rng, None, neurons, neurons, loud=loud))
    reach = np.abs(paths[0].mantissa).max() * 2 ** paths[0].exponent
    # A threshold that sums of weights can meet: some weight, a multiple of it, or one below.
    vth = int(np.clip(reach * rng.integers(0, 3) - rng.integers(0, 2), 0, 2**17 - 1))
    registers = {"dv": int(rng.choice([0, 1, 500, 2048, 4095])), "vth": vth}
    if kind == "synaptic current":
        registers["du"] = int(rng.choice([0, 700, 2047, 4094]))
    if kind == "bias":
        registers |= {"bias_mant": int(rng.integers(-4096, 4096)), "bias_exp": int(rng.integers(0, 8))}
    return Case(kind, tuple(paths), registers, data)


def _path(
    rng: np.random.Generator, source: str | None, neurons: int, inputs: int, *, loud: bool, diagonal: bool = False
) -> Path:
    bits, mode = int(rng.integers(2, 9)), str(rng.choice(["mixed", "mixed", "excitatory", "inhibitory"]))
    exponent = 7 if loud else int(rng.integers(0, 5))
    shape = (neurons, neurons if diagonal else inputs)
    mantissa = _mantissas(rng, bits, mode, shape)
    if diagonal:
        mantissa = np.diag(np.diag(mantissa))
    return Path(mantissa, exponent, bits, mode, source, diagonal=diagonal)


def _mantissas(rng: np.random.Generator, bits: int, mode: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
    if mode == "mixed":
        half = 2 ** (bits - 1)
        levels = rng.integers(-half, half, shape)
        levels.flat[0], levels.flat[-1] = half - 1, -half  # of both signs, or Lava would not call them mixed
        return levels * 2 ** (9 - bits)
    levels = rng.integers(0, 2**bits, shape) * 2 ** (8 - bits)
    return levels if mode == "excitatory" else -levels


def graph_of(case: Case) -> nir.NIRGraph:
    """The layer as a NIR graph in fixed point; neurons are called `layer`."""
    dt = 1e-3
    nodes: dict[str, Any] = {}
    edges = []
    for name, data in case.inputs.items():
        metadata = {dialect.OP: dialect.CLOCK} if name == CLOCK else {dialect.SIGNAL: "spikes"}
        nodes[name] = nir.Input(input_type=np.array([data.shape[-1]]), metadata=metadata)
    for number, path in enumerate(case.paths):
        weight = path.mantissa * 2.0**path.exponent
        stated = {dialect.BITS: path.bits, dialect.EXPONENT: path.exponent, dialect.SIGN_MODE: path.sign_mode}
        name = f"synapse{number}"
        nodes[name] = (
            nir.Scale(np.diag(weight), metadata=stated) if path.diagonal else nir.Linear(weight, metadata=stated)
        )
        source, delay = (path.source, path.delay + case.late) if path.source else ("layer", 1)
        if delay:
            nodes[f"delay{number}"] = nir.Delay(np.full(weight.shape[1], delay * dt))
            edges += [(source, f"delay{number}"), (f"delay{number}", name)]
        else:
            edges.append((source, name))
        edges.append((name, "layer"))
    r, full = case.registers, np.ones(case.neurons)
    tau = dt * 4096 / max(r["dv"], 1e-9)  # what keeps all of itself decays slower than can be told
    common = {"r": 64 * tau / dt * full, "v_leak": 0 * full, "v_threshold": 64.0 * r["vth"] * full, "v_reset": 0 * full}
    registers = {f"spikescr.{key}": value for key, value in r.items()}
    if case.kind == "synaptic current":
        nodes["layer"] = nir.CubaLIF(tau_syn=2 * dt * full, tau_mem=tau * full, **common, metadata=registers)
    else:
        nodes["layer"] = nir.LIF(tau=tau * full, **common, metadata=registers)
    nodes["output"] = nir.Output(output_type=np.array([case.neurons]))
    metadata = {dialect.GRAPH_FORMAT: dialect.FIXED_FORMAT, dialect.PRECISION: dialect.LOIHI2, dialect.DT: dt,
                dialect.STEPS: case.steps}  # fmt: skip
    return nir.NIRGraph(nodes, [*edges, ("layer", "output")], metadata=metadata)
