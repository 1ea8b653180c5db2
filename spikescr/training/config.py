"""What trainings are made of. Imports no torch: the command line takes its defaults from here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from spikescr.data.coder import PLANES
from spikescr.model.config import AnyModelConfig, ModelConfig

Precision = Literal["fp32", "bf16"]
"""Of matrix products while training."""
Normalise = Literal["training", "recording"]
"""Whose levels sound is normalised by."""
FrontEndKind = Literal["log-mel", "spikes"]
"""What the network gets of sound: levels of bands, real numbers; or events of neurons that code them."""
Loss = Literal["sum", "mean"]
"""Of the label; see TrainConfig."""

# What is beyond these only a slip explains.
MOST_THREADS = 1024
MOST_SEEDS = 10_000
LONGEST_S = 60.0
LOUDEST_DB = 120.0
HIGHEST = 1e6
"""Of rates and other factors: float32 holds their products."""

Decibels = Annotated[float, Field(ge=-LOUDEST_DB, le=LOUDEST_DB)]
Gap = Annotated[float, Field(ge=0, le=LONGEST_S)]


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

    Of sound the waveform can be altered before, in this order (`augment_sound`); none of it is the paper's.
    speed: played up to so much faster or slower, uniformly, pitch and all: 0.1 is from 0.9 to 1.1 times as fast.
    neighbours: probability that a recording is heard as in speech, in the middle of a whole window: another one of the
    training split before it and another behind, of which the window holds what it can. neighbour_gap_s: silence
    between them, in seconds, uniform between two.
    time_shift_s: up to so many seconds earlier or later; the other end leaves the window, and where nothing stands
    beside it, silence comes in.
    noise: "made", white, pink and brown noise and babble of our own generator, or "folder:PATH", the recordings there;
    None: none. noise_probability: of noise, per sample. noise_snr: signal-to-noise ratio in dB, uniform between two.
    gain_db: louder or quieter by up to so much, uniform in dB.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["mask", "drop"] = "mask"
    probability: float = Field(0.5, ge=0, le=1)
    bands: int = Field(10, ge=0)
    time_share: float = Field(0.25, ge=0, le=1)
    shift: int = Field(5, ge=0)
    speed: float = Field(0.0, ge=0, le=0.5)
    neighbours: float = Field(0.0, ge=0, le=1)
    neighbour_gap_s: tuple[Gap, Gap] = (0.2, 1.0)
    time_shift_s: float = Field(0.0, ge=0, le=LONGEST_S)
    noise: str | None = None
    noise_probability: float = Field(0.8, ge=0, le=1)
    noise_snr: tuple[Decibels, Decibels] = (0.0, 30.0)
    gain_db: float = Field(0.0, ge=0, le=LOUDEST_DB)

    @field_validator("noise")
    @classmethod
    def _source(cls, noise: str | None) -> str | None:
        if noise is not None and noise != "made" and not (noise.startswith("folder:") and noise != "folder:"):
            raise ValueError("noise is made, folder:PATH or none")
        return noise

    @field_validator("noise_snr", "neighbour_gap_s", mode="before")
    @classmethod
    def _from_list(cls, bounds: Any) -> Any:
        return tuple(bounds) if isinstance(bounds, list) else bounds  # files know no tuples

    @field_validator("noise_snr", "neighbour_gap_s")
    @classmethod
    def _ascending(cls, bounds: tuple[float, float], info: ValidationInfo) -> tuple[float, float]:
        if bounds[0] > bounds[1]:
            unit = "dB" if info.field_name == "noise_snr" else "seconds"
            raise ValueError(f"{info.field_name} is two numbers of {unit}, the lower one first")
        return bounds

    @property
    def of_sound(self) -> bool:
        """Whether waveforms are altered."""
        return self.noise is not None or max(self.speed, self.neighbours, self.time_shift_s, self.gain_db) > 0


class Distillation(BaseModel):
    """Loss of a student (KDCL, arXiv 2412.12858): a CE(y_S) + b tau^2 KL(softmax(y_T / tau) || softmax(y_S / tau)).

    y_T, y_S: what the label's loss has as logits (`TrainConfig.loss`), of teacher and student; CE: that loss; the mean
    over the batch is minimised.
    cross_entropy: a. divergence: b. temperature: tau. teacher_input: "augmented", the teacher sees what the student
    sees, augmented by the same draw at its own steps; "clean", the recording itself, so that its readouts are computed
    once. Without augmentation the two are the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cross_entropy: float = Field(1.0, ge=0)
    divergence: float = Field(0.5, ge=0)
    temperature: float = Field(1.0, gt=0)
    teacher_input: Literal["augmented", "clean"] = "augmented"


