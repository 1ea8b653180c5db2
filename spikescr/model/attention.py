"""Causal attention: every position attends to those up to its own, so that nothing waits for the end of a recording."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor
from torch.nn import functional

from spikescr.model.layers import Replaceable

CHUNK = 16
"""Steps that meet each other one by one; what came before them is summed up."""


class CausalProduct(Replaceable):
    """y[t] = q[t] A[t] with A[t] = sum over u <= t of k[u] v[u]^T, for each head (Katharopoulos et al., 2020, eq. 18).

    Products of spikes are integers and exact in whatever order they are taken.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def plain(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Products (T, B, N) for spikes q, k, v (T, B, N); N is heads * D.

        In chunks: within one the lower half of (Q K^T) V, and Q times what all chunks before it added to A.
        """
        steps = len(q)
        padding = (0, 0, 0, 0, 0, -steps % CHUNK)
        q, k, v = (
            rearrange(functional.pad(x, padding), "(n t) b (h d) -> b h n t d", t=CHUNK, h=self.heads)
            for x in (q, k, v)
        )
        added = k.transpose(-1, -2) @ v
        before = added.cumsum(2) - added
        y = (q @ k.transpose(-1, -2)).tril() @ v + q @ before
        return rearrange(y, "b h n t d -> (n t) b (h d)")[:steps]
