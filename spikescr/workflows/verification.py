"""What a comparison of executed spikes with PyTorch's gave."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from spikescr.quantities import percent
from spikescr.sim.compare import Divergence, LayerComparison
from spikescr.tables import ShortTable, ShowsTable

ROUNDING = 1e-9  # logits are sums of some hundred float64 weights of order 1


@dataclass(frozen=True, repr=False)
class Verification(ShowsTable):
    """What a comparison of executed spikes with PyTorch's gave.

    Attributes:
        reference: What PyTorch computed with.
        backend: What executed the graph.
        samples: Names of the samples compared.
        layers: Of each layer of neurons: neuron-steps compared, spikes of PyTorch, spikes that differ.
        divergence: Where both part first, None where they do not; its sample is the position in `samples`.
        membranes: PyTorch's and the executed one's there, in thresholds; None outside of the
            sample's steps, and of a module's pools.
        logit_error: Largest difference of a logit.
        differing_predictions: Samples whose predicted class differs.
        explained: Of the spikes that differ: all where none is left once those membranes that meet their threshold
            within rounding take PyTorch's side of it, else none.
        cause: What explains them, in words.
    """

    reference: str
    backend: str
    samples: tuple[str, ...]
    layers: tuple[LayerComparison, ...]
    divergence: Divergence | None
    membranes: tuple[float, float] | None
    logit_error: float
    differing_predictions: int
    explained: int = 0
    cause: str | None = None

    @property
    def differing(self) -> int:
        """Spikes that differ, all layers."""
        return sum(layer.differing for layer in self.layers)

    @property
    def passed(self) -> bool:
        """No spike differs unexplained; where none does at all, no prediction either, and logits only by rounding."""
        if self.explained:
            return self.explained == self.differing
        return not self.differing and not self.differing_predictions and self.logit_error <= ROUNDING

    @property
    def first(self) -> str | None:
        """The first divergence in one line."""
        d = self.divergence
        if d is None:
            return None

        def fires(spike: bool) -> str:
            return "fires" if spike else "is quiet"

        text = (
            f"first divergence: {d.layer}, step {d.step}, neuron {d.neuron}, {self.samples[d.sample]}: "
            f"PyTorch {fires(d.expected)}, {self.backend.capitalize()} {fires(d.executed)}"
        )
        if self.cause is not None:
            return f"{text}; {self.cause}"
        if self.membranes is None:
            return f"{text}; no membranes are known there"
        expected, executed = self.membranes
        return f"{text}; membranes {expected!r} and {executed!r}, apart by {abs(expected - executed):.1e}"

    def as_json(self) -> dict[str, Any]:
        """Everything as verify.json has it."""
        first = None
        if self.divergence is not None:
            first = asdict(self.divergence) | {"recording": self.samples[self.divergence.sample]}
            if self.membranes is not None:
                first |= dict(zip(("membrane_pytorch", f"membrane_{self.backend}"), self.membranes, strict=True))
        return {
            "recordings": len(self.samples),
            "compared": sum(layer.compared for layer in self.layers),
            "spikes": sum(layer.spikes for layer in self.layers),
            "differing_spikes": self.differing,
            "explained_spikes": self.explained,
            "differing_predictions": self.differing_predictions,
            "largest_logit_difference": self.logit_error,
            "passed": self.passed,
            "first_divergence": first,
            "layers": [
                asdict(layer) | {"firing_rate": layer.firing_rate, "silent": layer.silent} for layer in self.layers
            ],
        }

    def short_table(self) -> ShortTable:
        """Spikes compared and differing of each layer; a silent one proves nothing and says so."""
        rows = [
            (
                layer.layer, f"{layer.compared:,}", f"{layer.spikes:,}",
                "silent: proves nothing" if layer.silent else percent(layer.firing_rate), f"{layer.differing:,}",
            )
            for layer in self.layers
        ]  # fmt: skip
        explained = f" ({self.explained:,} explained)" if self.explained else ""
        summary = (
            f"{len(self.samples)} samples: {self.differing:,} differing spikes{explained}, "
            f"{self.differing_predictions} differing predictions, largest difference of logits {self.logit_error:.1e}"
        )
        columns = ("layer", "neuron-steps", "spikes", "firing rate", "differing")
        title = f"{self.backend.capitalize()} against PyTorch ({self.reference})"
        return ShortTable(title, columns, rows, (*([self.first] if self.first else []), summary))