class Taught(Distillation):
    """The same with its teacher: steps per second of its input, SHA-256 of its checkpoint.

    The student begins with the teacher's weights.
    """

    teacher_steps: int = Field(ge=1)
    teacher: str


class _Settings(BaseModel):
    """What a training at any number of steps needs; see TrainConfig."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    data: str = "digits"
    window_s: float = Field(1.0, gt=0)
    frames_per_step: int = Field(1, ge=1)
    normalise: Normalise = "training"
    front_end: FrontEndKind = "log-mel"
    epochs: int = Field(40, ge=1)
    batch_size: int = Field(64, ge=2)
    lr: float = Field(1e-2, gt=0, le=HIGHEST)
    warmup_epochs: float = Field(3, ge=0)
    warmup_share: float = Field(0.5, ge=0, lt=1)
    cosine_epochs: float | None = Field(None, gt=0)
    final_lr: float = Field(0.01, ge=0, le=1)
    weight_decay: float = Field(5e-3, ge=0, le=HIGHEST)
    loss: Loss = "sum"
    synop_penalty: float = Field(0.0, ge=0, le=HIGHEST)
    surrogate_alpha: float = Field(5.0, gt=0, le=HIGHEST)
    seed: int = Field(0, ge=0, lt=2**63)
    threads: int | None = Field(None, ge=1, le=MOST_THREADS)
    precision: Precision = "fp32"
    precision_limit: float = Field(1e-2, ge=0, le=1)
    augmentation: Augmentation | None = Augmentation()
    model: AnyModelConfig = ModelConfig()

    @field_validator("model")
    @classmethod
    def _whole_bands(cls, model: AnyModelConfig, info: ValidationInfo) -> AnyModelConfig:
        frames, spiking = info.data.get("frames_per_step", 1), info.data.get("front_end") == "spikes"
        if model.inputs % (frames * (PLANES if spiking else 1)):
            more = f" times {PLANES} channels of each band (front_end=spikes)" if spiking else ""
            raise ValueError(f"inputs {model.inputs} must be a multiple of frames_per_step {frames}{more}, bands each")
        return model

    @field_validator("model")
    @classmethod
    def _counts_operations(cls, model: AnyModelConfig, info: ValidationInfo) -> AnyModelConfig:
        if info.data.get("synop_penalty"):
            if not isinstance(model, ModelConfig):
                raise ValueError(f"synop_penalty is for family spikescr, not {model.family}")
            if model.position == "sinusoidal":
                raise ValueError("synop_penalty is for spikes alone; with position sinusoidal layers get real numbers")
        return model

    @property
    def spiking(self) -> bool:
        """Whether the network gets events of sound."""
        return self.front_end == "spikes"

    @property
    def bands(self) -> int:
        """Mel bands, or groups of units."""
        return self.model.inputs // (self.frames_per_step * (PLANES if self.spiking else 1))


class TrainConfig(_Settings):
    """A training; the defaults take the embedded digits to well above 90 % in minutes on two cores.

    Attributes:
        data: As `open_data` takes it.
        steps: Per second.
        window_s: Length of the network's window, seconds.
        frames_per_step: Spectra of sound that a step's input holds.
        normalise: Sound by the levels of the "training" split, band by band, or each "recording" by its own, so that
            a louder or quieter one is the same.
        front_end: What the network gets of sound: "log-mel", levels of bands, real numbers; or "spikes", events of
            neurons that code them, PLANES channels of each band, so that its first layer only accumulates.
        epochs: Passes over the training split.
        batch_size: Recordings per optimisation step, at most.
        lr: AdamW's learning rate at the top.
        warmup_epochs: Of a linear rise to it, but no more than warmup_share of all epochs.
        warmup_share: Of all epochs, see warmup_epochs.
        cosine_epochs: After the rise the rate falls along half a cosine in so many epochs, and rises again in as many
            (T_max of torch's CosineAnnealingLR, stepped with every batch); None: it falls until the end.
        final_lr: The lowest rate, over that at the top.
        weight_decay: AdamW's.
        loss: Of the label. "sum": cross-entropy with the readout as logits, the paper's; "mean": minus the logarithm of
            the label's probability, its mean over steps, whose gradient stays where all steps are sure and wrong.
        synop_penalty: Times synaptic operations for each synapse from neurons to neurons and valid step, added to a
            recording's loss: a network learns to do with fewer. Family spikescr.
        surrogate_alpha: Sharpness of the arc tangent in whose place a spike has its gradient; 5 is the paper's, less
            lets more neurons learn. It does not change what a network computes.
        seed: Of weights, order, dropout, augmentation, and of splits that a folder does not list.
        threads: Of torch; None: as many as torch chooses. Sums in another order may differ in the last bit, so equal
            weights need equal threads.
        precision: Of matrix products while training (`precision` tells which); "bf16" is bfloat16.
        precision_limit: Largest share of neuron-steps whose spike it may change, before the first epoch and at the end;
            the default is a fifteenth of the spikes of a network that fires at 15 %: what fires otherwise more often
            is another network than the one that is evaluated and exported.
        augmentation: Of the input; None: none.
        model: Family and sizes; `classes` follows from the data, `inputs` is the number of mel bands times
            frames_per_step (and PLANES with front_end spikes), or of groups of units.
        distillation: Its teacher and loss; None: none.
    """

    steps: int = Field(40, ge=1)
    distillation: Taught | None = None


class Student(BaseModel):
    """Where the training of students differs from that of the first network; None: not at all.

    epochs, lr, warmup_epochs, warmup_share: as in TrainConfig.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int | None = Field(None, ge=1)
    lr: float | None = Field(None, gt=0, le=HIGHEST)
    warmup_epochs: float | None = Field(10, ge=0)
    warmup_share: float | None = Field(0.25, ge=0, lt=1)


class CurriculumConfig(_Settings):
    """A curriculum: one training after the other, each the next one's teacher and its initial weights.

    curriculum: steps per second of each; the first is trained directly. student: what differs for the others.
    distillation: their loss. The rest is as in TrainConfig, and the same for all.
    """

    curriculum: tuple[int, ...] = (100, 40)
    student: Student = Student()
    distillation: Distillation = Distillation()

    @field_validator("curriculum", mode="before")
    @classmethod
    def _from_list(cls, steps: Any) -> Any:
        return tuple(steps) if isinstance(steps, list) else steps  # files know no tuples

    @field_validator("curriculum")
    @classmethod
    def _stages(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if len(steps) < 2 or min(steps) < 1:
            raise ValueError("a curriculum needs two or more numbers of steps per second, a teacher's and a student's")
        if len(set(steps)) < len(steps):
            raise ValueError("a curriculum names each number of steps per second once")
        return steps

    def direct(self) -> TrainConfig:
        """The training of the first stage."""
        shared = {name: getattr(self, name) for name in _Settings.model_fields}
        return TrainConfig(**shared, steps=self.curriculum[0])

    def taught(self, stage: int, teacher: str) -> TrainConfig:
        """The training of a later stage (from 1), whose teacher's checkpoint has this SHA-256."""
        loss = Taught(**self.distillation.model_dump(), teacher_steps=self.curriculum[stage - 1], teacher=teacher)
        changes = {name: value for name, value in dict(self.student).items() if value is not None}
        changes |= {"steps": self.curriculum[stage], "distillation": loss}
        return self.direct().model_copy(update=changes)
