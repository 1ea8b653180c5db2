"""Design rules: which limits of a chip a placement exceeds, by how much, and what would help."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spikescr.sim.chip.mapper import Placed, Placement

# Of a core: limit, attribute of Core, what to do where one neuron alone exceeds it.
_OF_CORE = (
    (
        "memory",
        "narrow what feeds the layer, split each of its neurons over several that are summed, or fewer bits (--bits)",
    ),
    ("input_axons", "narrow what feeds the layer, or split each of its neurons over several that are summed"),
    ("output_axons", "narrow the layers that it feeds, so that its neurons send to fewer cores"),
)


@dataclass(frozen=True)
class Violation:
    """A limit that is exceeded.

    Attributes:
        layer: where; the network's where it is not one layer's.
        limit: its name, as in limits.toml.
        value: what is needed, in `unit`.
        allowed: the limit, in `unit`.
        unit: of both.
        remedy: what helps.
        mended: the placement has already done that, and the network runs.
    """

    layer: str
    limit: str
    value: int
    allowed: int
    unit: str
    remedy: str
    mended: bool = False

    @property
    def line(self) -> str:
        """All of it in one line."""
        if self.allowed == 0:
            return f"{self.layer}: {self.limit}: {self.remedy}"
        over = f"{self.value:,} against {self.allowed:,} {self.unit}, {self.value - self.allowed:,} over"
        return f"{self.layer}: {self.limit.replace('_', ' ')}: {over}; {self.remedy}"


def check(placement: Placement) -> tuple[Violation, ...]:
    """All limits that a placement exceeds, layer by layer, those of the chip last."""
    of_layers = [violation for layer in placement.layers for violation in _of_layer(placement, layer)]
    return *of_layers, *_of_inputs(placement), *_of_chip(placement)


def fits(violations: tuple[Violation, ...]) -> bool:
    """Whether the network runs on one chip as it was placed."""
    return all(violation.mended for violation in violations)


def _exceeded(
    placement: Placement, layer: str, limit: str, value: int, remedy: str, *, mended: bool = False
) -> Iterator[Violation]:
    allowed = placement.chip.whole(limit)
    if value > allowed:
        unit = placement.chip.limits[limit].unit.partition(":")[0]
        yield Violation(layer, limit, value, allowed, unit, remedy, mended)


def _of_layer(placement: Placement, layer: Placed) -> Iterator[Violation]:
    demand, name, chip = layer.demand, layer.name, placement.chip
    for limit, remedy in _OF_CORE:
        worst = max(getattr(core, limit) for core in layer.cores)
        yield from _exceeded(placement, name, limit, worst, remedy)
    if demand.programs and not chip.whole("programmable"):
        yield Violation(
            name,
            "programmable",
            1,
            0,
            "programs",
            f"{demand.programs} needs neurons that run programs: take another chip",
        )
    yield from _exceeded(
        placement, name, "state", layer.state, "fewer steps in the window, or narrower heads of attention"
    )
    yield from _exceeded(placement, name, "weight_bits", demand.weight_bits, "fewer bits (--bits)")
    if layer.reached.any():  # what the host alone reads is no spike
        remedy = "delay the sources of a sum apart, so that spikes are binary; a sum of weights needs a neuron"
        yield from _exceeded(placement, name, "payload_bits", demand.payload_bits, remedy)
    chain = -(-demand.longest // chip.whole("delay"))
    remedy = f"done: chains of {chain} relay neurons hold what is delayed"
    yield from _exceeded(placement, name, "delay", demand.longest, remedy, mended=True)


def _of_inputs(placement: Placement) -> Iterator[Violation]:
    for name, bits in placement.inputs.items():
        remedy = "an input of spikes (counts as trains), or a layer on the host that turns it into spikes"
        yield from _exceeded(placement, name, "payload_bits", bits, remedy)


def _of_chip(placement: Placement) -> Iterator[Violation]:
    remedy = f"take {placement.chips} chips, narrower layers or fewer bits (--bits)"
    yield from _exceeded(placement, "network", "cores", placement.cores, remedy)
    yield from _exceeded(placement, "network", "chip_neurons", placement.neurons, remedy)
