import math

import numpy as np
import torch

from spikescr.model.rotary import Rotary


def test_rotation_is_that_of_the_equation() -> None:
    steps, samples, heads, width = 9, 2, 3, 4
    x = torch.randn(steps, samples, heads * width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = np.zeros(x.shape)
    for t in range(steps):
        for head in range(heads):
            for i in range(width // 2):
                angle = t / 10000 ** (2 * i / width)
                a, b = head * width + 2 * i, head * width + 2 * i + 1
                for sample in range(samples):
                    even, odd = float(x[t, sample, a]), float(x[t, sample, b])
                    expected[t, sample, a] = even * math.cos(angle) - odd * math.sin(angle)
                    expected[t, sample, b] = even * math.sin(angle) + odd * math.cos(angle)
    np.testing.assert_allclose(Rotary(width)(x, heads).numpy(), expected, rtol=0, atol=1e-15)


def test_products_depend_on_distance_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    q, k = torch.randn(2, 1, 1, 8, generator=generator, dtype=torch.float64).expand(2, 30, 1, 8)
    scores = torch.einsum("tbn,sbn->ts", Rotary(8)(q, 1), Rotary(8)(k, 1))
    torch.testing.assert_close(scores[5, 2], scores[25, 22], rtol=1e-12, atol=1e-12)
    assert abs(scores[5, 2] - scores[5, 3]) > 1e-3


def test_table_stays_in_double_precision_after_float() -> None:
    rotary = Rotary(8).float().double()
    x = torch.ones(40, 1, 8, dtype=torch.float64)
    np.testing.assert_array_equal(rotary(x, 1)[39, 0, 0].item(), math.cos(39) - math.sin(39))
