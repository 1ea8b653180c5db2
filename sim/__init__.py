"""The simulator: any supported NIR graph, executed and counted; knows nothing of SpikeSCR or torch."""
