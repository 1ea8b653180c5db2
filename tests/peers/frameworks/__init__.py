"""Graphs of other frameworks run by us and ours run by them, compared spike for spike.

`recorded` holds the traces that the NIR paper published, `snntorch_peer`, `norse_peer`, `spikingjelly_peer` what the
installed frameworks export, `ours` what they import. `comparison` runs and compares. The tests import the same.
"""
