"""Compiled inner loops of the fast backend, a module for what each computes.

Signals are packed: sample b has rows for steps lo[b] to hi[b], step n in row base[b] + n - lo[b]; outside it is quiet.
An event list has for row r the channels idx[ptr[r]:ptr[r + 1]], and in cum, at the same places, the events counted
up to there (cum is ptr unless entries stand for several events; then `mult` says for how many). An absent operand is an
array of size 0 or, for taps, a list of no delays.

No kernel uses fastmath: the compiler must not reorder sums, or results would depend on the machine. Sums of indices in
inner loops are unsigned: a signed one could count from the end, and the check for that keeps loops from being
vectorised. Tuples are taken apart once: each use of a member would count references.
"""
