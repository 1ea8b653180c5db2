import numpy as np
import torch
from helpers import SMALL, calibrated_model
from torch import Tensor, nn

from spikescr.model import SpikeSCR, valid_mask
from spikescr.model.blocks import SpikingGatedConvolution, SpikingSelfAttention


def outputs_of(model: SpikeSCR, x: Tensor, steps: Tensor, *modules: nn.Module) -> list[Tensor]:
    found: dict[nn.Module, Tensor] = {}
    hooks = [m.register_forward_hook(lambda m, _i, out: found.update({m: out.detach()})) for m in modules]
    with torch.no_grad():
        model(x, steps)
    for hook in hooks:
        hook.remove()
    return [found[m] for m in modules]


def test_attention_is_the_product_of_scores_and_values_within_each_sample() -> None:
    model, x, steps = calibrated_model(SMALL, 5)
    ssa = model.blocks[0].ssa
    assert isinstance(ssa, SpikingSelfAttention)
    currents: list[Tensor] = []
    hook = ssa.attention.register_forward_pre_hook(lambda _m, inputs: currents.append(inputs[0]))
    q, k, v = (s.numpy() for s in outputs_of(model, x, steps, ssa.q_rotated, ssa.k_rotated, ssa.v))
    hook.remove()
    width = SMALL.width // SMALL.heads
    expected = np.zeros(q.shape)
    for sample, length in enumerate(steps.tolist()):
        for head in range(SMALL.heads):
            part = slice(head * width, (head + 1) * width)
            for t in range(length):
                for s in range(length):
                    score = q[t, sample, part] @ k[s, sample, part]
                    expected[t, sample, part] += score * v[s, sample, part]
    expected /= np.sqrt(width)
    assert expected.max() > 1
    np.testing.assert_allclose(currents[0].numpy(), expected, rtol=1e-13, atol=0)


def test_gate_passes_or_blocks() -> None:
    model, x, steps = calibrated_model(SMALL, 6)
    sgc = model.blocks[0].sgc
    assert isinstance(sgc, SpikingGatedConvolution)
    currents: list[Tensor] = []
    hook = sgc.gated.register_forward_pre_hook(lambda _m, inputs: currents.append(inputs[0]))
    split, gate = outputs_of(model, x, steps, sgc.split, sgc.gate)
    hook.remove()
    valid = valid_mask(steps, len(x), torch.bool).expand_as(gate)
    (current,) = currents
    passed, blocked = gate.bool() & valid, ~gate.bool() & valid
    assert passed.sum() > 100
    assert blocked.sum() > 100
    assert torch.equal(current[passed], split[..., : SMALL.width][passed])
    assert current[passed].abs().min() > 0
    assert (current[blocked] == 0).all()


def test_block_adds_its_parts_to_its_input() -> None:
    model, x, steps = calibrated_model(SMALL, 7)
    block = model.blocks[0]
    whole, sem, *parts = outputs_of(model, x, steps, block, model.sem, block.ssa, block.mlp1, block.sgc, block.mlp2)
    assert torch.equal(whole, sem + sum(parts))
    assert set(whole.unique().tolist()) >= {0.0, 1.0, 2.0, 3.0}
    assert torch.equal(whole, whole.round())
