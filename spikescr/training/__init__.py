"""Direct training: configuration, batches, augmentation, the loop."""

from spikescr.training.config import Augmentation, TrainConfig

__all__ = ["Augmentation", "TrainConfig"]
