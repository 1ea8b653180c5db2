"""netx files executed by integer loops written from Loihi's equations, without lava-dl and without the exporter.

    a[t] = sum of the weights of synapses whose spike left t - 1 - delay
    u = u (4096 - iDecay) / 4096 + 64 a;  v = v (4096 - vDecay) / 4096 + u + 64 bias;  spike where v > 64 vThMant; v = 0

Products are truncated towards zero. M. Davies et al., Loihi, IEEE Micro 38(1), 2018; documentation of lava.proc.lif.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np


def run_file(
    path: Path, spikes: np.ndarray, reset_interval: int | None = None, reset_offset: int = 0
) -> list[np.ndarray]:
    """Spikes of every layer.

    Args:
        path: netx file.
        spikes: 0 or 1, (steps, *input shape), channels first.
        reset_interval: as of netx's Network: layer k forgets its state at steps t with t + 1 = reset_offset + k, modulo
            the interval.
        reset_offset: see there.
    """
    found = []
    with h5py.File(path) as file:
        for number in range(len(file["layer"])):
            entry = file["layer"][str(number)]
            kind = entry["type"][0].decode()
            if kind == "flatten":
                spikes = spikes.reshape(len(spikes), -1)
            elif kind != "input":
                offset = None if reset_interval is None else (reset_offset + len(found)) % reset_interval
                spikes = _layer(entry, kind, spikes, reset_interval, offset)
                found.append(spikes)
    return found


def _layer(entry: h5py.Group, kind: str, x: np.ndarray, interval: int | None, offset: int | None) -> np.ndarray:
    shape = tuple(entry["shape"][()])
    neuron = {key: int(entry["neuron"][key][()]) for key in ("iDecay", "vDecay", "vThMant")}
    bias = entry["bias"][()] if "bias" in entry else np.zeros(shape[0], int)
    bias = bias.reshape(-1, *[1] * (len(shape) - 1))
    u, v = np.zeros(shape, int), np.zeros(shape, int)
    fired = np.zeros((len(x), *shape), int)
    for t in range(len(x)):
        if interval is not None and t % interval == offset:
            u[:], v[:] = 0, 0
        a = _dense(entry, x, t) if kind == "dense" else _conv(entry, x[t - 1], shape) if t else 0
        u = np.trunc(u * (4096 - neuron["iDecay"]) / 4096).astype(int) + 64 * a
        v = np.trunc(v * (4096 - neuron["vDecay"]) / 4096).astype(int) + u + 64 * bias
        fired[t] = v > 64 * neuron["vThMant"]
        v[fired[t] == 1] = 0
    return fired


def _dense(entry: h5py.Group, x: np.ndarray, t: int) -> np.ndarray:
    weight = entry["weight"][()]
    delay = entry["delay"][()] if "delay" in entry else np.zeros(weight.shape, int)
    total = np.zeros(len(weight), int)
    for late in range(delay.max() + 1):
        if t - 1 - late >= 0:
            total += np.where(delay == late, weight, 0) @ x[t - 1 - late]
    return total


def _conv(entry: h5py.Group, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Cross-correlation, position by position."""
    weight = entry["weight"][()]
    (sy, sx), (py, px), (dy, dx) = (entry[key][()] for key in ("stride", "padding", "dilation"))
    groups = int(entry["groups"][()])
    per_out, per_in = weight.shape[0] // groups, weight.shape[1]
    out = np.zeros(shape, int)
    for o, row, column in np.ndindex(*shape):
        first = o // per_out * per_in
        for i, ky, kx in np.ndindex(per_in, *weight.shape[2:]):
            y, z = row * sy - py + ky * dy, column * sx - px + kx * dx
            if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
                out[o, row, column] += weight[o, i, ky, kx] * x[first + i, y, z]
    return out
