"""What a network is made of; travels with every checkpoint. One class for each family of networks."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Position: TypeAlias = Literal["none", "sinusoidal", "sinusoidal_lif", "rotary"]
Attending: TypeAlias = Literal["full", "causal"]
NeuronKind: TypeAlias = Literal["lif", "parametric", "adaptive"]
FAMILIES = ("spikescr", "dcls", "recurrent", "adlif", "spikcommander")
DEEPEST = 1000
"""Layers, at most; a file cannot promise so many that describing them takes minutes."""
WIDEST = 2**20
"""Channels, classes, taps, at most: products of two of them are sizes that 64 bits hold."""


class _Common(BaseModel):
    """What all families have.

    inputs: C, input channels. classes: K. dropout: after each LIF, training only. neuron: "lif"; "parametric" for
    LIFs that learn one membrane constant per layer; "adaptive" for LIFs that what they did makes fire less, for a while
    (SiLIF, arXiv 2506.06374), behind every batch normalisation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    inputs: int = Field(140, ge=1, le=WIDEST)
    classes: int = Field(20, ge=2, le=WIDEST)
    dropout: float = Field(0.1, ge=0, lt=1)
    neuron: NeuronKind = "lif"


class ModelConfig(_Common):
    """Sizes and switches of SpikeSCR ("1L-8-128": layers 1, heads 8, width 128; arXiv 2412.12858, section 3).

    The switches are the paper's ablations.

    Attributes:
        family: Tells it from the other families.
        layers: L, SGLE blocks.
        heads: H, of attention.
        width: N.
        mlp_ratio: r, hidden width of the MLPs over N.
        kernel: Taps of the depthwise convolution, odd.
        position: A switch: "rotary" turns queries and keys (the paper's network); "sinusoidal" adds a table to the
            embedding, so that the residual stream carries real values; "sinusoidal_lif" sends that sum through a LIF;
            "none".
        attention: "full" (the paper's network): every step attends to the whole recording, and waits for its end.
            "causal": to what came until then, and nothing waits.
        gating_unit: A switch: False, the SGC's last pointwise layer drives its LIF ungated.
        separable_convolution: A switch: False, blocks have no SGC at all, which needs gating_unit False too.
    """

    family: Literal["spikescr"] = "spikescr"
    layers: int = Field(1, ge=1, le=DEEPEST)
    heads: int = Field(8, ge=1, le=WIDEST)
    width: int = Field(128, ge=2, le=WIDEST)
    mlp_ratio: int = Field(1, ge=1, le=1024)
    kernel: int = Field(31, ge=1, le=WIDEST)
    position: Position = "rotary"
    attention: Attending = "full"
    gating_unit: bool = True
    separable_convolution: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                f"width {self.width} must be an even number of channels for each of {self.heads} heads "
                "(rotary positions turn pairs)"
            )
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} must be odd (it is centred on its step)")
        if self.gating_unit and not self.separable_convolution:
            raise ValueError("without separable_convolution nothing feeds the gating_unit; switch it off too")
        return self

    @property
    def name(self) -> str:
        """Short name of the size, as in the paper: layers, heads, width; then what was switched off or changed."""
        changes = {
            self.neuron: self.neuron != "lif",
            self.position: self.position not in ("rotary", "none"),
            "no position": self.position == "none",
            "causal attention": self.attention == "causal",
            "no SGU": not self.gating_unit,
            "no separable convolution": not self.separable_convolution,
        }
        return ", ".join([f"{self.layers}L-{self.heads}-{self.width}", *(word for word, on in changes.items() if on)])


