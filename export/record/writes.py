"""Tensors that share memory: what a write to one of them does to the others."""

from __future__ import annotations

import torch
from torch import Tensor


def overlay(old: Tensor, new: Tensor, places: Tensor, written: Tensor) -> Tensor:
    """`old` with the elements of `new` where the two stand at the same places of one storage."""
    order = torch.argsort(written.flatten())
    ranks, wanted = written.flatten()[order].contiguous(), places.flatten().contiguous()
    found = torch.searchsorted(ranks, wanted).clamp(max=len(ranks) - 1)
    hit = ranks[found] == wanted
    return torch.where(hit, new.flatten()[order[found]], old.flatten()).reshape(old.shape)


def positions(tensor: Tensor) -> Tensor:
    """Where every element of a tensor stands in its storage."""
    length = tensor.untyped_storage().nbytes() // tensor.element_size()
    return torch.arange(length).as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())
