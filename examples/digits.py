"""Trains a convolutional spiking network on handwritten digits, in plain SpikingJelly: nothing here knows spikescr.

    python examples/digits.py [--epochs 30] [--out digits]

The images, 8 x 8, are scikit-learn's; every fifth is kept for the test. Writes, in --out: weights.pt (the state), x.npy
and y.npy (test images and their classes). docs/own-network.md goes on from there.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn


class CSNN(nn.Module):
    """Like the network of SpikingJelly's conv_fashion_mnist: two convolutions, two linear layers, spikes as output."""

    def __init__(self, T=4, channels=16):
        super().__init__()
        self.T = T
        self.conv_fc = nn.Sequential(
            layer.Conv2d(1, channels, kernel_size=3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.MaxPool2d(2, 2),
            layer.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.MaxPool2d(2, 2),
            layer.Flatten(),
            layer.Linear(channels * 2 * 2, channels * 4, bias=False),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.Linear(channels * 4, 10, bias=False),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
        )
        functional.set_step_mode(self, "m")

    def forward(self, x):  # (B, 1, 8, 8)
        x_seq = x.unsqueeze(0).expand(self.T, -1, -1, -1, -1)
        return self.conv_fc(x_seq).mean(0)


def digits():
    """Images in [0, 1] and classes: of training, of the test."""
    data = load_digits()
    x = torch.tensor(data.images / 16, dtype=torch.float32).unsqueeze(1)
    y = torch.tensor(data.target)
    test = torch.arange(len(y)) % 5 == 0
    return x[~test], y[~test], x[test], y[test]


def accuracy(net, x, y):
    net.eval()
    with torch.no_grad():
        right = (net(x).argmax(1) == y).float().mean().item()
    functional.reset_net(net)
    return right


def train(net, x, y, epochs, batch=64):
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        net.train()
        for chosen in torch.randperm(len(y)).split(batch):
            loss = nn.functional.mse_loss(net(x[chosen]), nn.functional.one_hot(y[chosen], 10).float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            functional.reset_net(net)
        schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("digits"))
    options = parser.parse_args()
    torch.manual_seed(0)
    x, y, x_test, y_test = digits()
    net = CSNN()
    train(net, x, y, options.epochs)
    print(f"accuracy on {len(y_test)} test images: {100 * accuracy(net, x_test, y_test):.2f} %")
    options.out.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), options.out / "weights.pt")
    np.save(options.out / "x.npy", x_test.numpy())
    np.save(options.out / "y.npy", y_test.numpy())


if __name__ == "__main__":
    main()
