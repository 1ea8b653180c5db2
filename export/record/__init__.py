"""Recording: one forward pass of any module becomes a `StepNetwork`, what one step of one sample does."""
