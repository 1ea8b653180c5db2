from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import SMALL, calibrated_model

from spikescr.checkpoint import load_checkpoint
from spikescr.data import DataSet
from spikescr.runs import RunFolder
from spikescr.training.average import Average
from spikescr.training.config import TrainConfig
from spikescr.training.loop import Progress, train
from spikescr.training.state import Checkpoints, load_state


def test_mean_is_that_of_its_definition() -> None:
    """m_k = d m_{k-1} + (1 - d) w_k, d the smaller of the share and k / (k + 10), as a loop over numbers."""
    network, _, _ = calibrated_model(SMALL)
    average = Average(network, 0.6)
    name = "head.weight"
    expected = network.state_dict()[name].clone()
    for k in range(1, 30):
        with torch.no_grad():
            network.head.weight.add_(torch.randn(network.head.weight.shape, generator=torch.Generator().manual_seed(k)))
            network.sem.current.norm.num_batches_tracked.add_(1)  # type: ignore[union-attr, operator]
        average.follow(network, k)
        d = min(0.6, k / (k + 10))
        expected = d * expected + (1 - d) * network.state_dict()[name]
    torch.testing.assert_close(average.network.state_dict()[name], expected)
    tracked = "sem.current.norm.num_batches_tracked"
    assert average.network.state_dict()[tracked] == network.state_dict()[tracked]


def test_what_is_kept_and_evaluated_is_the_mean_and_resuming_finds_it(
    config: TrainConfig, dataset: DataSet, tmp_path: Path
) -> None:
    plain = train(config, dataset, RunFolder(tmp_path / "plain"))
    averaged = config.model_copy(update={"averaging": 0.8})
    whole = train(averaged, dataset, RunFolder(tmp_path / "whole"))
    for one, other in zip(plain.epochs, whole.epochs, strict=True):  # the weights that learn are the same
        assert one.train_loss == other.train_loss
        assert one.valid_loss != other.valid_loss
    kept = load_checkpoint(tmp_path / "whole" / "model.safetensors")[0].state_dict()
    latest = Checkpoints(tmp_path / "whole" / "checkpoints").latest()
    assert latest is not None
    state = load_state(latest)
    if whole.best == whole.epochs[-1]:
        assert all(torch.equal(kept[name], state.average[name]) for name in kept)
    assert not torch.equal(state.average["head.weight"], state.model["head.weight"])

    seen: list[Progress] = []
    cut = RunFolder(tmp_path / "cut")
    assert train(averaged, dataset, cut, on_step=seen.append, stop=lambda: len(seen) == 6).interrupted
    assert train(averaged, dataset, cut, resume=True).epochs == whole.epochs
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_shares_that_are_none_are_refused(share: float) -> None:
    with pytest.raises(ValueError, match="averaging"):
        TrainConfig(averaging=share)
