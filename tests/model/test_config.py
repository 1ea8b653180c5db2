import pytest
import torch
from pydantic import ValidationError

from spikescr.model import ModelConfig, SpikeSCR


def parameters(**sizes: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in SpikeSCR(ModelConfig(**sizes)).parameters())


def test_parameters_of_1l_8_128_for_shd() -> None:
    n, c, k = 128, 140, 20
    norm = 2 * n  # gain and shift
    sem = 3 * c * n + n + norm
    ssa = 4 * (n * n + n + norm)  # q, k, v, out
    mlp = 2 * (n * n + norm)  # r = 1: N -> N -> N without bias
    sgc = (
        (n * n + n + norm)  # pointwise
        + (31 * n + norm)  # depthwise, no bias
        + (n * 2 * n + 2 * n + 2 * norm)  # pointwise to 2N
        + (n * n + n + norm)  # gate
    )
    head = n * k
    assert parameters(inputs=c, classes=k, heads=8, width=n) == sem + ssa + 2 * mlp + sgc + head == 261_632


def test_parameters_of_1l_16_256_and_2l_16_256_for_gsc() -> None:
    n, c, k, r = 256, 140, 35, 4
    norm = 2 * n
    sem = 3 * c * n + n + norm
    ssa = 4 * (n * n + n + norm)
    mlp = (n * r * n + r * norm) + (r * n * n + norm)
    sgc = (n * n + n + norm) + (31 * n + norm) + (2 * n * n + 2 * n + 2 * norm) + (n * n + n + norm)
    block = ssa + 2 * mlp + sgc
    head = n * k
    sizes = {"inputs": c, "classes": k, "heads": 16, "width": n, "mlp_ratio": r}
    assert parameters(layers=1, **sizes) == sem + block + head == 1_709_824
    assert parameters(layers=2, **sizes) == sem + 2 * block + head == 3_302_400


def test_name() -> None:
    assert ModelConfig(layers=2, heads=16, width=256).name == "2L-16-256"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"width": 100, "heads": 8}, "width 100 must be an even number of channels for each of 8 heads"),
        ({"width": 24, "heads": 8}, "even number of channels"),  # 3 channels per head: no pairs
        ({"kernel": 30}, "kernel 30 must be odd"),
        ({"n_heads": 4}, "Extra inputs are not permitted"),
        ({"dropout": 1.0}, "less than 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate(sizes)
