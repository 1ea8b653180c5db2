"""From a trained network to a NIR graph: folding, the dialect, the exporter."""
