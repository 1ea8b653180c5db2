import numpy as np
import torch

from spikescr.model.position import Sinusoidal, sinusoidal_table


def test_table_is_that_of_attention_is_all_you_need() -> None:
    table = sinusoidal_table(50, 6)
    for p in (0, 1, 17, 49):
        for i in range(3):
            angle = p / 10000 ** (2 * i / 6)
            np.testing.assert_allclose(table[p, 2 * i : 2 * i + 2], [np.sin(angle), np.cos(angle)], rtol=0, atol=1e-13)


def test_encoding_is_added_on_valid_steps() -> None:
    x = torch.ones(4, 2, 5, dtype=torch.float64)
    valid = torch.ones(4, 2, 1, dtype=torch.float64)
    x[2:, 1], valid[2:, 1] = 0, 0
    got = Sinusoidal()(x, valid).numpy()
    np.testing.assert_array_equal(got[:, 0], 1 + sinusoidal_table(4, 5))
    np.testing.assert_array_equal(got[:2, 1], 1 + sinusoidal_table(2, 5))
    assert not got[2:, 1].any()
