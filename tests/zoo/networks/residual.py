"""A residual network for small colour images: soft reset, learned time constants, a head that averages over time."""

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn


def plif():
    return neuron.ParametricLIFNode(init_tau=2.0, v_reset=None, surrogate_function=surrogate.ATan(), detach_reset=True)


class Block(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1 = layer.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = layer.BatchNorm2d(cout)
        self.act1 = plif()
        self.conv2 = layer.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = layer.BatchNorm2d(cout)
        self.act2 = plif()
        if stride != 1 or cin != cout:
            self.shortcut = nn.Sequential(layer.Conv2d(cin, cout, 1, stride, bias=False), layer.BatchNorm2d(cout))
        else:
            self.shortcut = nn.Identity()

    def forward(self, x):
        out = self.act1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return self.act2(out)


class ResNet(nn.Module):
    def __init__(self, T=4, width=8, classes=10):
        super().__init__()
        self.T = T
        self.stem = nn.Sequential(
            layer.Conv2d(3, width, 3, padding=1, bias=False),
            layer.BatchNorm2d(width),
            neuron.IFNode(v_reset=None, surrogate_function=surrogate.ATan()),
        )
        self.blocks = nn.Sequential(
            Block(width, width, 1),
            Block(width, 2 * width, 2),
            Block(2 * width, 2 * width, 1),
        )
        self.pool = layer.AdaptiveAvgPool2d(1)
        self.drop = layer.Dropout(0.2)
        self.fc = layer.Linear(2 * width, classes)
        functional.set_step_mode(self, "m")

    def forward(self, x):  # (B, 3, H, W)
        x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        x = self.blocks(self.stem(x))
        x = torch.flatten(self.pool(x), 2)
        return self.fc(self.drop(x)).mean(0)


def make():
    return ResNet()
