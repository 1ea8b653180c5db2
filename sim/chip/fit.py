"""A graph on a chip: its layers on cores, the limits that it exceeds, and what a counted run would take there."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import nir

from spikescr.errors import GraphError
from spikescr.progress import Notify
from spikescr.quantities import percent, si
from spikescr.sim.chip.bits import layer_bits
from spikescr.sim.chip.costs import FITTED, chip_costs
from spikescr.sim.chip.fitted import FittedEstimate, estimate_fitted
from spikescr.sim.chip.limits import chip_named, sources
from spikescr.sim.chip.mapper import WEIGHT_BITS, Placement, place
from spikescr.sim.chip.rules import Violation, check
from spikescr.sim.chip.traffic import Activity, Estimate, between_cores, channel_rates, estimate
from spikescr.sim.counting.energy import CONSTANTS
from spikescr.sim.counting.saved import Audit
from spikescr.sim.lowering.graph_time import has_clock, has_step
from spikescr.sim.lowering.lower import lower
from spikescr.sim.program import Program
from spikescr.tables import ShortTable, ShowsTable

COST = "loihi2018"
"""Energies of the first estimate, the chip's smallest published figures; of the second see `costs.FITTED`."""


@dataclass(frozen=True, repr=False)
class Fit(ShowsTable):
    """A graph on a chip.

    Attributes:
        placement: Its layers on the chip's cores.
        violations: Limits that it exceeds.
        spikes: Of each layer, spikes per step that it sends to other cores.
        estimate: Energy and time of one recording by published figures; None where no run of this graph was counted.
        fitted: The same by costs fitted on silicon, with the way of the spikes over the mesh; None likewise.
    """

    placement: Placement
    violations: tuple[Violation, ...]
    spikes: dict[str, float]
    estimate: Estimate | None
    fitted: FittedEstimate | None

    @property
    def cores(self) -> int:
        """Cores that it takes, of all chips."""
        return self.placement.cores

    @property
    def chips(self) -> int:
        """Chips that it takes."""
        return self.placement.chips

    @property
    def fits(self) -> bool:
        """Whether no limit is exceeded but those that the placement has mended."""
        return all(violation.mended for violation in self.violations)

    def rows(self) -> list[dict[str, Any]]:
        """The table of layers, numbers as such, memory in bytes; shares are of all that the layer's cores have."""
        chip, rows = self.placement.chip, []
        for layer in self.placement.layers:
            count = len(layer.cores)
            rows.append(
                {
                    "layer": layer.name,
                    "neurons": layer.demand.neurons,
                    "bits": layer.demand.weight_bits,
                    "cores": count,
                    "memory_bytes": layer.memory,
                    "memory_used": layer.memory / (count * chip.memory.value),
                    "neurons_used": layer.demand.neurons / (count * chip.neurons.value),
                    "input_axons": max(core.input_axons for core in layer.cores),
                    "output_axons": max(core.output_axons for core in layer.cores),
                    "state_bytes": layer.state,
                    "spikes_between_cores": self.spikes[layer.name],
                }
            )
        return rows

    def totals(self) -> dict[str, Any]:
        """Sums and shares over all layers."""
        placement = self.placement
        return {
            "neurons": placement.neurons,
            "cores": placement.cores,
            "chips": placement.chips,
            "memory_bytes": placement.memory,
            "memory_used": placement.memory / (placement.cores * placement.chip.memory.value),
            "neurons_used": placement.neurons / (placement.cores * placement.chip.neurons.value),
            "spikes_between_cores": sum(self.spikes.values()),
        }

    def as_json(self) -> dict[str, Any]:
        """Everything, with the chip's limits and their sources."""
        placement = self.placement
        return {
            "chip": placement.chip_name,
            "limits": {name: limit.model_dump(exclude_none=True) for name, limit in placement.chip.limits.items()},
            "sources": {name: source.model_dump() for name, source in sources().items()},
            "layers": self.rows(),
            "total": self.totals(),
            "violations": [asdict(violation) for violation in self.violations],
            "fits": self.fits,
            "spikes_measured": self.estimate is not None,
            "estimate": None if self.estimate is None else asdict(self.estimate),
            "estimate_constants": CONSTANTS.costs[COST].model_dump(),
            "fitted": None if self.fitted is None else asdict(self.fitted),
            "fitted_constants": chip_costs()[FITTED].model_dump(),
        }

    def short_table(self) -> ShortTable:
        """Neurons, cores and memory of each layer."""
        total = {"layer": "total", **self.totals()}
        rows = [
            (r["layer"], f"{r['neurons']:,}", f"{r['cores']:,}", si(r["memory_bytes"], "B"), percent(r["memory_used"]))
            for r in (*self.rows(), total)
        ]
        over = [violation.line for violation in self.violations if not violation.mended]
        columns = ("layer", "neurons", "cores", "memory", "of the cores'")
        verdict = "fits" if self.fits else "does not fit"
        chips = "1 chip" if self.chips == 1 else f"{self.chips} chips"
        title = f"{self.placement.chip.title}: {verdict}, {self.cores} cores on {chips}"
        return ShortTable(title, columns, rows, over)


def fit_graph(
    graph: nir.NIRGraph, chip: str, *, bits: int | None = None, audit: Audit | None = None, notify: Notify
) -> Fit:
    """Places a graph on a chip.

    Args:
        graph: whose metadata may tell bits of weights and seconds per step.
        chip: name of a chip of limits.toml.
        bits: of all weights; None: what the graph tells, else 8.
        audit: of a run of this graph; without it every neuron is taken to fire at every step, an upper bound.
        notify: called with what a user should know.

    Raises:
        UsageError: there is no such chip.
        GraphError: the graph cannot be run, or has nothing to be placed.
    """
    limits = chip_named(chip)
    program = _lowered(graph, notify)
    told = layer_bits(graph, program) if bits is None else {}
    placement = place(program, chip, limits, told, bits or WEIGHT_BITS)
    if not placement.layers:
        raise GraphError("has no neurons and no synapses to be placed")
    activity = None if audit is None else Activity.from_audit(audit, program)
    rates = channel_rates(program, activity)
    return Fit(
        placement,
        check(placement),
        {layer.name: between_cores(layer, rates) for layer in placement.layers},
        None if activity is None else estimate(placement, program, activity, CONSTANTS.costs[COST]),
        None if activity is None else estimate_fitted(placement, program, activity),
    )


def _lowered(graph: nir.NIRGraph, notify: Notify) -> Program:
    told = has_step(graph)
    if not told:
        notify("the graph has no seconds per step; its delays are taken as steps of 1 s")
    # A graph without a clock runs as long as its input; nothing that a core holds depends on that.
    steps = None if has_clock(graph) else 1
    return lower(graph, dt=None if told else 1.0, steps=steps, round_delays=not told)
