"""The fast backend: whole windows at once, compiled inner loops, the same spikes and counts as Lava."""
