"""The cores of a placement on the tiles of a mesh, and the messages that pass over its links.

Cores fill tiles in the order of the placement, tiles columns from the west; beyond one chip they go on eastwards.
A message goes along its row first, then along its column. The host's inputs enter at the first tile. What leaves a core
for itself is a message too, as its axons lead through the same router.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikescr.sim.chip.costs import ChipCost
from spikescr.sim.chip.mapper import Placement
from spikescr.sim.chip.traffic import Rate
from spikescr.sim.program import FloatArray, IntArray

HOST = -1  # in place of a core, where the host sends


@dataclass(frozen=True)
class Link:
    """From a tile (x, y) to its neighbour in a direction; messages per step."""

    x: int
    y: int
    direction: str
    messages: float


@dataclass(frozen=True)
class Mesh:
    """Messages per step between cores, and where they pass.

    Attributes:
        cores: how many.
        tiles: in use.
        signals: names of what is sent, as in `Demand.sends`, or of the host's inputs.
        signal: of each row, an index of `signals` (rows,).
        sources: core that sends, HOST for the host (rows,).
        targets: core that hears (rows,).
        messages: per step (rows,).
        hops: tiles passed per step to the east, west, north and south.
        links: (x, y, direction) of every link that carries something.
        carried: messages per step of each link and signal (links, signals).
    """

    cores: int
    tiles: int
    signals: tuple[str, ...]
    signal: IntArray
    sources: IntArray
    targets: IntArray
    messages: FloatArray
    hops: Mapping[str, float]
    links: tuple[tuple[int, int, str], ...]
    carried: FloatArray

    def sent(self) -> FloatArray:
        """Messages per step that each core sends of each signal, (cores, signals)."""
        return self._sums(self.sources, self.sources != HOST)

    def received(self) -> FloatArray:
        """Messages per step that each core gets of each signal, (cores, signals)."""
        return self._sums(self.targets, np.full(len(self.targets), True))

    def from_host(self) -> FloatArray:
        """Messages per step that the host sends of each signal, (signals,)."""
        host = self.sources == HOST
        sums = np.zeros(len(self.signals))
        np.add.at(sums, self.signal[host], self.messages[host])
        return sums

    @property
    def heaviest(self) -> Link | None:
        """The link with most to carry, None where nothing leaves a tile."""
        if not self.links:
            return None
        loads = self.carried.sum(axis=1)
        return Link(*self.links[int(loads.argmax())], float(loads.max()))

    def _sums(self, cores: IntArray, chosen: NDArray[np.bool_]) -> FloatArray:
        sums = np.zeros((self.cores, len(self.signals)))
        np.add.at(sums, (cores[chosen], self.signal[chosen]), self.messages[chosen])
        return sums


def on_mesh(placement: Placement, rates: Mapping[str, Rate], cost: ChipCost) -> Mesh:
    """Where the messages of a placed Program pass.

    Args:
        placement: of the Program.
        rates: messages per step and channel of all that sends, see `traffic.channel_rates`.
        cost: with the mesh's sizes.
    """
    signals, signal, sources, targets, messages = _rows(placement, rates)
    tiles = -(-placement.cores // cost.tile_cores)
    from_tile = np.where(sources == HOST, 0, sources // cost.tile_cores)
    flow = np.zeros((tiles * tiles, len(signals)))
    np.add.at(flow, (from_tile * tiles + targets // cost.tile_cores, signal), messages)
    hops = dict.fromkeys(("east", "west", "north", "south"), 0.0)
    links: dict[tuple[int, int, str], FloatArray] = {}
    for pair in np.flatnonzero(flow.any(axis=1)):
        (x, y), (to_x, to_y) = (divmod(int(tile), cost.tiles_high) for tile in divmod(int(pair), tiles))
        across, along = ("east" if to_x > x else "west"), ("north" if to_y > y else "south")
        hops[across] += abs(to_x - x) * float(flow[pair].sum())
        hops[along] += abs(to_y - y) * float(flow[pair].sum())
        passed = [(at, y, across) for at in range(x, to_x, 1 if to_x > x else -1)]
        passed += [(to_x, at, along) for at in range(y, to_y, 1 if to_y > y else -1)]
        for link in passed:
            links[link] = links.get(link, 0.0) + flow[pair]
    carried = np.array(list(links.values())).reshape(-1, len(signals))
    return Mesh(
        placement.cores, tiles, signals, signal, sources, targets, messages, hops, tuple(links), carried,
    )  # fmt: skip


def _rows(
    placement: Placement, rates: Mapping[str, Rate]
) -> tuple[tuple[str, ...], IntArray, IntArray, IntArray, FloatArray]:
    """Signals; then of each row its signal, the core that sends, the core that hears, messages."""
    starts = np.cumsum([0, *(len(layer.cores) for layer in placement.layers)])
    sender = {name: row for row, layer in enumerate(placement.layers) for name in layer.demand.sends}
    core_of = []
    for layer, start in zip(placement.layers, starts[:-1], strict=True):
        numbers = np.zeros(layer.demand.neurons, np.int64)
        for at, core in enumerate(layer.cores):
            numbers[core.part.index] = start + at
        core_of.append(numbers)
    signals: dict[str, int] = {}
    found: list[tuple[int, int, int, float]] = []
    for layer, start in zip(placement.layers, starts[:-1], strict=True):
        for target, core in enumerate(layer.cores, int(start)):
            for name, channels in layer.demand.inputs(core.part).items():
                number = signals.setdefault(name, len(signals))
                rate = np.asarray(rates[name])
                each = rate[channels] if rate.ndim else np.full(len(channels), rate)
                if name not in sender:
                    found.append((number, HOST, target, float(each.sum())))
                    continue
                row = sender[name]
                neurons = placement.layers[row].demand.sends[name][channels]
                sums = np.bincount(core_of[row][neurons] - starts[row], each)
                found += [(number, int(starts[row] + at), target, float(sums[at])) for at in np.flatnonzero(sums)]
    numbers = np.array([row[:3] for row in found], np.int64).reshape(-1, 3)
    return tuple(signals), *numbers.T, np.array([row[3] for row in found], np.float64)


def depths(placement: Placement) -> IntArray:
    """Steps that each layer shows a step of the inputs later than they do, (layers,): 1 of those that the host feeds.

    On a chip what a layer sends is used in the next step at the soonest. Delays of the Program take that up; what a
    loop cannot take up is left.
    """
    sender = {name: row for row, layer in enumerate(placement.layers) for name in layer.demand.sends}
    edges = {
        (sender[emitter.name], row, layer.demand.soonest.get(emitter.name, 0))
        for row, layer in enumerate(placement.layers)
        for emitter, _ in layer.demand.hears
        if emitter.name in sender and sender[emitter.name] != row
    }
    deep = np.ones(len(placement.layers), np.int64)
    for _ in placement.layers:
        before = deep.copy()
        for source, target, delay in sorted(edges):
            deep[target] = max(deep[target], deep[source] + 1 - delay)
        if (before == deep).all():
            break
    return deep
