"""Run by test_devices: trains as `spikescr train` does and keeps the gradients of the first step, and shares of data.

python recording_gradients.py DATA FOLDER
"""

import json
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from spikescr.data import open_data
from spikescr.model.config import ModelConfig
from spikescr.runs import RunFolder
from spikescr.training.config import TrainConfig
from spikescr.training.devices import Devices
from spikescr.training.loop import train
from spikescr.training.objective import Batch, CrossEntropy

data, folder = sys.argv[1], Path(sys.argv[2])
devices = Devices()
gradients: list[dict[str, torch.Tensor]] = []
seen: list[list[int]] = []


class Watching(CrossEntropy):
    def losses(self, y: torch.Tensor, batch: Batch) -> torch.Tensor:
        seen.append([batch.epoch, *batch.index.tolist()])
        return super().losses(y, batch)


step = torch.optim.AdamW.step


def recorded_step(self: torch.optim.AdamW, *arguments: Any) -> Any:
    if not gradients:
        parameters = self.param_groups[0]["params"]
        gradients.append({str(i): p.grad.clone() for i, p in enumerate(parameters)})
    return step(self, *arguments)


torch.optim.AdamW.step = recorded_step  # type: ignore[method-assign, assignment]
config = TrainConfig(
    data=data,
    steps=20,
    window_s=0.5,
    epochs=2,
    batch_size=9,
    threads=1,
    model=ModelConfig(inputs=20, heads=2, width=16, kernel=7, dropout=0.2),
)
train(config, open_data(data), RunFolder(folder / "run"), objective=Watching(), devices=devices)
(folder / f"seen-{devices.rank}.json").write_text(json.dumps(seen))
if devices.is_main:
    safetensors.torch.save_file(gradients[0], folder / "gradients.safetensors")
