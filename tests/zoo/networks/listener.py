"""A keyword spotter that goes through time in a loop, one step at a time, with a recurrent layer written by hand."""

import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import nn


class Listener(nn.Module):
    def __init__(self, inputs=20, hidden=32, classes=5):
        super().__init__()
        self.fc_in = nn.Linear(inputs, hidden)
        self.fc_rec = nn.Linear(hidden, hidden, bias=False)
        self.lif1 = neuron.LIFNode(tau=2.0, decay_input=False, surrogate_function=surrogate.Sigmoid())
        self.recurrent = layer.LinearRecurrentContainer(
            neuron.LIFNode(tau=4.0, v_threshold=0.8), in_features=hidden, out_features=hidden
        )
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x):  # (T, B, inputs)
        spikes = torch.zeros(x.shape[1], self.fc_rec.in_features, dtype=x.dtype, device=x.device)
        votes = 0
        for t in range(x.shape[0]):
            spikes = self.lif1(self.fc_in(x[t]) + self.fc_rec(spikes))
            hidden = self.recurrent(spikes)
            votes = votes + self.head(self.dropout(hidden))
        return votes / x.shape[0]


def make():
    return Listener()
