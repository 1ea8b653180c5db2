"""What a training run is made of. Imports no torch: the command line takes its defaults from here."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spikescr.model.config import ModelConfig


class Augmentation(BaseModel):
    """Augmentation of log-mel input, training only: masks (SpecAugment, arXiv 1904.08779) and a shift.

    probability: of each of the two masks, per sample. bands: widest frequency mask. time_share: longest time mask over
    the sample's valid steps. Widths are uniform from 0 to the widest; masked input is 0, the mean. These defaults are
    those of arXiv 2412.12858 for GSC.
    shift: every sample moves by up to so many mel bands, up or down, as if another throat had spoken; the outermost
    band is repeated. Not of the paper; fewer errors on voices that were not heard in training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    probability: float = Field(0.5, ge=0, le=1)
    bands: int = Field(10, ge=0)
    time_share: float = Field(0.25, ge=0, le=1)
    shift: int = Field(5, ge=0)


class TrainConfig(BaseModel):
    """A direct training; the defaults take the embedded digits to well above 90 % in minutes on two cores.

    data: as `open_data` takes it. steps: per second. window_s: length of the network's window, seconds. epochs:
    passes over the training split. batch_size: recordings per step, at most. lr: AdamW's learning rate at the top.
    warmup_epochs: of a linear rise to it; a cosine over the rest of the run takes it down to 1 % again.
    weight_decay: AdamW's. seed: of weights, order, dropout, augmentation, and of splits that a folder does not list.
    threads: of torch; None: as many as torch chooses. Sums in another order may differ in the last bit, so equal
    weights need equal threads. augmentation: None: none. model: sizes; `classes` follows from the data, `inputs` is
    the number of mel bands.
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
    model: ModelConfig = ModelConfig()


def faults(error: ValidationError) -> str:
    """All faults of a configuration in one line: field, what is wrong, what was given."""
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or error.title}: {fault['msg'].removeprefix('Value error, ')}"
        + ("" if isinstance(fault["input"], dict) else f" (got {fault['input']!r})")
        for fault in error.errors()
    )
