"""Whether a Program fits a neuromorphic chip: limits, layers and what they need, placement, rules, estimates."""
