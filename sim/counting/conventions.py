"""Conventions of counting as data: for every kind of operation the rule by which a convention charges it.

A *part* is a kind of work of a network (its synapses, biases, attention...). Each convention names one rule for each
part; `rules` evaluates them. Sources and versions are those against which the tests compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PARTS = ("synapse", "bias", "normalisation", "rotary", "attention", "neuron", "residual")

# Why a convention differs from what was executed. Every difference is the sum of these.
CAUSES = (
    "integer_inputs",  # an entry n > 1: n accumulations, one graded spike, or a reason to call the layer dense
    "kernel_ends",  # taps of a convolution that reach before the first or after the last step of a sample
    "zero_input",  # entries that are 0 in a layer that is taken for dense
    "zero_weights",  # weights of 0, which are no synapses
    "padding",  # steps of the window after the sample's last one
    "attention_order",  # (Q K^T) V instead of Q (K^T V)
    "attention_correlation",  # rate x FLOPs instead of the coincidences of q and k
    "rotary",
    "bias",
    "normalisation",
    "neuron_updates",
    "residual_sums",
    "cut_off",  # what arrives so late that the run ends before all taps have passed
    "uncounted",  # operations that a convention does not see at all
)


@dataclass(frozen=True)
class Convention:
    """One way of counting.

    Attributes:
        name: what it is called.
        title: the same in words.
        source: where it comes from.
        rules: for each part a key of RULES.
        end_to_end: whether it claims to tell all that an answer takes, so that what comes before the network (`before`)
            belongs beside its figure; the others are of a network alone.
    """

    name: str
    title: str
    source: str
    rules: Mapping[str, str]
    end_to_end: bool = False


# What each rule charges, in words; `rules` has the formulas.
RULES: Mapping[str, Mapping[str, str]] = {
    "synapse": {
        "events": "AC for every event and synapse, an integer n being n events; real values: MAC for every entry not 0",
        "graded": "one operation for every non-zero entry and synapse: AC where the entry is 1, else MAC",
        "paper": "firing rate of the input x FLOPs of the window; real values: MAC for every entry of the window",
        "tensor": "input all 0 or 1: AC for every spike and synapse within the sample; else MAC for every entry",
        "effective": "every non-zero entry and synapse within the sample: AC if the input is all 0 or 1, else MAC",
        "rate": "input all 0 or 1: rate x FLOPs, AC; else FLOPs, MAC",
    },
    "bias": {
        "none": "not charged",
        "rate": "input all 0 or 1: rate x additions, AC; else additions, MAC; a Linear adds its bias once per call",
    },
    "normalisation": {
        "none": "not charged (or folded away)",
        "subtract_scale": "AC for every channel and for every entry, MAC for every entry",
        "twice": "2 MAC for every entry",
    },
    "rotary": {
        "events": "2 AC for every event",
        "graded": "2 operations for every non-zero entry: AC where it is 1, else MAC",
        "none": "not charged",
        "entries": "AC for every entry, 0 or not",
    },
    "attention": {
        "linear": "as executed: over steps in the order Q (K^T V), over tokens in the cheaper one",
        "quadratic": "AC in the order (Q K^T) V: coincidences of q and k, and every spike of v at every step or token",
        "paper": "AC: every spike of q and of v at every step of the window, or for every token",
        "none": "not charged",
    },
    "neuron": {
        "none": "not charged",
        "six": "6 AC for every update, 5 for the first of a neuron",
        "one": "AC for every update",
    },
    "residual": {
        "none": "not charged",
        "sums": "AC for every entry, or for every spike where both operands are 0 or 1",
    },
}

_NOTHING_ELSE = {"bias": "none", "normalisation": "none", "neuron": "none", "residual": "none"}

CONVENTIONS: Mapping[str, Convention] = {
    c.name: c
    for c in (
        Convention(
            "executed",
            "what was executed, event by event, attention in the linear order or over tokens in the cheaper one",
            "this run; docs/energy.md",
            {"synapse": "events", "rotary": "events", "attention": "linear", **_NOTHING_ELSE},
            end_to_end=True,
        ),
        Convention(
            "quadratic",
            "the same spikes, attention in the quadratic order",
            "this run; (Q K^T) V as in arXiv 2412.12858, section 3",
            {"synapse": "events", "rotary": "events", "attention": "quadratic", **_NOTHING_ELSE},
            end_to_end=True,
        ),
        Convention(
            "graded",
            "a chip with graded spikes: one operation for each message and synapse",
            "Loihi 2 Technology Brief, Intel 2021: spikes carry integer payloads",
            {"synapse": "graded", "rotary": "graded", "attention": "linear", **_NOTHING_ELSE},
            end_to_end=True,
        ),
        Convention(
            "paper",
            "the paper's formula with this run's firing rates",
            "arXiv 2412.12858, section 4: firing rate x FLOPs, 0.9 pJ and 4.6 pJ",
            {"synapse": "paper", "rotary": "none", "attention": "paper", **_NOTHING_ELSE},
        ),
        Convention(
            "spikingjelly",
            "SpikingJelly's counters on the network as it was trained",
            "SpikingJelly 2.0.0, activation_based.op_counter: ACCounter and MACCounter",
            {
                "synapse": "tensor", "bias": "none", "normalisation": "subtract_scale", "rotary": "entries",
                "attention": "linear", "neuron": "six", "residual": "sums",
            },
        ),
        Convention(
            "neurobench",
            "NeuroBench's effective synaptic operations",
            "NeuroBench 2.3.0, metrics.workload.SynapticOperations: Effective_ACs and Effective_MACs",
            {"synapse": "effective", "rotary": "none", "attention": "none", **_NOTHING_ELSE},
        ),
        Convention(
            "syops",
            "syops-counter on the network as it was trained, with layers that it knows",
            "syops 0.0.5, get_model_complexity_info",
            {
                "synapse": "rate", "bias": "rate", "normalisation": "twice", "rotary": "none",
                "attention": "none", "neuron": "one", "residual": "none",
            },
        ),
    )
}  # fmt: skip
