"""A small transformer over image patches: attention between tokens, heads and gates taken apart by chunk()."""

import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn


def lif(threshold=1.0):
    return neuron.LIFNode(tau=2.0, v_threshold=threshold, detach_reset=True, step_mode="m")


class TokenNorm(nn.Module):
    """Batch normalisation of (T, B, N, D) over everything but D."""

    def __init__(self, dim):
        super().__init__()
        self.bn = nn.BatchNorm1d(dim)

    def forward(self, x):
        T, B, N, D = x.shape
        return self.bn(x.reshape(T * B * N, D)).reshape(T, B, N, D)


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.norm = TokenNorm(3 * dim)
        self.qkv_lif = lif()
        self.attn_lif = lif(0.5)
        self.proj = nn.Linear(dim, dim)
        self.proj_norm = TokenNorm(dim)
        self.proj_lif = lif()

    def forward(self, x):
        T, B, N, D = x.shape
        q, k, v = self.qkv_lif(self.norm(self.qkv(x))).chunk(3, dim=-1)
        q, k, v = (y.view(T, B, N, self.heads, D // self.heads).transpose(2, 3) for y in (q, k, v))
        attention = (q @ k.transpose(-2, -1)) * self.scale
        y = (attention @ v).transpose(2, 3).reshape(T, B, N, D)
        return self.proj_lif(self.proj_norm(self.proj(self.attn_lif(y))))


class GatedMLP(nn.Module):
    """Half of the hidden spikes lets the other half through."""

    def __init__(self, dim, hidden):
        super().__init__()
        self.up = nn.Linear(dim, 2 * hidden)
        self.norm = TokenNorm(2 * hidden)
        self.lif = lif()
        self.down = nn.Linear(hidden, dim)
        self.down_norm = TokenNorm(dim)
        self.down_lif = lif()

    def forward(self, x):
        value, gate = torch.chunk(self.lif(self.norm(self.up(x))), 2, dim=-1)
        return self.down_lif(self.down_norm(self.down(value * gate)))


class Former(nn.Module):
    def __init__(self, dim=32, heads=4, depth=2, classes=10):
        super().__init__()
        self.patches = nn.Sequential(
            layer.Conv2d(2, dim, kernel_size=4, stride=4, step_mode="m"), layer.BatchNorm2d(dim, step_mode="m"), lif()
        )
        self.attention = nn.ModuleList(Attention(dim, heads) for _ in range(depth))
        self.mlp = nn.ModuleList(GatedMLP(dim, 2 * dim) for _ in range(depth))
        self.head = nn.Linear(2 * dim, classes)

    def forward(self, x):  # (T, B, 2, H, W), counts of events
        x = self.patches(x).flatten(3).transpose(2, 3)
        first = x
        for attention, mlp in zip(self.attention, self.mlp, strict=True):
            x = x + attention(x)
            x = x + mlp(x)
        x = torch.cat((x, first), dim=-1).mean(dim=2)
        return self.head(x)[-1]


def make():
    net = Former()
    functional.set_step_mode(net, "m")
    return net
