"""Every operation in NumPy, step by step: what a backend falls back to, and what Lava's models compute.

`make` gives the step of an operation; `evaluation` runs whole Programs by them, `backend` is a backend that implements
some operations of its own and takes these for the rest. Not the oracle: that is `tests/oracles`, which shares nothing.
"""
