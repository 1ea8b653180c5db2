"""What a training run is made of. Imports no torch: the command line takes its defaults from here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spikescr.model.config import FAMILIES, AnyModelConfig, ModelConfig


class Augmentation(BaseModel):
    """Augmentation of the input, training only: one run of channels and one of steps are zeroed; a shift.

    kind: "mask", for log-mel: SpecAugment (arXiv 1904.08779); masked input is 0, the mean. "drop", for spike counts:
    drop by time and drop by neuron (arXiv 2412.12858).
    probability: of each of the two runs, per sample. bands: most channels that are zeroed; the width is uniform from 0
    to it. time_share: of the sample's valid steps, rounded down: a mask's width is uniform from 0 to it, a drop has
    exactly this width. The place of a run is uniform among those where it fits.
    shift: every sample moves by up to so many channels, up or down, as if another throat had spoken; the outermost
    band is repeated, of counts nothing comes in. Not of the paper; fewer errors on voices that were not heard in
    training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["mask", "drop"] = "mask"
    probability: float = Field(0.5, ge=0, le=1)
    bands: int = Field(10, ge=0)
    time_share: float = Field(0.25, ge=0, le=1)
    shift: int = Field(5, ge=0)


PAPER_AUGMENTATION: Mapping[str, Augmentation] = {
    "shd": Augmentation(kind="drop", probability=0.5, bands=20, time_share=0.2, shift=0),
    "ssc": Augmentation(kind="drop", probability=0.5, bands=10, time_share=0.1, shift=0),
    "gsc": Augmentation(kind="mask", probability=1.0, bands=10, time_share=0.25, shift=0),
}
"""Of arXiv 2412.12858, by the kind of data that `open_data` takes. For GSC it names no probability: each time."""


class TrainConfig(BaseModel):
    """A direct training; the defaults take the embedded digits to well above 90 % in minutes on two cores.

    data: as `open_data` takes it. steps: per second. window_s: length of the network's window, seconds. epochs:
    passes over the training split. batch_size: recordings per step, at most. lr: AdamW's learning rate at the top.
    warmup_epochs: of a linear rise to it; a cosine over the rest of the run takes it down to 1 % again.
    weight_decay: AdamW's. seed: of weights, order, dropout, augmentation, and of splits that a folder does not list.
    threads: of torch; None: as many as torch chooses. Sums in another order may differ in the last bit, so equal
    weights need equal threads. augmentation: None: none; what is not given is, for the paper's data sets, as in
    PAPER_AUGMENTATION. model: family and sizes; `classes` follows from the data,
    `inputs` is the number of mel bands, or of groups of units.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = "digits"
    steps: int = Field(40, ge=1)
    window_s: float = Field(1.0, gt=0)
    epochs: int = Field(40, ge=1)
    batch_size: int = Field(64, ge=2)
    lr: float = Field(1e-2, gt=0)
    warmup_epochs: float = Field(3, ge=0)
    weight_decay: float = Field(5e-3, ge=0)
    seed: int = Field(0, ge=0, lt=2**63)
    threads: int | None = Field(None, ge=1)
    augmentation: Augmentation | None = Augmentation()
    model: AnyModelConfig = ModelConfig()

    @model_validator(mode="before")
    @classmethod
    def _augmentation_of_the_data(cls, content: Any) -> Any:
        if isinstance(content, dict) and isinstance(given := content.get("augmentation", {}), dict):
            paper = PAPER_AUGMENTATION.get(str(content.get("data")).partition(":")[0])
            if paper is not None:
                return content | {"augmentation": paper.model_dump() | given}
        return content


def faults(error: ValidationError) -> str:
    """All faults of a configuration in one line: field, what is wrong, what was given."""
    return "; ".join(
        f"{'.'.join(_field(fault['loc'])) or error.title}: {fault['msg'].removeprefix('Value error, ')}"
        + ("" if isinstance(fault["input"], dict) else f" (got {fault['input']!r})")
        for fault in error.errors()
    )


def _field(location: tuple[int | str, ...]) -> list[str]:
    """The keys that lead to a field; without the family that pydantic puts behind `model`, which is no key."""
    return [str(key) for i, key in enumerate(location) if not (key in FAMILIES and location[:i] == ("model",))]
