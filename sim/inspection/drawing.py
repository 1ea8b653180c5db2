"""A NIR graph as an SVG drawing: a box per layer, what sums as a junction, readable on light and dark ground."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from html import escape

from spikescr import dialect
from spikescr.sim.inspection.inspection import ROUTING, GraphReport, NodeReport
from spikescr.sim.inspection.layering import place

CHARACTER = 6.7  # width of one in the drawing's fixed-width font of 11 px, with room to spare
LINE = 15.0
MARGIN = 24.0

# Colours by class, fill and stroke, on light and on dark ground. Plain rules: many readers of SVG know no variables.
LIGHT = {
    ".ground": ("#ffffff", None), "text": ("#1f2430", None), ".faint": ("#555e6b", None), ".tip": ("#7f8997", None),
    ".box": ("#f2f4f7", "#b3bbc7"), ".own": ("#fdf0dc", "#d19a3d"), ".neuron": ("#e4eefb", "#6d9bd8"),
    ".end": ("#e6f4e8", "#69ab74"), ".way": ("none", "#7f8997"), ".sum": ("#ffffff", "#7f8997"),
}  # fmt: skip
DARK = {
    ".ground": ("#14171c", None), "text": ("#e7eaf0", None), ".faint": ("#aab3c0", None), ".tip": ("#87919f", None),
    ".box": ("#22272f", "#4f5967"), ".own": ("#3a2d17", "#c99545"), ".neuron": ("#1b2c43", "#5f8fd0"),
    ".end": ("#1a3320", "#5da56b"), ".way": ("none", "#87919f"), ".sum": ("#14171c", "#87919f"),
}  # fmt: skip
SHAPES = """
text { font: 11px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace } .name { font-weight: 600 }
.title { font-size: 15px; font-weight: 600 } .way { stroke-width: 1.3 } .back { stroke-dasharray: 5 4 }
"""
LEGEND = (("end", "inputs, outputs"), ("neuron", "with neurons"), ("own", "beyond standard NIR"), ("box", "other"))


def draw(report: GraphReport, title: str) -> str:
    """An SVG document.

    Nodes that share a prefix are one box (`sem.synapse.tap0`, `sem.bias`, `sem.lif`: sem); Delays that a builder put in
    (`….delay5`) are left out; edges from the clock are a word in the box; where edges join, a junction adds.
    """
    layers = _layers(report)
    boxes = {name: _text(name, nodes) for name, nodes in layers.items()}
    edges, sums = _edges(report, layers)
    for name in _clocked(report):
        if name in boxes:
            boxes[name][-1] += " · clock"
    sizes = {
        name: (max(len(line) for line in lines) * CHARACTER + 20, len(lines) * LINE + 12)
        for name, lines in boxes.items()
    }
    sizes.update(dict.fromkeys(sums, (18.0, 18.0)))
    placed = place(sizes, edges)
    top = 52 + MARGIN
    legend = sum(len(text) * CHARACTER + 34 for _, text in LEGEND)
    width = max(placed.width, legend, len(title) * 9.5) + 2 * MARGIN
    left = (width - placed.width) / 2
    height = placed.height + top + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' height="{height:.0f}" role="img"><title>{escape(title)}</title><style>{_style()}</style>',
        f'<rect class="ground" width="{width:.0f}" height="{height:.0f}"/>',
        f'<text class="title" x="{MARGIN}" y="28">{escape(title)}</text>',
        *_legend(),
    ]
    for a, b in edges:
        ways = [(x + left, y + top) for x, y in placed.ways[a, b]]
        parts.append(_way(ways, sizes[a][1], sizes[b][1], tip=b not in sums))
    for name, (x, y) in placed.centres.items():
        if name in sums:
            parts.append(f'<circle class="sum" cx="{x + left:.1f}" cy="{y + top:.1f}" r="9"/>')
            parts.append(f'<text x="{x + left:.1f}" y="{y + top + 4:.1f}" text-anchor="middle">+</text>')
        else:
            parts += _box(boxes[name], _kind(layers[name]), x + left, y + top, *sizes[name])
    return "\n".join([*parts, "</svg>"]) + "\n"


def _style() -> str:
    def rules(colours: dict[str, tuple[str, str | None]]) -> str:
        return " ".join(
            f"{name} {{ fill: {fill}{f'; stroke: {stroke}' if stroke else ''} }}"
            for name, (fill, stroke) in colours.items()
        )

    return f"{SHAPES}{rules(LIGHT)}\n@media (prefers-color-scheme: dark) {{ {rules(DARK)} }}\n"


def layer_of(name: str) -> str:
    """The layer that a node belongs to by its name."""
    inner = re.sub(r"(\.sum)?\.delay\d+$|\.wire_\w+$", "", name)
    inner = re.sub(r"\.synapse\.tap\d+$", ".synapse", inner)
    parts = inner.split(".")
    # Names like features.0, features.1 are layers of their own.
    if len(parts) > 1 and not parts[-1].isdigit():
        parts.pop()
    return ".".join(parts)


def _layers(report: GraphReport) -> dict[str, list[NodeReport]]:
    layers: dict[str, list[NodeReport]] = {}
    for node in report.nodes:
        if node.type != dialect.CLOCK and not _put_in(node):
            layers.setdefault(layer_of(node.name), []).append(node)
    return layers


def _put_in(node: NodeReport) -> bool:
    return node.type == "Delay" and re.search(r"\.delay\d+$", node.name) is not None


def _clocked(report: GraphReport) -> set[str]:
    return {layer_of(node.name) for node in report.nodes if node.carries == "clock" and not _put_in(node)}


def _edges(report: GraphReport, layers: dict[str, list[NodeReport]]) -> tuple[list[tuple[str, str]], list[str]]:
    """Edges between layers, and the junctions that they lead through where a node gets a sum."""
    by_name = {node.name: node for node in report.nodes}
    before: dict[str, list[str]] = {name: [] for name in by_name}
    for a, b in report.edges:
        before[b].append(a)

    def sources(name: str) -> set[str]:
        """Layers that feed a node, through the Delays that a builder put in."""
        feeding: set[str] = set()
        seen, frontier = set(), list(before[name])
        while frontier:
            source = by_name[frontier.pop()]
            if source.name in seen or source.type == dialect.CLOCK:
                continue
            seen.add(source.name)
            if _put_in(source):
                frontier += before[source.name]
            else:
                feeding.add(layer_of(source.name))
        return feeding

    wanted: dict[frozenset[str], dict[str, None]] = {}
    for node in report.nodes:
        layer = layer_of(node.name)
        fed = sources(node.name)
        outside = frozenset(fed if len(layers.get(layer, [])) == 1 else fed - {layer})
        if outside and layer in layers and not _put_in(node):
            wanted.setdefault(outside, {})[layer] = None
    edges: dict[tuple[str, str], None] = {}
    sums: dict[frozenset[str], str] = {}
    for joined in sorted(wanted, key=lambda s: (len(s), sorted(s))):
        if len(joined) == 1:
            start = next(iter(joined))
        else:
            start = sums.setdefault(joined, f"sum {len(sums)}\t")
            parts = max((s for s in sums if s < joined), key=lambda s: (len(s), sorted(s)), default=frozenset())
            rest = sorted(joined - parts)
            edges.update({(source, start): None for source in ([sums[parts]] if parts else []) + rest})
        edges.update({(start, layer): None for layer in wanted[joined]})
    return list(edges), list(sums.values())


def _text(name: str, nodes: list[NodeReport]) -> list[str]:
    shown = [n for n in nodes if n.type not in (*ROUTING, "Input", "Output") and n.carries != "clock"]
    kinds = Counter((n.type, n.output_shape) for n in shown)
    words = []
    for (kind, shape), count in kinds.items():
        size = "x".join(map(str, shape)) if shape else "?"
        words.append(f"{count} {kind} {size}" if count > 1 else f"{kind} {size}")
    if not words:
        shapes = {n.output_shape for n in nodes}
        words = [f"{n.type} {'x'.join(map(str, n.output_shape or ()))}" for n in nodes[:1]] if len(shapes) == 1 else []
    if any(n.operations.bias for n in nodes):
        words.append("bias")
    figures = []
    if synapses := sum(n.synapses for n in nodes):
        figures.append(f"{synapses:,} synapses")
    latencies = [n.latency for n in nodes if n.latency is not None]
    if latencies:
        figures.append(f"latency {latencies[-1]}")
    return [name, *([", ".join(words)] if words else []), *([" · ".join(figures)] if figures else [])]


def _kind(nodes: list[NodeReport]) -> str:
    if any(n.type in ("Input", "Output") for n in nodes) and len(nodes) == 1:
        return "end"
    if any(n.type in dialect.PACKED_OPERATIONS for n in nodes):
        return "own"
    return "neuron" if any(n.neurons for n in nodes) else "box"


def _legend() -> list[str]:
    parts, x = [], MARGIN
    for kind, text in LEGEND:
        parts.append(f'<rect class="{kind}" x="{x:.0f}" y="40" width="14" height="11" rx="3"/>')
        parts.append(f'<text class="faint" x="{x + 20:.0f}" y="50">{text}</text>')
        x += len(text) * CHARACTER + 34
    return parts


def _box(lines: list[str], kind: str, x: float, y: float, width: float, height: float) -> list[str]:
    parts = [
        f'<rect class="{kind}" x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}"'
        f' height="{height:.1f}" rx="6"/>'
    ]
    for i, line in enumerate(lines):
        style = "name" if i == 0 else "faint"
        row = y - height / 2 + 17 + i * LINE
        parts.append(f'<text class="{style}" x="{x:.1f}" y="{row:.1f}" text-anchor="middle">{escape(line)}</text>')
    return parts


def _way(points: list[tuple[float, float]], start: float, end: float, *, tip: bool) -> str:
    down = points[-1][1] >= points[0][1]
    sign = 1 if down else -1
    tip = tip or not down
    (x0, y0), (x1, y1) = points[0], points[-1]
    stops = [(x0, y0 + sign * start / 2), *points[1:-1], (x1, y1 - sign * (end / 2 + (6 if tip else 0)))]
    path = f"M{stops[0][0]:.1f},{stops[0][1]:.1f}"
    for (xa, ya), (xb, yb) in itertools.pairwise(stops):
        middle = (ya + yb) / 2
        path += f" C{xa:.1f},{middle:.1f} {xb:.1f},{middle:.1f} {xb:.1f},{yb:.1f}"
    parts = f'<path class="way{"" if down else " back"}" d="{path}"/>'
    if tip:
        x, y = stops[-1]
        parts += f'<path class="tip" d="M{x - 4:.1f},{y:.1f} h8 l-4,{sign * 6} z"/>'
    return parts
