"""Damaged files by the thousand: whatever is in them, a command ends soon, in little memory, with a word of ours.

    PYTHONPATH=tests python -m fuzz --minutes 2

Kinds: NIR files, inputs, checkpoints, networks in integers, states of training (read, and resumed), curricula, audits,
the other files of a run folder, chunks, recordings of sound and of spikes (`trial.KINDS`). Small valid files (corpus)
are damaged where their formats have joints (damage), commands are run on them in child processes with limits (trial).
Faults are kept as files.
"""
