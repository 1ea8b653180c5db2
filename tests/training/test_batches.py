from __future__ import annotations

import pytest
import torch

from spikescr.training.batches import Split, by_length, shuffled

STEPS = torch.randint(5, 41, (1000,), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("samples", "batch_size"), [(1000, 64), (65, 64), (3, 64), (129, 2)])
def test_an_epoch_has_every_sample_once_in_batches_of_nearly_equal_size(samples: int, batch_size: int) -> None:
    batches = shuffled(STEPS[:samples], batch_size, torch.Generator().manual_seed(1))
    assert torch.cat(batches).sort().values.tolist() == list(range(samples))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 2


def test_order_follows_from_the_generator() -> None:
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.cat(shuffled(STEPS, 64, generator)) for _ in range(2))
    again = torch.cat(shuffled(STEPS, 64, torch.Generator().manual_seed(1)))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_batches_are_of_similar_lengths_and_of_other_company_each_time() -> None:
    generator = torch.Generator().manual_seed(2)
    epochs = [shuffled(STEPS, 50, generator) for _ in range(2)]
    padded = sum(len(batch) * int(STEPS[batch].max()) for batch in epochs[0])
    assert padded < 1.2 * int(STEPS.sum())
    company = [{frozenset(batch.tolist()) for batch in epoch} for epoch in epochs]
    assert not company[0] & company[1]


def test_batch_ends_with_its_longest_sample() -> None:
    values = torch.arange(3 * 6 * 2, dtype=torch.float32).reshape(3, 6, 2)
    split = Split(values, torch.tensor([3, 4, 6]), torch.tensor([7, 8, 9]))
    x, steps, labels = split.batch(torch.tensor([1, 0]))
    assert x.tolist() == [[values[1, t].tolist(), values[0, t].tolist()] for t in range(4)]
    assert (steps.tolist(), labels.tolist()) == ([4, 3], [8, 7])


def test_evaluation_goes_by_length() -> None:
    order = torch.cat(by_length(STEPS, 64))
    assert order.sort().values.tolist() == list(range(1000))
    assert torch.equal(STEPS[order], STEPS.sort().values)
