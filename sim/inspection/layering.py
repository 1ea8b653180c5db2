"""Where the boxes of a layered drawing stand: ranks, order in a rank, coordinates (Sugiyama's scheme)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spikescr.sim.lowering.ordering import in_order

SWEEPS = 12
GAP = 28.0  # between neighbours of a rank
ROW = 46.0  # between ranks


@dataclass(frozen=True)
class Placement:
    """Centres of the boxes, waypoints of every edge from box to box, and the size of it all."""

    centres: dict[str, tuple[float, float]]
    ways: dict[tuple[str, str], list[tuple[float, float]]]
    width: float
    height: float


def place(sizes: Mapping[str, tuple[float, float]], edges: Sequence[tuple[str, str]]) -> Placement:
    """Places boxes in ranks from top to bottom.

    Args:
        sizes: width and height of every box.
        edges: from box to box; those that close a cycle lead upwards.
    """
    if not sizes:
        return Placement({}, {}, 0.0, 0.0)
    before: dict[str, list[str]] = {name: [] for name in sizes}
    after: dict[str, list[str]] = {name: [] for name in sizes}
    for a, b in edges:
        before[b].append(a)
        after[a].append(b)
    # Depth first from the inputs: a cycle is then closed by the edge that leads back to where it was entered.
    order = {name: place for place, name in enumerate(reversed(in_order(after)))}
    rank: dict[str, int] = {}
    for name, turn in order.items():
        rank[name] = max((rank[a] + 1 for a in before[name] if order[a] < turn), default=0)
    for name in sizes:  # what has no input of its own stands right above what it feeds
        if after[name] and not before[name]:
            rank[name] = min(rank[b] for b in after[name]) - 1
    cells = {name: (size[0], rank[name]) for name, size in sizes.items()}
    chains: dict[tuple[str, str], list[str]] = {}
    for a, b in edges:
        low, high = sorted((a, b), key=lambda n: rank[n])
        between = [f"{a}\n{b}\n{r}" for r in range(rank[low] + 1, rank[high])]
        cells.update({cell: (6.0, rank[low] + 1 + i) for i, cell in enumerate(between)})
        chains[a, b] = [a, *(between if low == a else between[::-1]), b]
    rows = _order_rows(cells, chains, order)
    x = _columns(rows, cells, chains)
    talls = [max((sizes[c][1] for c in row if c in sizes), default=0.0) for row in rows]
    tops = [sum(talls[:r]) + r * ROW for r in range(len(rows))]
    left = min(x[c] - cells[c][0] / 2 for c in cells)

    def points(chain: list[str]) -> list[tuple[float, float]]:
        bends = []
        for cell in chain[1:-1]:  # straight past the boxes of a rank
            across, top, tall = x[cell] - left, tops[cells[cell][1]], talls[cells[cell][1]]
            down = rank[chain[0]] < rank[chain[-1]]
            bends += [(across, top), (across, top + tall)][:: 1 if down else -1]
        return [centres[chain[0]], *bends, centres[chain[-1]]]

    centres = {name: (x[name] - left, tops[r] + talls[r] / 2) for name, (_, r) in cells.items() if name in sizes}
    return Placement(
        centres=centres,
        ways={edge: points(chain) for edge, chain in chains.items()},
        width=max(x[c] - left + cells[c][0] / 2 for c in cells),
        height=sum(talls) + (len(rows) - 1) * ROW,
    )


def _neighbours(chains: Mapping[tuple[str, str], Sequence[str]]) -> dict[str, list[str]]:
    neighbours: dict[str, list[str]] = {}
    for chain in chains.values():
        for a, b in itertools.pairwise(chain):
            neighbours.setdefault(a, []).append(b)
            neighbours.setdefault(b, []).append(a)
    return neighbours


def _order_rows(
    cells: Mapping[str, tuple[float, int]], chains: Mapping[tuple[str, str], Sequence[str]], order: Mapping[str, int]
) -> list[list[str]]:
    """Fewer crossings: each rank sorted by where its neighbours in the rank before, then after, stand."""
    rows: list[list[str]] = [[] for _ in range(1 + max(rank for _, rank in cells.values()))]
    for cell in sorted(cells, key=lambda c: order.get(c.split("\n", maxsplit=1)[0], 0)):
        rows[cells[cell][1]].append(cell)
    near = _neighbours(chains)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for r in range(1, len(rows)) if down else range(len(rows) - 2, -1, -1):
            other = {cell: i for i, cell in enumerate(rows[r - 1 if down else r + 1])}
            middle = len(other) / 2

            def position(cell: str, other: dict[str, int] = other, middle: float = middle) -> float:
                places = [other[n] for n in near.get(cell, []) if n in other]
                return sum(places) / len(places) if places else middle

            rows[r].sort(key=position)
    return rows


def _columns(
    rows: list[list[str]], cells: Mapping[str, tuple[float, int]], chains: Mapping[tuple[str, str], Sequence[str]]
) -> dict[str, float]:
    """Each cell near the middle of its neighbours, in the order of its row, without overlaps."""
    near = _neighbours(chains)
    x: dict[str, float] = {}
    for row in rows:
        _settle(row, cells, dict.fromkeys(row, 0.0), x)
    for sweep in range(SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = {c: sum(x[n] for n in near[c]) / len(near[c]) if c in near else x[c] for c in row}
            _settle(row, cells, wanted, x)
    return x


def _settle(
    row: Sequence[str], cells: Mapping[str, tuple[float, int]], wanted: Mapping[str, float], x: dict[str, float]
) -> None:
    """Least squares for one row: cells as near as they can be to where they want, kept apart (pooled violators)."""
    offset, offsets = 0.0, []
    for i, cell in enumerate(row):
        if i:
            offset += (cells[row[i - 1]][0] + cells[cell][0]) / 2 + GAP
        offsets.append(offset)
    blocks: list[tuple[float, int]] = []  # mean of wanted - offset, number of cells
    for cell, gap in zip(row, offsets, strict=True):
        mean, count = wanted[cell] - gap, 1
        while blocks and blocks[-1][0] > mean:
            before, number = blocks.pop()
            mean, count = (before * number + mean * count) / (number + count), number + count
        blocks.append((mean, count))
    means = [mean for mean, count in blocks for _ in range(count)]
    for cell, gap, mean in zip(row, offsets, means, strict=True):
        x[cell] = mean + gap
