"""The cores of a placement on the tiles of a mesh, and the messages that pass over its links.

Cores fill tiles in the order of the placement, tiles columns from the west; beyond one chip they go on eastwards.
A message goes along its row first, then along its column. The host's inputs enter at the first tile. What leaves a core
for itself is a message too, as its axons lead through the same router.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

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
        sources: core that sends, HOST for the host, of each pair (pairs,).
        targets: core that hears (pairs,).
        messages: per step of each pair (pairs,).
        hops: tiles passed per step to the east, west, north and south.
        heaviest: the link with most to carry, None where nothing leaves a tile.
    """

    cores: int
    tiles: int
    sources: IntArray
    targets: IntArray
    messages: FloatArray
    hops: Mapping[str, float]
    heaviest: Link | None

    def sent(self) -> FloatArray:
        """Messages per step that each core sends, (cores,)."""
        own = self.sources != HOST
        sent: FloatArray = np.bincount(self.sources[own], self.messages[own], self.cores)
        return sent

    def received(self) -> FloatArray:
        """Messages per step that each core gets, (cores,)."""
        received: FloatArray = np.bincount(self.targets, self.messages, self.cores)
        return received

    @property
    def from_host(self) -> float:
        """Messages per step that the host sends."""
        return float(self.messages[self.sources == HOST].sum())


def on_mesh(placement: Placement, rates: Mapping[str, Rate], cost: ChipCost) -> Mesh:
    """Where the messages of a placed Program pass.

    Args:
        placement: of the Program.
        rates: messages per step and channel of all that sends, see `traffic.channel_rates`.
        cost: with the mesh's sizes.
    """
    sources, targets, messages = _pairs(placement, rates)
    cores = placement.cores
    tiles = -(-cores // cost.tile_cores)
    from_tile = np.where(sources == HOST, 0, sources // cost.tile_cores)
    flow = np.bincount(from_tile * tiles + targets // cost.tile_cores, messages, tiles * tiles)
    hops = dict.fromkeys(("east", "west", "north", "south"), 0.0)
    links: dict[tuple[int, int, str], float] = {}
    for pair in np.flatnonzero(flow):
        (x, y), (to_x, to_y) = (divmod(int(tile), cost.tiles_high) for tile in divmod(int(pair), tiles))
        across, along = ("east" if to_x > x else "west"), ("north" if to_y > y else "south")
        hops[across] += abs(to_x - x) * flow[pair]
        hops[along] += abs(to_y - y) * flow[pair]
        passed = [(at, y, across) for at in range(x, to_x, 1 if to_x > x else -1)]
        passed += [(to_x, at, along) for at in range(y, to_y, 1 if to_y > y else -1)]
        for link in passed:
            links[link] = links.get(link, 0.0) + float(flow[pair])
    heaviest = max(links, key=lambda link: links[link], default=None)
    return Mesh(
        cores, tiles, sources, targets, messages, {name: float(count) for name, count in hops.items()},
        None if heaviest is None else Link(*heaviest, links[heaviest]),
    )  # fmt: skip


def _pairs(placement: Placement, rates: Mapping[str, Rate]) -> tuple[IntArray, IntArray, FloatArray]:
    """Pairs of cores, and the messages between them."""
    starts = np.cumsum([0, *(len(layer.cores) for layer in placement.layers)])
    sender = {name: row for row, layer in enumerate(placement.layers) for name in layer.demand.sends}
    core_of = []
    for layer, start in zip(placement.layers, starts[:-1], strict=True):
        numbers = np.zeros(layer.demand.neurons, np.int64)
        for at, core in enumerate(layer.cores):
            numbers[core.part.index] = start + at
        core_of.append(numbers)
    found: dict[tuple[int, int], float] = {}
    for layer, start in zip(placement.layers, starts[:-1], strict=True):
        for target, core in enumerate(layer.cores, int(start)):
            for name, channels in layer.demand.inputs(core.part).items():
                rate = np.asarray(rates[name])
                each = rate[channels] if rate.ndim else np.full(len(channels), rate)
                if name not in sender:
                    found[HOST, target] = found.get((HOST, target), 0.0) + float(each.sum())
                    continue
                row = sender[name]
                neurons = placement.layers[row].demand.sends[name][channels]
                sums = np.bincount(core_of[row][neurons] - starts[row], each)
                for source in np.flatnonzero(sums):
                    pair = (int(starts[row] + source), target)
                    found[pair] = found.get(pair, 0.0) + float(sums[source])
    pairs = np.array(list(found), np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1], np.array(list(found.values()), np.float64)
