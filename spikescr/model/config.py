"""What a SpikeSCR network is made of; travels with every checkpoint."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ModelConfig(BaseModel):
    """Sizes of SpikeSCR ("1L-8-128": layers 1, heads 8, width 128; arXiv 2412.12858, section 3).

    inputs: C, input channels. classes: K. layers: L, SGLE blocks. heads: H. width: N. mlp_ratio: r, hidden width of
    the MLPs over N. kernel: taps of the depthwise convolution, odd. dropout: after each LIF, training only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: int = Field(140, ge=1)
    classes: int = Field(20, ge=2)
    layers: int = Field(1, ge=1)
    heads: int = Field(8, ge=1)
    width: int = Field(128, ge=2)
    mlp_ratio: int = Field(1, ge=1)
    kernel: int = Field(31, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                f"width {self.width} must be an even number of channels for each of {self.heads} heads "
                "(rotary positions turn pairs)"
            )
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} must be odd (it is centred on its step)")
        return self

    @property
    def name(self) -> str:
        """Short name of the size, as in the paper: layers, heads, width."""
        return f"{self.layers}L-{self.heads}-{self.width}"
