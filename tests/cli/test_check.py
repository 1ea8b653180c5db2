"""`spikescr check` as a process: what goes through, what is refused, and who mixes samples or steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import Command, spikescr

NETWORKS = '''
import torch
from torch import nn
from spikingjelly.activation_based import layer, neuron
from spikingjelly.activation_based.model.qkformer import QKFormer


def lif(threshold):
    return neuron.LIFNode(v_threshold=threshold, step_mode="m")


class Rotated(nn.Module):
    """q of SpikeSCR after its rotation, (B, H, T, D), on its way to the second LIF: the public code reshapes it."""

    def __init__(self, repaired):
        super().__init__()
        torch.manual_seed(0)
        self.repaired, self.fc, self.lif, self.second = repaired, nn.Linear(16, 16), lif(0.3), lif(0.5)

    def forward(self, x):
        t, b, n = x.shape
        q = self.lif(self.fc(x)).reshape(t, b, 2, n // 2).permute(1, 2, 0, 3)
        return self.second(q.permute(2, 0, 1, 3).reshape(t, b, n) if self.repaired else q.reshape(t, b, n))


class Folded(nn.Module):
    """The end of QKFormer's attention as published: steps folded into the batch stay there for the last LIF."""

    def __init__(self, repaired):
        super().__init__()
        torch.manual_seed(0)
        self.repaired, self.proj, self.lif, self.last = repaired, nn.Linear(16, 16), lif(0.3), lif(0.3)

    def forward(self, x):
        t, b, n = x.shape
        x = self.proj(self.lif(x).flatten(0, 1))
        return self.last(x.reshape(t, b, n) if self.repaired else x).reshape(t, b, n)


def public():
    return Rotated(False)


def permuted():
    return Rotated(True)


def folded():
    return Folded(False)


def unfolded():
    return Folded(True)


def qkformer():
    torch.manual_seed(0)
    net = QKFormer(T=3, num_classes=4, embed_dims=16, num_heads=(1, 2, 2), depths=(1, 1, 1), v_threshold=0.02)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.bias, 0.0, 0.5)
    return net


class Refused(nn.Module):
    def __init__(self):
        super().__init__()
        self.sn = neuron.KLIFNode(step_mode="m")

    def forward(self, x):
        return self.sn(torch.softmax(x, -1))
'''


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("check") / "networks.py"
    file.write_text(NETWORKS)
    return file


def check(file: Path, factory: str, shape: str, *more: str) -> Command:
    return spikescr("check", f"{file.name}:{factory}", "--shape", shape, *more, cwd=file.parent)


@pytest.mark.parametrize(
    ("factory", "module", "reason"),
    [("public", "second", "its steps run over samples"), ("folded", "last", "steps and samples folded into one axis")],
)
def test_the_two_published_ways_of_mixing_are_found(networks: Path, factory: str, module: str, reason: str) -> None:
    found = check(networks, factory, "4,2,16", "--json", f"{factory}.json")
    assert found.returncode == 1, found.stderr
    assert reason in found.stdout
    assert f"the first module that differs is {module} (LIFNode)" in found.stdout
    assert found.stderr.splitlines() == [
        f"error: networks.py:{factory}: 1 refused, samples or steps change one another"
    ]
    told = json.loads((networks.parent / f"{factory}.json").read_text())
    assert [(row["path"], row["fault"]) for row in told["problems"]] == [(module, "steps")]
    assert {row["path"] for row in told["trials"]["mixed"]} == {module}
    assert told["mixes"]
    assert not told["passes"]


@pytest.mark.parametrize(
    ("factory", "shape"), [("permuted", "4,2,16"), ("unfolded", "4,2,16"), ("qkformer", "3,2,3,16,16")]
)
def test_the_repaired_ones_and_spikingjellys_qkformer_pass(networks: Path, factory: str, shape: str) -> None:
    found = check(networks, factory, shape)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stderr == ""
    assert "everything goes through" in found.stdout
    assert "the same with the batch in another order" in found.stdout
    assert "never fired" not in found.stdout, "a silent layer proves nothing"


def test_everything_refused_is_told_at_once(networks: Path) -> None:
    found = check(networks, "Refused", "3,2,4")
    assert found.returncode == 1
    assert "softmax" in found.stdout
    assert "KLIFNode" in found.stdout
    assert "networks.py:" in found.stdout
    assert found.stderr.splitlines() == ["error: networks.py:Refused: 2 refused"]


@pytest.mark.parametrize(
    ("spec", "shape", "status", "message"),
    [
        ("networks.py:nothing", "4,2,16", 2, "there is no nothing"),
        ("networks.py:public", "4,x", 2, "whole numbers above 0"),
        ("networks.py:public", "4,2,17", 1, "fails on an input of shape (4, 2, 17)"),
    ],
)
def test_bad_input_is_one_line(networks: Path, spec: str, shape: str, status: int, message: str) -> None:
    found = check(networks, spec.partition(":")[2], shape)
    assert found.returncode == status
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1 or status == 2
