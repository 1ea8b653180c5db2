"""A NIR graph becomes a Program: flattened, checked, its taps grouped, its neurons resolved to coefficients."""