class DelaysConfig(_Common):
    """Feed-forward LIF layers whose synapses learn a delay each (DCLS-Delays, arXiv 2306.17670).

    layers: hidden layers. width: of each. taps: delays from 0 to taps - 1 steps can be learnt; odd, for outputs are
    aligned with the middle one. delays: "synaptic", one for each synapse, or "axonal", one for each neuron that sends
    (arXiv 2602.09746).
    """

    family: Literal["dcls"] = "dcls"
    layers: int = Field(2, ge=1, le=DEEPEST)
    width: int = Field(256, ge=1, le=WIDEST)
    taps: int = Field(11, ge=1, le=WIDEST)
    delays: Literal["synaptic", "axonal"] = "synaptic"
    dropout: float = Field(0.4, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> DelaysConfig:
        if self.taps % 2 == 0:
            raise ValueError(f"taps {self.taps} must be odd (outputs are aligned with the middle one)")
        return self

    @property
    def name(self) -> str:
        """Short name of the size: hidden layers, width, longest delay."""
        kind = "axonal delays" if self.delays == "axonal" else "delays"
        return f"DCLS {self.layers}L-{self.width}, {kind} to {self.taps - 1}{_neuron_suffix(self)}"


class RecurrentConfig(_Common):
    """Layers of LIFs that feed each other one step later. layers: hidden layers. width: of each."""

    family: Literal["recurrent"] = "recurrent"
    neuron: Literal["lif", "parametric"] = "lif"
    layers: int = Field(1, ge=1, le=DEEPEST)
    width: int = Field(256, ge=1, le=WIDEST)

    @property
    def name(self) -> str:
        """Short name of the size: hidden layers, width."""
        return f"recurrent {self.layers}L-{self.width}{_neuron_suffix(self)}"


class AdaptiveConfig(_Common):
    """Layers of adaptive LIFs (SiLIF, arXiv 2506.06374). layers: hidden layers. width: of each."""

    family: Literal["adlif"] = "adlif"
    neuron: Literal["adaptive"] = "adaptive"
    layers: int = Field(2, ge=1, le=DEEPEST)
    width: int = Field(256, ge=1, le=WIDEST)

    @property
    def name(self) -> str:
        """Short name of the size: hidden layers, width."""
        return f"adaptive {self.layers}L-{self.width}"


class CommanderConfig(_Common):
    """Sizes and switches of SpikCommander ("1L-8-128" as in SpikeSCR; arXiv 2511.07883).

    Attributes:
        family: Tells it from the other families.
        layers: L, blocks.
        heads: H, of attention.
        width: N.
        mlp_ratio: a, hidden width of the MLPs over N.
        kernel: Taps of the SCR-MLP's depthwise convolution, odd.
        window: T_max, steps that scale global attention; as many as the longest recording has.
        across: Taps of the convolution of the values within a head, 1 or 3 as published; odd.
        spiking_input: Whether a LIF stands before queries, keys and values (as published for SHD).
        embedding: A switch: False, a linear layer in place of SEE.
        local_attention: A switch: False, no moving sum.
        global_attention: A switch: False, no sum over the recording, and nothing waits for its end.
        convolution: A switch: False, no convolution of the values.
        refinement: A switch: False, an MLP in place of SCR-MLP.
    """

    family: Literal["spikcommander"] = "spikcommander"
    neuron: Literal["lif"] = "lif"
    layers: int = Field(1, ge=1, le=DEEPEST)
    heads: int = Field(8, ge=1, le=WIDEST)
    width: int = Field(128, ge=2, le=WIDEST)
    mlp_ratio: int = Field(1, ge=1, le=1024)
    kernel: int = Field(31, ge=1, le=WIDEST)
    window: int = Field(100, ge=1, le=WIDEST)
    across: int = Field(1, ge=1, le=WIDEST)
    spiking_input: bool = False
    embedding: bool = True
    local_attention: bool = True
    global_attention: bool = True
    convolution: bool = True
    refinement: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> CommanderConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be as many channels for each of {self.heads} heads")
        if self.refinement and self.mlp_ratio * self.width % 2:
            raise ValueError(f"mlp_ratio {self.mlp_ratio} times width {self.width} must be even (SCR-MLP halves it)")
        for name in ("kernel", "across"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"{name} {getattr(self, name)} must be odd (it is centred)")
        if not (self.local_attention or self.global_attention or self.convolution):
            raise ValueError("one of local_attention, global_attention and convolution must stay on")
        return self

    @property
    def name(self) -> str:
        """Short name of the size: layers, heads, width; then what was switched off."""
        off = {
            "SEE": not self.embedding,
            "local attention": not self.local_attention,
            "global attention": not self.global_attention,
            "convolution": not self.convolution,
            "SCR-MLP": not self.refinement,
        }
        size = f"SpikCommander {self.layers}L-{self.heads}-{self.width}"
        return ", ".join([size, *(f"no {part}" for part, is_off in off.items() if is_off)])


def _neuron_suffix(config: _Common) -> str:
    return "" if config.neuron == "lif" else f", {config.neuron}"


def _family(config: Any) -> str:
    """The tag of the family that a configuration names; files from before there were several name none."""
    named = config.get("family", FAMILIES[0]) if isinstance(config, dict) else getattr(config, "family", None)
    return f"({named})"


AnyModelConfig: TypeAlias = Annotated[
    Annotated[ModelConfig, Tag("(spikescr)")]
    | Annotated[DelaysConfig, Tag("(dcls)")]
    | Annotated[RecurrentConfig, Tag("(recurrent)")]
    | Annotated[AdaptiveConfig, Tag("(adlif)")]
    | Annotated[CommanderConfig, Tag("(spikcommander)")],
    Discriminator(
        _family, custom_error_type="family", custom_error_message=f"family must be one of {', '.join(FAMILIES)}"
    ),
]
"""The configuration of a network of any family, told apart by `family`."""
