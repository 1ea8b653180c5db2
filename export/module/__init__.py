"""Lowering: a `StepNetwork` is folded and becomes a NIR graph."""
