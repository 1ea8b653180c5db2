"""The processes and devices of a training, as `accelerate launch --multi_gpu` started them; alone without it.

Where there is no GPU the same command trains with processes on the CPU. (`--cpu` does not: accelerate 1.x starts one
process then, whatever --num_processes says, unless it is given an MPI host file.)

Every process walks through the same batches and takes its share of each, so that the global batch is what the
configuration says whatever the number of processes. What is summed over processes gives what one process would have.
"""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn

from spikescr.errors import UsageError
from spikescr.model.layers import SequenceBatchNorm, SequenceDropout
from spikescr.training.memory import keep_freed_memory


class Devices:
    """This process among `processes`, number `rank`, and its device.

    Args:
        cpu: whether to stay on the CPU where there is a GPU.

    Raises:
        UsageError: `accelerate launch` was asked for several processes and started this one alone.
    """

    def __init__(self, *, cpu: bool = False) -> None:
        # Of what is no CPU, CUDA alone has the float64 that sums are taken in. Buffers need no broadcast: statistics
        # are those of the whole batch everywhere.
        handlers = [DistributedDataParallelKwargs(broadcast_buffers=False)]
        self.accelerator = Accelerator(cpu=cpu or not torch.cuda.is_available(), kwargs_handlers=handlers)
        self.device: torch.device = self.accelerator.device
        if self.device.type == "cpu":
            keep_freed_memory()
        # torch lets convolutions on CUDA, and nothing else, round what they multiply to 11 significant bits (TF32).
        torch.backends.cudnn.allow_tf32 = False
        self.rank: int = self.accelerator.process_index
        self.processes: int = self.accelerator.num_processes
        if self.processes == 1 and _started_alone():
            raise UsageError(
                "accelerate launch --cpu started one process, however many were asked for; "
                "start them, on CPUs too, with: accelerate launch --multi_gpu --num_processes N -m spikescr ..."
            )

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    def require_batches(self, smallest: int) -> None:
        """Refuses batches of which a process would get nothing.

        Raises:
            UsageError: there are fewer recordings in the smallest batch than processes.
        """
        if smallest < self.processes:
            raise UsageError(
                f"{self.processes} processes cannot share a batch of {smallest} recordings: "
                "raise batch_size or start fewer processes"
            )

    def share(self, count: int) -> slice:
        """Which of `count` things in a row are this process's: every `processes`-th, for even work."""
        return slice(self.rank, count, self.processes)

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, its gradients averaged over processes and its batch statistics taken over all of them."""
        if self.processes > 1:
            for module in model.modules():
                if isinstance(module, SequenceBatchNorm):
                    module.over_processes = True
        wrapped: nn.Module = self.accelerator.prepare(model)
        return wrapped

    def share_dropout(self, model: nn.Module, count: int) -> None:
        """Tells all dropout layers that the coming batch is this process's share of `count` recordings."""
        for module in model.modules():
            if isinstance(module, SequenceDropout):
                module.share = (count, self.rank, self.processes)

    @property
    def generators(self) -> list[torch.device]:
        """Accelerators whose random state a training changes, as `torch.random.fork_rng` takes them."""
        return [] if self.device.type == "cpu" else [self.device]

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process; all of them must ask."""
        return bool(self.sum(torch.tensor([float(flag)])).any())

    def wait(self) -> None:
        """Until all processes are here."""
        self.accelerator.wait_for_everyone()

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in every one of them."""
        if self.processes == 1:
            return values
        total: Tensor = self.accelerator.reduce(values.to(self.device), reduction="sum")
        return total.to(values.device)


def _started_alone() -> bool:
    """Whether accelerate's launcher of one process was asked for several; launchers of several set WORLD_SIZE."""
    return {"ACCELERATE_USE_CPU", "MASTER_ADDR"} <= os.environ.keys() and "WORLD_SIZE" not in os.environ
