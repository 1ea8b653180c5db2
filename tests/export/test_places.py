"""Functions that move elements: what `places` says against torch itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.step_interpreter import Interpreter
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from spikescr.export.record import record, stepped
from spikescr.export.record.recorder import copied

Move = Callable[[Tensor], Tensor]
SHAPE = (2, 4, 6)


def _permuted(x: Tensor) -> Tensor:
    return x.permute(0, 1, *range(x.ndim - 1, 1, -1))


def _written(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, :, ::2] = x[:, :, 1::2]
    return x


def _view_written(x: Tensor) -> Tensor:
    x = x.contiguous().clone()
    x.flatten(2)[:, :, 0].zero_()
    return x


def _collected(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    for step in range(len(x)):
        out[step] = x[step]
    return out


MOVES: list[Move] = [
    lambda x: x.flatten(2),
    lambda x: x.reshape(x.shape[0], x.shape[1], 2, -1),
    _permuted,
    lambda x: torch.cat(x.chunk(2, dim=2)[::-1], 2),
    lambda x: x.flip(-1),
    lambda x: x.roll(1, 2),
    lambda x: nn.functional.pad(x, (1, 0)),
    lambda x: torch.cat((x, torch.zeros_like(x)), -1),
    lambda x: torch.stack((x, x.flip(2)), 2),
    lambda x: x.unsqueeze(2).expand(-1, -1, 3, *x.shape[2:]),
    lambda x: x[:, :, torch.tensor([1, 0, 1])],
    lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    lambda x: torch.stack(list(x)),
    lambda x: x.flatten(0, 1).flip(-1).unflatten(0, x.shape[:2]),
    _written,
    _view_written,
    _collected,
]


class Moved(nn.Module):
    """A composition of moves between two neurons."""

    def __init__(self, moves: list[Move]) -> None:
        super().__init__()
        self.moves = moves
        self.first = neuron.IFNode(step_mode="m", v_threshold=0.7)
        self.second = neuron.IFNode(step_mode="m", v_threshold=1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for move in self.moves:
            x = move(x)
        return self.second(x)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(MOVES), min_size=1, max_size=4), st.integers(0, 2**16))
def test_compositions_of_moves_are_one_select(moves: list[Move], seed: int) -> None:
    module = Moved(moves)
    x = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = copied(module)(x)
    network = stepped(record(module, x))
    (found,) = Interpreter(network).run(x).values()
    assert torch.equal(found.reshape(expected.shape), expected)
    assert [node.operation for node in network.nodes if node.operation not in {"neuron", "select"}] == [
        "input",
        "output",
    ]
    assert sum(node.operation == "select" for node in network.nodes) <= 1
